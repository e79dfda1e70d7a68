"""Cursors: the connection goes back with the last one, whoever closed it and however."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from psycopg import sql

from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.engine.conftest import Database


def test_a_query_gives_its_connection_back(db1: Database) -> None:
    db1.query()
    assert not db1.held
    assert db1.in_use == 0
    assert db1.in_thread(db1.pid) == db1.pid()


def test_a_query_that_fails_gives_it_back(db1: Database) -> None:
    with pytest.raises(DatabaseError):
        db1.query("SELECT no_such_column")
    assert db1.in_use == 0
    db1.query()


def test_a_cursor_that_only_opens_gives_it_back(db1: Database) -> None:
    with db1.connection.cursor():
        assert db1.in_use == 1
    assert db1.in_use == 0


def test_interleaved_cursors_share_a_connection_until_the_last_is_closed(db2: Database) -> None:
    first = db2.connection.cursor()
    first.execute("SELECT generate_series(1, 3)")
    assert first.fetchone() == (1,)
    second = db2.connection.cursor()
    second.execute("SELECT pg_backend_pid()")
    pid = second.fetchone()
    second.close()
    assert db2.in_use == 1
    assert first.fetchall() == [(2,), (3,)]
    first.execute("SELECT pg_backend_pid()")
    assert first.fetchone() == pid
    first.close()
    assert db2.in_use == 0


def test_the_first_of_two_cursors_may_be_closed_first(db1: Database) -> None:
    first, second = db1.connection.cursor(), db1.connection.cursor()
    first.close()
    second.execute("SELECT 5")
    assert second.fetchone() == (5,)
    assert db1.in_use == 1
    second.close()
    assert db1.in_use == 0


def test_closing_twice_counts_once(db1: Database) -> None:
    first, second = db1.connection.cursor(), db1.connection.cursor()
    first.close()
    first.close()
    assert db1.in_use == 1
    second.execute("SELECT 5")
    second.close()
    assert db1.in_use == 0
    third = db1.connection.cursor()
    second.close()
    assert db1.in_use == 1
    third.close()


def test_a_leaked_cursor_counts_as_closed_at_the_next_use(db1: Database) -> None:
    db1.connection.cursor().execute("SELECT 1")
    gc.collect()
    assert db1.in_use == 1, "nothing may happen in the collector"
    db1.query()
    assert db1.in_use == 0


def test_a_leaked_cursor_does_not_outlast_its_transaction(db1: Database) -> None:
    with transaction.atomic(using=ALIAS):
        db1.connection.cursor().execute("SELECT 1")
        gc.collect()
    assert db1.in_use == 0


def test_a_cursor_that_is_still_referred_to_is_open(db1: Database) -> None:
    cursor = db1.connection.cursor()
    cursor.execute("SELECT generate_series(1, 2)")
    gc.collect()
    db1.query()
    assert cursor.fetchall() == [(1,), (2,)]
    assert db1.in_use == 1
    cursor.close()
    assert db1.in_use == 0


def test_a_cursor_closed_under_its_wrapper_counts_as_closed_at_the_next_use(db1: Database) -> None:
    cursor = db1.connection.cursor()
    cursor.cursor.close()
    db1.query()
    assert db1.in_use == 0


def test_a_raw_cursor_keeps_the_connection(db1: Database) -> None:
    raw = db1.connection.cursor().cursor
    raw.execute("SELECT generate_series(1, 2)")
    db1.query()
    assert raw.fetchall() == [(1,), (2,)]
    assert db1.in_use == 1
    raw.close()
    db1.query()
    assert db1.in_use == 0


def test_a_cursor_after_close_is_of_no_consequence(db1: Database) -> None:
    cursor = db1.connection.cursor()
    db1.connection.close()
    assert db1.in_use == 0
    with db1.connection.cursor() as other:
        cursor.close()
        assert db1.in_use == 1
        other.execute("SELECT 1")
    assert db1.in_use == 0


def test_the_collector_closes_no_connection(db1: Database) -> None:
    """A cursor that is closed by a finalizer in the collector may run while this thread has the pool's lock."""

    class Ring:
        def __init__(self) -> None:
            self.ring = self
            self.rows = rows(db1.connection)
            next(self.rows)

    Ring()
    assert db1.in_use == 1
    with db1.pool._lock:
        gc.collect()
    assert db1.in_use == 1
    db1.query()
    assert db1.in_use == 0


