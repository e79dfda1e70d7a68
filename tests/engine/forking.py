"""Programs that fork: python -m tests.engine.forking NAME. They fail with a traceback, or say "well"."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import select
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import django

if TYPE_CHECKING:
    from collections.abc import Callable

DEADLINE = 30.0


def query(sql: str, *params: Any) -> Any:
    """Return the first value of the first row."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()[0]


def backend() -> int:
    """Return which backend of the server answers."""
    return int(query("SELECT pg_backend_pid()"))


def in_child(work: Callable[[], Any], *, leave: Callable[[int], Any] = os._exit) -> Any:
    """Return what the work returns in a forked child, which ends with `leave`."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        answer: dict[str, Any] = {"error": "the child fell out of its work"}
        try:
            answer = {"result": work()}
        except BaseException as error:
            answer = {"error": repr(error)}
        finally:
            os.write(write, json.dumps(answer).encode())
            os.close(write)
        leave(0)
    os.close(write)
    ready, _, _ = select.select([read], [], [], DEADLINE)
    if not ready:
        os.kill(child, 9)
    text = os.read(read, 65_536)
    os.close(read)
    _, status = os.waitpid(child, 0)
    assert ready, "the child is stuck"
    assert status == 0, status
    answer = json.loads(text)
    assert "error" not in answer, answer["error"]
    return answer["result"]


def tidy() -> None:
    """Do in the child all that could say good-bye on the parent's socket."""
    from django.db import connections

    connections.close_all()
    for connection in connections.all():
        connection.close_pool()
    gc.collect()


def while_idle() -> None:
    """The parent's connection is in its pool."""
    parent = backend()
    child, again = in_child(lambda: (backend(), backend()))
    assert child != parent
    assert child == again
    assert backend() == parent


def inside_atomic() -> None:
    """The child can't go on with the parent's transaction, and does not disturb it."""
    from django.db import DatabaseError, connection, transaction

    def work() -> int:
        try:
            with transaction.atomic():
                query("SELECT 1")
        except DatabaseError:
            pass
        else:
            raise AssertionError("the child queried in the parent's transaction")
        with suppress(DatabaseError):
            block.__exit__(None, None, None)
        pid = backend()
        assert not connection.in_atomic_block
        with transaction.atomic():
            assert query("SELECT count(*) FROM forked") == 0
        tidy()
        return pid

    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE forked (n int)")
    block = transaction.atomic()
    with block:
        parent = query("INSERT INTO forked VALUES (1) RETURNING pg_backend_pid()")
        assert in_child(work) != parent
        assert in_child(work, leave=sys.exit) != parent
        assert backend() == parent
        assert query("INSERT INTO forked VALUES (2) RETURNING n") == 2
    assert query("SELECT count(*) FROM forked") == 2
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE forked")


def with_a_server_side_cursor() -> None:
    """The parent reads on from its cursor, whatever the child does with it."""
    from django.db import Error, connection

    cursor = connection.chunked_cursor()
    cursor.itersize = 100
    cursor.execute("SELECT generate_series(1, 1000)")
    rows = cursor.fetchmany(10)

    def use() -> int:
        try:
            cursor.fetchmany(10)
        except Error:
            pass
        else:
            raise AssertionError("the child read from the parent's cursor")
        with suppress(Error):
            cursor.close()
        tidy()
        return backend()

    parent = connection.connection.info.backend_pid
    assert in_child(use) != parent
    assert in_child(lambda: tidy() or backend(), leave=sys.exit) != parent
    rows += cursor.fetchall()
    assert [n for (n,) in rows] == list(range(1, 1001))
    cursor.close()
    assert connection.connection is None
    assert backend() == parent


def while_held() -> None:
    """hold() and pins are of the parent's connection; the child holds one of its own."""
    from django.db import connection

    import pool_doctor

    with pool_doctor.hold():
        parent = backend()
        assert in_child(lambda: (tidy(), backend())[1]) != parent
        assert backend() == parent
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '77s'")
    assert in_child(lambda: (query("SHOW statement_timeout"), tidy())[0]) == "0"
    assert query("SHOW statement_timeout") == "77s"
    connection.close()


def while_another_thread_has_the_lock() -> None:
    """The lock of the pool is taken for ever in the child."""
    from django.db import connection

    parent = backend()
    taken, done = threading.Event(), threading.Event()

    def hold_the_lock() -> None:
        with connection.pool._lock:
            taken.set()
            done.wait(DEADLINE)

    thread = threading.Thread(target=hold_the_lock)
    thread.start()
    taken.wait(DEADLINE)
    try:
        assert in_child(lambda: (backend(), tidy())[0]) != parent
        assert in_child(backend, leave=sys.exit) != parent
    finally:
        done.set()
        thread.join()
    assert backend() == parent


def while_another_thread_holds() -> None:
    """A connection that is out in another thread is not given back by the child, where that thread is no more."""
    from django.db import connection, transaction

    begun, done = threading.Event(), threading.Event()
    pids: list[int] = []

    def hold() -> None:
        with transaction.atomic():
            pids.append(backend())
            begun.set()
            done.wait(DEADLINE)
            pids.append(backend())
        connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait(DEADLINE)
    children = [in_child(lambda: (gc.collect(), tidy(), backend())[2], leave=leave) for leave in (os._exit, sys.exit)]
    done.set()
    thread.join()
    assert len(pids) == 2, "the thread's transaction broke"
    assert pids[0] == pids[1]
    assert pids[0] not in children


def by_multiprocessing() -> None:
    """A pool of forked processes, each with a connection of its own."""
    from django.db import transaction

    context = multiprocessing.get_context("fork")
    parent = backend()
    with transaction.atomic():
        held = backend()
        with context.Pool(3) as processes:
            children = processes.map(_backend_in_a_worker, range(12))
        assert backend() == held
    assert parent not in children
    assert held not in children
    assert backend() == parent


def _backend_in_a_worker(number: int) -> int:
    from django.db import connection

    connection.close()  # of the transaction that the parent was in
    connection.in_atomic_block = False
    return backend()


def after_a_fork_threads_end() -> None:
    """The child gives back what its own threads leave behind."""
    from django.db import connection

    def work() -> bool:
        thread = threading.Thread(target=lambda: connection.ensure_connection())
        thread.start()
        thread.join()
        gc.collect()
        pool = connection.pool
        deadline = threading.Event()
        for _ in range(1000):
            if pool._nconns == len(pool._pool):
                return True
            deadline.wait(0.02)
        return False

    backend()
    assert in_child(work)


def after_a_drop() -> None:
    """The parent has dropped its connection without close(); the child leaves that to the parent too."""
    from django.db import connection

    connection.ensure_connection()
    dropped, connection.connection = connection.connection, None
    child = in_child(lambda: (backend(), tidy())[0])
    assert dropped.execute("SELECT pg_backend_pid()").fetchone()[0] != child


PROGRAMS = {
    function.__name__: function
    for function in (
        while_idle,
        inside_atomic,
        with_a_server_side_cursor,
        while_held,
        while_another_thread_has_the_lock,
        while_another_thread_holds,
        by_multiprocessing,
        after_a_fork_threads_end,
        after_a_drop,
    )
}

if __name__ == "__main__":
    django.setup()
    PROGRAMS[sys.argv[1]]()
    print("well")
