"""Threads that end while they hold a connection, where nothing starts the garbage collector."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from tests.faults.databases import RELEASING, Database, database
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.server import RestartableServer


@pytest.fixture
def used(server: RestartableServer, django_db_blocker: Any) -> Iterator[Database]:
    """A database with one connection, and no collector to give it back."""
    gc.disable()
    pool = {"min_size": 1, "max_size": 1, "timeout": 20.0}
    with django_db_blocker.unblock(), database("ended", server.url, RELEASING, pool=pool) as used:
        yield used
    gc.enable()


def in_manual_transaction(database: Database) -> None:
    """Write, and neither commit nor roll back."""
    database.connection.set_autocommit(False)
    database.insert("a", 1)


def pinned(database: Database) -> None:
    """Change the session."""
    database.query("SET search_path TO nowhere")


def in_atomic(database: Database) -> None:
    """Enter a block and never leave it."""
    database.atomic().__enter__()
    database.insert("a", 1)


def with_open_cursor(database: Database) -> None:
    """Keep a cursor in a cycle."""
    cursor: Any = database.connection.cursor()
    cursor.execute("SELECT 1")
    cycle: list[Any] = [cursor]
    cycle.append(cycle)


@pytest.mark.parametrize("work", [in_manual_transaction, pinned, in_atomic, with_open_cursor])
def test_the_connection_goes_back_at_once(used: Database, work: Callable[[Database], None]) -> None:
    thread = threading.Thread(target=work, args=(used,))
    thread.start()
    thread.join()
    until(used.is_whole, what=f"a whole pool: {used.state()}")
    assert used.query("SELECT count(*) FROM written") == [(0,)]
    assert used.query("SHOW search_path") == [('"$user", public',)]
    used.check_whole()


def test_what_another_thread_shares_stays(used: Database) -> None:
    shared: list[Any] = []

    def work() -> None:
        in_atomic(used)
        used.connection.inc_thread_sharing()
        shared.append(used.connection)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    (wrapper,) = shared
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM written")
        assert cursor.fetchone() == (1,)
    wrapper.in_atomic_block = False
    wrapper.close()
    wrapper.dec_thread_sharing()
    assert connections[used.alias] is not wrapper
    used.check_whole()