def test_the_collector_ends_no_hold(db1: Database) -> None:
    import pool_doctor

    def held() -> Iterator[None]:
        with pool_doctor.hold(ALIAS):
            yield

    class Ring:
        def __init__(self) -> None:
            self.ring = self
            self.held = held()
            next(self.held)
            db1.query()

    Ring()
    with db1.pool._lock:
        gc.collect()
    assert db1.in_use == 1
    db1.query()
    assert db1.in_use == 0


def rows(connection: Any) -> Iterator[Any]:
    """Yield rows from a cursor, as Django's cursor_iter() does."""
    cursor = connection.cursor()
    try:
        cursor.execute("SELECT generate_series(1, 3)")
        yield from cursor
    finally:
        cursor.close()


def test_a_generator_abandoned_half_way_gives_it_back(db1: Database) -> None:
    generator = rows(db1.connection)
    assert next(generator) == (1,)
    assert db1.in_use == 1
    del generator
    assert db1.in_use == 0


def test_cursors_are_what_they_are_on_the_stock_engine(db1: Database) -> None:
    connection = db1.connection
    with connection.cursor() as cursor:
        assert isinstance(cursor, CursorWrapper)
        assert not isinstance(cursor, CursorDebugWrapper)
        assert type(cursor).__name__ == "CursorWrapper"
        again = cursor.__class__(cursor.cursor, connection)
        again.execute("SELECT 1")
    connection.force_debug_cursor = True
    with connection.cursor() as cursor:
        assert isinstance(cursor, CursorDebugWrapper)


def test_a_class_over_the_cursors_class_counts_too(db1: Database) -> None:
    """As debug toolbar's SQL panel makes one, with a state of its own."""
    cursor = db1.connection.cursor()

    class Patched(cursor.__class__):  # type: ignore[name-defined]
        def execute(self, *args: Any) -> Any:
            return super().execute(*args)

    patched = Patched(cursor.cursor, db1.connection)
    del cursor
    with patched:
        patched.execute("SELECT 1")
        assert db1.in_use == 1
    assert db1.in_use == 0


def test_cursors_take_what_psycopg_takes(db1: Database) -> None:
    statement = sql.SQL("SELECT {}").format(sql.Literal(7))
    with db1.connection.cursor() as cursor:
        assert cursor.execute(statement).fetchone() == (7,)
        assert cursor.execute(b"SELECT 8").fetchone() == (8,)
        cursor.executemany(sql.SQL("SELECT %s"), [[1], [2]])
        assert cursor.execute("SELECT %(n)s", {"n": 9}).fetchone() == (9,)
        assert cursor.callproc("abs", [-3]) == [-3]
        assert cursor.fetchone() == (3,)
    assert db1.in_use == 0


def test_a_foreign_thread_holds_nothing(db1: Database) -> None:
    connection = db1.connection
    db1.query()

    def use() -> None:
        with pytest.raises(DatabaseError, match="can only be used in that same thread"):
            connection.cursor()

    db1.in_thread(use)
    assert db1.in_use == 0


@contextmanager
def _refused() -> Iterator[None]:
    def refuse(*args: Any) -> Any:
        raise ValueError("no cursor today")

    connection = connections[ALIAS]
    connection.make_cursor = refuse
    try:
        with pytest.raises(ValueError, match="no cursor today"):
            yield
    finally:
        del connection.make_cursor


def test_a_cursor_that_cannot_be_made_holds_nothing(db1: Database) -> None:
    with _refused():
        db1.connection.cursor()
    assert db1.in_use == 0
    db1.query()
    with _refused():
        db1.connection.cursor()
    assert db1.in_use == 0
