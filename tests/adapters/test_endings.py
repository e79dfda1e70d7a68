"""Connections that nobody closes: threads that end, wrappers that are collected, processes that fork."""

from __future__ import annotations

import gc
import os
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.work import begin, end, scope
from tests.adapters.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.conftest import Recording


def query(connection: Any) -> None:
    """Run a query in a cursor of its own."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def in_thread(work: Callable[[], None], name: str) -> None:
    """Do the work in a thread of that name, to its end."""
    thread = threading.Thread(target=work, name=name)
    thread.start()
    thread.join()


def test_a_thread_that_never_closes_keeps_its_pools_connection(
    global_alias: Callable[..., None], recording: Recording
) -> None:
    global_alias(pool={"min_size": 1, "max_size": 2})
    in_thread(lambda: query(connections[ALIAS]), "stock-counter_7")
    gc.collect()
    found = recording.alias()
    (held,) = found.open
    assert found.in_use == 1
    assert held.scope == "thread stock-counter"
    assert held.site.startswith("tests/adapters/test_endings.py:")
    assert held.idle_for > 0


@pytest.mark.parametrize("age", [0, None])
@pytest.mark.filterwarnings("ignore:.*deleted while still open:ResourceWarning")
def test_without_a_pool_a_connection_ends_with_its_thread(
    age: int | None, global_alias: Callable[..., None], recording: Recording
) -> None:
    global_alias(CONN_MAX_AGE=age)
    in_thread(lambda: query(connections[ALIAS]), "stock-counter_7")
    gc.collect()
    found = recording.alias()
    assert (found.checkouts, found.in_use, found.size, found.open) == (1, 0, 0, [])
    assert found.scopes["thread stock-counter"].queries == 1


def test_threads_and_blocks_name_their_work(global_alias: Callable[..., None], recording: Recording) -> None:
    global_alias(pool={"min_size": 1, "max_size": 2})

    def plain() -> None:
        query(connections[ALIAS])
        connections[ALIAS].close()

    @scope("nightly import")
    def named() -> None:
        plain()
        with scope("one file"):
            plain()

    in_thread(plain, "Thread-12 (send_mails)")
    in_thread(plain, "ThreadPoolExecutor-0_3")
    in_thread(named, "cron")
    plain()
    found = recording.alias()
    runs = {name: (totals.requests, totals.checkouts) for name, totals in found.scopes.items()}
    assert runs == {
        "thread send_mails": (1, 1),
        "thread ThreadPoolExecutor": (1, 1),
        "nightly import": (1, 1),
        "one file": (1, 1),
        "process": (1, 1),
    }


def in_child(work: Callable[[], None]) -> None:
    """Do the work in a forked child, and fail where it fails."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("pool", [{"min_size": 1, "max_size": 3}, None], ids=["pool", "no pool"])
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")  # to fork with a pool's threads is the point
def test_a_forked_child_writes_nothing_about_its_parents_connections(
    pool: Any, connect: Callable[..., Any], global_alias: Callable[..., None], recording: Recording
) -> None:
    global_alias(pool=pool)
    connection = connect(pool=pool)
    held = begin("the work", "block")
    query(connection)
    entered, leave = threading.Event(), threading.Event()

    def elsewhere() -> None:
        query(connections[ALIAS])
        entered.set()
        leave.wait(20)
        connections[ALIAS].close()

    other = threading.Thread(target=elsewhere, daemon=True)
    other.start()
    assert entered.wait(20)
    cursor = connection.cursor()
    before = recording.process()

    def child() -> None:
        nonlocal connection, cursor
        assert connection._checkout is None
        end(held)
        connection.connection = None
        del cursor
        gc.collect()
        with scope("the child"):
            own = connect(pool=None)
            query(own)
            own.close()

    in_child(child)
    found = {process.pid: process for process in read_directory(recording.directory).processes}
    parent = found.pop(os.getpid())
    for name in ("in_use", "size", "checkouts", "hold", "needed", "scopes"):
        assert getattr(parent.aliases[ALIAS], name) == getattr(before.aliases[ALIAS], name), name
    assert parent.aliases[ALIAS].in_use == 2
    assert parent.alive
    (born,) = found.values()
    assert not born.alive
    assert born.aliases[ALIAS].checkouts == 1
    assert born.aliases[ALIAS].scopes["the child"].queries == 1
    assert "the work" not in born.aliases[ALIAS].scopes
    leave.set()
    other.join()
    cursor.close()
    end(held)
    connection.close()
    ended = recording_of(recording, os.getpid())
    assert ended.in_use == 0
    assert pool is not None or ended.size == 0


def recording_of(recording: Recording, pid: int) -> Any:
    """Return what one process recorded of the database."""
    return next(p for p in read_directory(recording.directory).processes if p.pid == pid).aliases[ALIAS]


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_goes_on_with_its_parents_connection_counts_it_as_its_own(
    pooled: Any, recording: Recording
) -> None:
    query(pooled)
    asked = time.time()

    def child() -> None:
        with scope("the child"):
            query(pooled)

    in_child(child)
    found = {process.pid: process for process in read_directory(recording.directory).processes}
    assert found.pop(os.getpid()).aliases[ALIAS].checkouts == 1
    (born,) = found.values()
    assert born.started_at >= asked - 0.01
    assert born.aliases[ALIAS].checkouts == 1
    assert born.aliases[ALIAS].scopes["the child"].queries == 1
