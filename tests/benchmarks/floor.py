"""The least that observing and releasing can cost in Python: what bench_release sets our engines beside.

Not for use. One thread and one alias, no transactions, no failures, no scopes, no pins, no signals, no fork: only the
steps that nothing which does the work can leave out, each written as short as it can be. They change Django's own
engine in place.
"""

from __future__ import annotations

import itertools
import mmap
import struct
import sys
import weakref
from pathlib import Path
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

import django
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.utils import CursorWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS, EVENT_BYTES = 65_536, 80
IN_USE, IDLE_SINCE, ROW, HISTOGRAM, RING = 1, 2, 8, 16, 8192  # words, and where the ring begins (bytes)

memory = mmap.mmap(-1, RING + EVENTS * EVENT_BYTES)
cells = memoryview(memory).cast("Q")
claim = itertools.count(1).__next__
write_event = struct.Struct("=QIHHII4xqqqqqqI").pack_into
write_row = struct.Struct("=8Q").pack_into
harmless: set[Any] = set()
lines: dict[tuple[str, int], int] = {}
plumbing = {str(file) for part in ("db", "utils") for file in Path(django.__file__).with_name(part).rglob("*.py")}
execute: Callable[..., Any] = CursorWrapper._execute


class State:
    """What is known of the one connection."""

    __slots__ = ("asked", "cursor", "line", "needed", "queries", "query_time", "segments", "since")

    def __init__(self) -> None:
        self.needed = self.queries = self.query_time = self.since = self.asked = self.line = 0
        self.segments: tuple[int, ...] = ()
        self.cursor: Any = None


state = State()


class TimedCursor(CursorWrapper):
    """Looks at the text of a query, counts it, and takes its time."""

    def _execute(self, sql: Any, params: Any, many: Any = False, context: Any = None) -> Any:
        if sql not in harmless:
            harmless.add(sql)
        cells[IDLE_SINCE] = 0
        started = monotonic_ns()
        try:
            return execute(self, sql, params, many, context)
        finally:
            now = monotonic_ns()
            cells[IDLE_SINCE] = now
            state.queries += 1
            state.query_time += now - started


class FollowedCursor(TimedCursor):
    """Notes when the connection was needed, three times to an event."""

    def close(self) -> None:
        """Close the cursor."""
        cursor, db = self.cursor, self.db
        cursor.close()
        if state.cursor() is cursor and not db.in_atomic_block and not db.connection.pgconn.transaction_status:
            since = state.since
            lasted = monotonic_ns() - since
            state.needed += lasted
            state.segments += (since, lasted)
            if len(state.segments) == 6:
                number = claim()
                at = RING + number % EVENTS * EVENT_BYTES
                write_event(memory, at, number, 1, 1, 1, 1, 3, *state.segments, number)
                state.segments = ()


def follow() -> None:
    """Follow queries on a connection that is held."""

    def make_cursor(self: DatabaseWrapper, cursor: Any) -> FollowedCursor:
        state.cursor = weakref.ref(cursor)
        state.since = monotonic_ns()
        return FollowedCursor(cursor, self)

    DatabaseWrapper.make_cursor = make_cursor


class ReleasingCursor(CursorWrapper):
    """Gives the connection back."""

    def close(self) -> None:
        """Close the cursor."""
        self.cursor.close()
        db = self.db
        connection, db.connection = db.connection, None
        give(connection)


class RecordingCursor(TimedCursor):
    """Gives the connection back, and notes the checkout."""

    def close(self) -> None:
        """Close the cursor."""
        self.cursor.close()
        db = self.db
        connection, db.connection = db.connection, None
        now = monotonic_ns()
        wait, hold = state.since - state.asked, now - state.since
        cells[IN_USE] -= 1
        cells[ROW] = 0
        cells[HISTOGRAM + hold.bit_length()] += 1
        number = claim()
        at = RING + number % EVENTS * EVENT_BYTES
        write_event(
            memory, at, number, 1, 1, state.line, 1, 1, state.asked, wait, hold, hold, state.query_time, 0, number
        )
        give(connection)


def take_from(pool: Any) -> Any:
    """Return the idle connection that came back last."""
    with pool._lock:
        connection = pool._pool.pop()
        connection._pool = pool
    return connection


def give(connection: Any) -> None:
    """Give a connection back that is in no transaction."""
    pool = connection._pool
    if not connection.pgconn.transaction_status:
        with pool._lock:
            connection._pool = None
            pool._pool.append(connection)


def line_of_call(depth: int) -> int:
    """Return the number of the first line above the plumbing."""
    frame = sys._getframe(depth)
    while frame.f_back is not None and frame.f_code.co_filename in plumbing:
        frame = frame.f_back
    return lines.setdefault((frame.f_code.co_filename, frame.f_lasti), len(lines))


def release(*, record: bool) -> None:
    """Give the connection back after each query; the one returned last comes first, as in our engine."""
    stock_cursor: Callable[..., Any] = DatabaseWrapper._cursor
    cursor_class = RecordingCursor if record else ReleasingCursor

    def take(self: DatabaseWrapper, name: Any = None) -> Any:
        if self.connection is None and self.alias in self._connection_pools:
            pool = self._connection_pools[self.alias]
            if record:
                state.asked = monotonic_ns()
                self.connection = take_from(pool)
                state.since = since = monotonic_ns()
                state.query_time = 0
                cells[IN_USE] += 1
                state.line = line = line_of_call(2)
                write_row(memory, ROW * 8, since, 0, 1, line, since, 0, 0, since)
            else:
                self.connection = take_from(pool)
        return stock_cursor(self, name)

    def make_cursor(self: DatabaseWrapper, cursor: Any) -> CursorWrapper:
        return cursor_class(cursor, self)

    DatabaseWrapper._cursor = take
    DatabaseWrapper.make_cursor = make_cursor
