"""The lifecycle of a Django connection: when it is asked for, there, needed, not needed, and given back.

A connection is needed while a cursor on it is open or a transaction is open on the server. This mixin follows that
one interval. What it is mixed into decides what the end of the need means: an observed engine records it, a releasing
engine gives the connection back.
"""

from __future__ import annotations

import os
import weakref
from contextlib import AbstractContextManager, contextmanager
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from django.db.backends.utils import CursorWrapper
from psycopg import ServerCursor

from pool_doctor.adapters import pools
from pool_doctor.recording import layout
from pool_doctor.recording.checkout import OwnConnection
from pool_doctor.recording.recorder import recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from django.db.backends.postgresql.base import DatabaseWrapper as _Base

    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
else:
    _Base = object

# libpq's transaction status: ACTIVE, INTRANS and INERROR lie between IDLE (0) and UNKNOWN (4, a broken connection).
_IDLE, _UNKNOWN = 0, 4

# How many frames above site_of_call() the caller is at least: get_new_connection(), connect() and async_unsafe's inner
# function lie between; or _adopt(), _begin_need() and its caller.
_ABOVE_CONNECT = 4
_ABOVE_ADOPT = 4

_wrappers: weakref.WeakSet[LifecycleMixin] = weakref.WeakSet()


class LifecycleMixin(_Base):
    """Follows one wrapper's connection. Mix it in before a PostgreSQL DatabaseWrapper."""

    _channel: Channel | None = None
    _checkout: Checkout | None = None
    _own_connection: OwnConnection | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start_following()

    def start_following(self) -> None:
        """Begin with no open cursor known; for a wrapper that was made before it was observed, call this once."""
        self._open_cursors: list[weakref.ref[Any]] = []
        _wrappers.add(self)

    def stop_following(self) -> None:
        """End the checkout as far as it got; the connection stays as it is."""
        if self._checkout is not None:
            self._end_checkout(self._checkout, None)
        self.forget_checkout()
        _wrappers.discard(self)

    def forget_checkout(self) -> None:
        """Know nothing of what went before: recording begins anew, or this is a forked child."""
        self._channel = None
        self._checkout = None
        self._own_connection = None
        self._open_cursors = []

    # Asked for, there, given back.

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        channel = self._channel or self._find_channel()
        if channel is None:
            return super().get_new_connection(conn_params)
        asked = 0
        try:
            if self._checkout is not None:  # its connection was dropped without close()
                self._end_checkout(self._checkout, None)
            asked = channel.ask()
        except Exception:
            recorder.failed()
        if not asked:
            return super().get_new_connection(conn_params)
        try:
            connection = super().get_new_connection(conn_params)
        except BaseException as error:
            self._note_failure(channel, asked, error)
            raise
        try:
            self._checkout = channel.got(asked, channel.ring.site_of_call(_ABOVE_CONNECT))
            if channel.description.pool is None:
                self._own_connection = OwnConnection(channel)
        except Exception:
            recorder.failed()
        return connection

    def _close(self) -> None:
        checkout = self._checkout
        if checkout is None:
            super()._close()
            return
        pool = getattr(self.connection, "_pool", None)
        try:
            super()._close()
        finally:
            self._own_connection = None
            self._end_checkout(checkout, pool)

    def _find_channel(self) -> Channel | None:
        try:
            description = pools.describe(self)
            if description is not None:
                self._channel = recorder.channel(description)
        except Exception:
            recorder.failed()
        return self._channel

    def _note_failure(self, channel: Channel, asked: int, error: BaseException) -> None:
        try:
            outcome = layout.TIMEOUT if pools.is_pool_timeout(error) else layout.ERROR
            channel.failed(asked, channel.ring.site_of_call(_ABOVE_CONNECT + 1), outcome)
            pool = pools.existing_pool(self)
            if pool is not None:
                channel.sized(*pools.gauge(pool))
        except Exception:
            recorder.failed()

    def _end_checkout(self, checkout: Checkout, pool: Any) -> None:
        self._checkout = None
        self._open_cursors.clear()
        try:
            if pool is None:
                checkout.returned()
            else:
                checkout.returned(*pools.gauge(pool))
        except Exception:
            recorder.failed()

    # Needed, not needed.

    def _prepare_cursor(self, cursor: Any) -> CursorWrapper:
        wrapped = super()._prepare_cursor(cursor)
        try:
            self._begin_need()
            self._open_cursors.append(weakref.ref(cursor))
            kinds = type(wrapped), type(cursor)
            followed = _followed.get(kinds) or _follow(*kinds)
            if followed is not kinds[0]:
                wrapped.__class__ = followed
        except Exception:
            recorder.failed()
        return wrapped

    def _commit(self) -> None:
        self._end_transaction(super()._commit)

    def _rollback(self) -> None:
        self._end_transaction(super()._rollback)

    def _end_transaction(self, end: Any) -> None:
        checkout = self._checkout
        started = monotonic_ns()
        try:
            end()
        finally:
            try:
                if checkout is not None:
                    checkout.transaction_ended(started)
                self._check_need()
            except Exception:
                recorder.failed()

    def _begin_need(self) -> None:
        checkout = self._checkout
        if checkout is None or checkout.closed:
            checkout = self._adopt()
        if checkout is not None and not checkout.needed_since:
            checkout.needed_since = monotonic_ns()

    def _adopt(self) -> Checkout | None:
        """Begin a checkout for a connection that is there already: its last one ended with its scope."""
        channel = self._channel or self._find_channel()
        if channel is None or self.connection is None:
            return None
        self._checkout = channel.got(channel.ask(), channel.ring.site_of_call(_ABOVE_ADOPT))
        return self._checkout

    def cursor_closed(self, cursor: Any) -> None:
        """Note that a cursor was closed; the second time counts for nothing."""
        cursors = self._open_cursors
        try:
            if len(cursors) == 1 and cursors[0]() is cursor:
                del cursors[0]
            else:
                # Cursors that were collected unclosed count as closed from here on.
                cursors[:] = [known for known in cursors if _is_open(known(), cursor)]
            if not cursors:
                self._check_need()
        except Exception:
            recorder.failed()

    def _check_need(self) -> None:
        """End the need unless something still needs the connection."""
        checkout = self._checkout
        if (
            checkout is None
            or not checkout.needed_since
            or checkout.closed
            or self._open_cursors
            or self.in_atomic_block
        ):
            return
        connection = self.connection
        if connection is None or not _IDLE < connection.pgconn.transaction_status < _UNKNOWN:
            checkout.need_ended()


