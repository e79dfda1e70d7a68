"""Timeouts and limits of the server and the pool: the same errors as on the stock engine, and nothing lost."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.faults.databases import Database, in_threads, outcome
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.server import RestartableServer

CANCELED = "OperationalError from QueryCanceled"
NOT_AVAILABLE = "OperationalError from LockNotAvailable"
NO_CONNECTION = "OperationalError from PoolTimeout"


def backend(database: Database) -> int:
    """Return which backend of the server answers."""
    return int(database.query("SELECT pg_backend_pid()")[0][0])


def in_thread(work: Callable[[], Any]) -> Any:
    """Return what the work returns in a thread of its own."""
    result: list[Any] = []
    in_threads(1, lambda _: result.append(work()))
    return result[0]


@contextmanager
def held_elsewhere(database: Database, count: int = 1) -> Iterator[None]:
    """Hold so many connections in transactions of other threads."""
    begun, over = threading.Semaphore(0), threading.Event()

    def hold(_: int) -> None:
        try:
            with database.atomic():
                database.query("SELECT 1")
                begun.release()
                over.wait(30)
        finally:
            begun.release()

    holders = threading.Thread(target=in_threads, args=(count, hold))
    holders.start()
    try:
        for _ in range(count):
            assert begun.acquire(timeout=30)
        yield
    finally:
        over.set()
        holders.join()


@pytest.mark.parametrize("atomic", [False, True])
def test_statement_timeout(on_both: Any, atomic: bool) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        before = backend(database)
        database.connection.close()

        def work() -> None:
            with database.atomic() if atomic else ExitStack():
                database.query("SELECT pg_sleep(60)")

        seen = outcome(work), outcome(lambda: database.insert("a", 1))
        return *seen, in_thread(lambda: backend(database)) == before

    # The connection is as good as before, and is kept.
    assert on_both(scenario, OPTIONS={"options": "-c statement_timeout=100"}) == (CANCELED, "done", True)


@pytest.mark.parametrize("atomic", [False, True])
def test_lock_timeout(on_both: Any, server: RestartableServer, atomic: bool) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            with database.atomic() if atomic else ExitStack():
                database.insert("a", 1)

        with server.admin() as admin, admin.transaction():
            admin.execute("LOCK written")
            seen = outcome(work)
        return seen, outcome(work), database.query("SELECT work, part FROM written")

    expected = NOT_AVAILABLE, "done", [("a", 1)]
    assert on_both(scenario, OPTIONS={"options": "-c lock_timeout=100"}) == expected


def test_a_timeout_in_a_savepoint_leaves_the_transaction_usable(on_both: Any, server: RestartableServer) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def inner() -> None:
            with database.atomic():
                database.insert("a", 2)
                database.query("SELECT pg_sleep(60)")

        with database.atomic():
            database.insert("a", 1)
            with pytest.raises(Exception, match="statement timeout"):
                inner()
            database.insert("a", 3)
        return database.query("SELECT part FROM written ORDER BY part")

    assert on_both(scenario, OPTIONS={"options": "-c statement_timeout=100"}) == [(1,), (3,)]


def test_a_deadlock(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        database.insert("a", 0)
        database.insert("b", 0)
        database.connection.close()
        both_hold_one = threading.Barrier(2)
        seen: list[str] = []

        def lock(number: int) -> None:
            def work() -> None:
                with database.atomic():
                    for work in ("a", "b") if number else ("b", "a"):
                        database.query("UPDATE written SET part = part + 1 WHERE work = %s", [work])
                        if not both_hold_one.broken and work == ("a" if number else "b"):
                            both_hold_one.wait(30)

            seen.append(outcome(work))

        in_threads(2, lock)
        return sorted(seen), database.query("SELECT work, part FROM written ORDER BY work")

    expected = ["OperationalError from DeadlockDetected", "done"], [("a", 1), ("b", 1)]
    pool = {"max_size": 2, "min_size": 2}
    assert on_both(scenario, pool=pool, OPTIONS={"options": "-c deadlock_timeout=50"}) == expected


def test_an_exhausted_pool(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        with held_elsewhere(database, 2):
            seen = outcome(lambda: database.query("SELECT 1"))
            in_transaction = outcome(lambda: database.atomic().__enter__())
        return seen, in_transaction, outcome(lambda: database.query("SELECT 1"))

    pool = {"max_size": 2, "timeout": 0.2}
    assert on_both(scenario, pool=pool) == (NO_CONNECTION, NO_CONNECTION, "done")


def test_too_many_wait_for_the_pool(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        with held_elsewhere(database):
            seen: list[str] = []
            waiter = threading.Thread(target=lambda: seen.append(outcome(lambda: database.query("SELECT 1"))))
            waiter.start()
            until(lambda: database.pool._waiting, what="a waiting client")
            refused = outcome(lambda: database.query("SELECT 1"))
        waiter.join()
        return refused, *seen

    assert on_both(scenario, pool={"max_waiting": 1}) == ("OperationalError from TooManyRequests", "done")


@contextmanager
def full(server: RestartableServer) -> Iterator[None]:
    """Take every connection that the server still gives."""
    with ExitStack() as stack:

        def taken() -> bool:
            try:
                stack.enter_context(psycopg.connect(server.url))
            except psycopg.OperationalError as error:
                assert "too many clients" in str(error)  # noqa: PT017 - the loop ends with it
                return True
            return False

        while not taken():
            pass
        yield


def test_a_full_server_before_the_pool_has_a_connection(on_both: Any, server: RestartableServer) -> None:
    def scenario(database: Database) -> str:
        with full(server):
            seen = outcome(lambda: database.query("SELECT 1"))
        until(lambda: outcome(lambda: database.query("SELECT 1")) == "done", what="a connection")
        return seen

    assert on_both(scenario, pool={"timeout": 0.3}) == NO_CONNECTION


def test_a_full_server_while_the_pool_would_grow(on_both: Any, server: RestartableServer) -> None:
    def scenario(database: Database) -> list[str]:
        database.open_pool()
        seen: list[str] = []

        def read(_: int) -> None:
            seen.extend(outcome(lambda: database.query("SELECT 1")) for _ in range(20))

        with full(server):
            in_threads(6, read)  # on one connection
        until(lambda: not database.pool._growing, what="the end of the pool's attempts to grow")
        return sorted(set(seen))

    assert on_both(scenario, pool={"max_size": 4, "timeout": 20.0}) == ["done"]
