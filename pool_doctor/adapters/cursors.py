"""Cursors that tell their wrapper when they run a query and when they are closed."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper
from psycopg import ServerCursor
from psycopg.sql import Composable

from pool_doctor.adapters import session
from pool_doctor.adapters.abandoned import collector
from pool_doctor.recording.layout import OPEN_IDLE_SINCE
from pool_doctor.recording.recorder import recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pool_doctor.adapters._django import CursorWrapper as _Base
    from pool_doctor.adapters.lifecycle import LifecycleMixin
else:
    _Base = CursorWrapper


class FollowedCursor(_Base):
    """Mixed in before the class of each cursor wrapper. All state is elsewhere, so that it can be wrapped anew."""

    db: LifecycleMixin
    inherited_execute: Callable[..., Any]
    """_execute() of the class that this is mixed in before; super() would take twice as long to find it."""

    def close(self) -> None:
        """Close the cursor."""
        cursor = self.cursor
        db = self.db
        known = db._open_cursors  # noqa: SLF001 - two halves of one thing
        try:
            cursor.close()
        finally:
            if collector.thread and collector.runs_here():
                pass  # it counts as closed from the next use on
            # The only open cursor, as most are: what cursor_closed() does, without the call.
            elif len(known) == 1 and known[0]() is cursor:
                known.clear()
                db._check_need()  # noqa: SLF001
            elif known:
                db.cursor_closed(cursor)

    # Django's own method ignores all but two arguments. To pass on what may follow the four that it gives is dear.
    def _execute(self, sql: Any, params: Any, many: Any = False, context: Any = None, *_ignored: Any) -> Any:
        try:
            if sql not in session.harmless:
                self._look_at(sql)
        except TypeError:  # composed SQL can't be looked up
            self._look_at(sql)
        checkout = self.db._checkout  # noqa: SLF001
        if checkout is None:
            return self.inherited_execute(sql, params, many, context)
        # query_started() and query_ended(), written out: nothing runs more often.
        ring = checkout.ring
        idle = checkout.row + OPEN_IDLE_SINCE
        try:
            ring.cells[idle] = 0
        except Exception:
            recorder.failed()
        started = monotonic_ns()
        try:
            return self.inherited_execute(sql, params, many, context)
        finally:
            now = monotonic_ns()
            checkout.queries += 1
            checkout.query_time += now - started
            try:
                ring.cells[idle] = now
                if checkout.scope.collector is not None:
                    checkout.scope.collector.query(checkout, started, now, sql, self.db.in_transaction())
            except Exception:
                recorder.failed()

    def _look_at(self, sql: Any) -> None:
        # Before it runs: a statement that fails may have taken its lock.
        try:
            kind = session.outlives(_text(sql, self.cursor))
        except Exception:
            recorder.failed()
            return
        pin = getattr(self.db, "pin", None)
        if kind and pin is not None:  # None once the engine is not observed any more
            pin(kind)

    def _executemany(self, sql: Any, param_list: Any, *ignored: Any) -> Any:
        self._look_at(sql)
        with self._as_query(sql):
            return super()._executemany(sql, param_list, *ignored)

    def callproc(self, procname: Any, *args: Any, **kwargs: Any) -> Any:
        """Call a function of the database, as Django's cursor does."""
        self._look_at(f"{_text(procname, self.cursor)}(")
        with self._as_query():
            return super().callproc(procname, *args, **kwargs)

    def copy(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
        """Run a COPY, as psycopg's cursor does; it is one query that lasts as long as the block."""
        return self._during(getattr(super(), "copy", self.cursor.copy)(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Stream rows, as psycopg's cursor does; it is one query that lasts until the last row."""
        rows = self.cursor.stream(*args, **kwargs)
        self._look_at(args[0] if args else kwargs["query"])
        return self._until_the_end(rows)

    @contextmanager
    def _during(self, copy: AbstractContextManager[Any]) -> Iterator[Any]:
        with self._as_query(), copy as entered:
            yield entered

    def _until_the_end(self, rows: Iterator[Any]) -> Iterator[Any]:
        with self._as_query():
            yield from rows

    @contextmanager
    def _as_query(self, sql: object = None, count: int = 1) -> Iterator[None]:
        # Not `_query`, which Django's last_executed_query() looks up on the wrapper and means psycopg's.
        checkout = self.db._checkout  # noqa: SLF001
        started = 0
        try:
            if checkout is not None:
                started = checkout.query_started()
        except Exception:
            recorder.failed()
        try:
            yield
        finally:
            try:
                if checkout is not None and started:
                    heard = checkout.scope.collector is not None
                    checkout.query_ended(started, count, sql, heard and self.db.in_transaction())
            except Exception:
                recorder.failed()


class FollowedServerCursor(FollowedCursor):
    """A cursor on the server: each fetch asks the server, so it is time in which a query runs."""

    def _fetch(self, fetch: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._as_query(count=0), self.db.wrap_database_errors:
            return fetch(*args, **kwargs)

    def fetchone(self) -> Any:
        """Fetch the next row."""
        return self._fetch(self.cursor.fetchone)

    def fetchmany(self, *args: Any, **kwargs: Any) -> Any:
        """Fetch the next rows."""
        return self._fetch(self.cursor.fetchmany, *args, **kwargs)

    def fetchall(self) -> Any:
        """Fetch all rows that are left."""
        return self._fetch(self.cursor.fetchall)


def _text(sql: Any, cursor: Any) -> str:
    if isinstance(sql, Composable):
        return sql.as_string(cursor)
    return sql.decode(errors="replace") if isinstance(sql, bytes) else str(sql)


followed: dict[tuple[type, type], type] = {}
"""The followed class for each kind of wrapper around each kind of psycopg cursor."""


def follow(wrapped: type, cursor: type) -> type:
    """Return the followed class for a kind of wrapper around a kind of psycopg cursor, and remember it."""
    result = wrapped
    if issubclass(wrapped, _Base) and not issubclass(wrapped, FollowedCursor):
        mixin = FollowedServerCursor if issubclass(cursor, ServerCursor) else FollowedCursor
        members = {"__doc__": wrapped.__doc__, "inherited_execute": wrapped._execute}  # noqa: SLF001
        result = type(wrapped.__name__, (mixin, wrapped), members)
    return followed.setdefault((wrapped, cursor), result)