def _is_open(known: Any, closed: Any) -> bool:
    return known is not None and known is not closed and not known.closed


class FollowedCursor(CursorWrapper):
    """Mixed in before the class of each cursor wrapper. All state is elsewhere, so that it can be wrapped anew."""

    db: LifecycleMixin

    def close(self) -> None:
        """Close the cursor."""
        try:
            self.cursor.close()
        finally:
            note_closed = getattr(self.db, "cursor_closed", None)
            if note_closed is not None:  # None once the engine is not observed any more
                note_closed(self.cursor)

    def _execute(self, sql: Any, params: Any, *ignored: Any) -> Any:
        checkout = self.db._checkout  # noqa: SLF001 - two halves of one thing
        started = 0
        try:
            if checkout is not None:
                started = checkout.query_started()
        except Exception:
            recorder.failed()
        if not started:
            return super()._execute(sql, params, *ignored)
        try:
            return super()._execute(sql, params, *ignored)
        finally:
            try:
                checkout.query_ended(started)
            except Exception:
                recorder.failed()

    def _executemany(self, sql: Any, param_list: Any, *ignored: Any) -> Any:
        with self._as_query():
            return super()._executemany(sql, param_list, *ignored)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        with self._as_query():
            return super().callproc(*args, **kwargs)

    def copy(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Any]:
        """Run a COPY, as psycopg's cursor does; it is one query that lasts as long as the block."""
        return self._during(getattr(super(), "copy", self.cursor.copy)(*args, **kwargs))

    def stream(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Stream rows, as psycopg's cursor does; it is one query that lasts until the last row."""
        return self._until_the_end(self.cursor.stream(*args, **kwargs))

    @contextmanager
    def _during(self, copy: AbstractContextManager[Any]) -> Iterator[Any]:
        with self._as_query(), copy as entered:
            yield entered

    def _until_the_end(self, rows: Iterator[Any]) -> Iterator[Any]:
        with self._as_query():
            yield from rows

    @contextmanager
    def _as_query(self, counts: bool = True) -> Iterator[None]:
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
                if started:
                    checkout.query_ended(started, 1 if counts else 0)
            except Exception:
                recorder.failed()


class FollowedServerCursor(FollowedCursor):
    """A cursor on the server: each fetch asks the server, so it is time in which a query runs."""

    def _fetch(self, fetch: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with self._as_query(counts=False), self.db.wrap_database_errors:
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


_followed: dict[tuple[type, type], type] = {}


def _follow(wrapped: type, cursor: type) -> type:
    """Return the followed class for a kind of wrapper around a kind of psycopg cursor."""
    followed = wrapped
    if issubclass(wrapped, CursorWrapper) and not issubclass(wrapped, FollowedCursor):
        mixin = FollowedServerCursor if issubclass(cursor, ServerCursor) else FollowedCursor
        followed = type(wrapped.__name__, (mixin, wrapped), {"__doc__": wrapped.__doc__})
    return _followed.setdefault((wrapped, cursor), followed)


def forget_checkouts() -> None:
    """Make all wrappers of this process begin anew."""
    for wrapper in list(_wrappers):
        wrapper.forget_checkout()


os.register_at_fork(after_in_child=forget_checkouts)
