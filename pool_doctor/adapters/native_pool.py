"""The psycopg pool of the releasing engine: it hands out the connection that came back last."""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

from psycopg import Connection
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout
from psycopg_pool.pool import WaitingClient

from pool_doctor.adapters.conf import get_settings

_IDLE = TransactionStatus.IDLE
_INFO = logging.INFO
_logs = logging.getLogger("psycopg.pool").isEnabledFor


class RecentFirstPool(ConnectionPool[Connection[Any]]):
    """A ConnectionPool that prefers the connection returned last, and checks only those that have been idle.

    psycopg_pool hands idle connections out in rotation, so that two queries in a row wake two different backends of the
    server. The one used last is warm; the surplus stays idle and is closed by the pool's own shrinking.

    The usual case, an idle connection that is there and one that comes back fit for use, takes a short way to the same
    end; whatever is out of the ordinary is left to the base class.
    """

    _ordinary = False
    """Whether nothing is to be logged or reset, as far as the last at_once() saw."""
    _drained_at = 0.0  # psycopg_pool before 3.3 does not drain

    def getconn(self, timeout: float | None = None) -> Any:
        """Return a connection, the one that came back last where some are idle. See the base class."""
        return (self.at_once() if timeout is None else None) or super().getconn(timeout)

    def at_once(self) -> Any:
        """Return an idle connection as getconn() does; None where getconn() would wait or has more to do."""
        self._ordinary = not (self._reset or _logs(_INFO))
        if self.timeout <= 0 or self._closed or not self._ordinary:
            return None
        connection = None
        try:
            with self._lock:
                idle = self._pool
                if idle and not (self._check and self._is_stale(idle[-1])):
                    left = len(idle) - 1
                    if left < self._nconns_min:
                        self._nconns_min = left
                    self._stats[self._REQUESTS_NUM] += 1
                    connection = idle[-1]
                    # Signals are handled after calls: pop() could take the connection and not return it.
                    del idle[-1]
                    connection._pool = self  # noqa: SLF001 - what the base class does
        except BaseException:
            if connection is not None:
                self.putconn(connection)
            raise
        return connection

    def putconn(self, conn: Any) -> None:
        """Take a connection back. See the base class.

        Where that is interrupted, ``conn._pool`` is None once the connection is back.
        """
        if (
            self._ordinary
            and getattr(conn, "_pool", None) is self
            and conn.pgconn.transaction_status == _IDLE
            and conn._expire_at > monotonic()  # noqa: SLF001
            and not (self._drained_at and conn._created_at <= self._drained_at)  # noqa: SLF001
        ):
            with self._lock:
                if not (self._waiting or self._closed or self._pool_full_event):
                    if self._check:
                        conn._idle_since = monotonic()  # noqa: SLF001
                    conn._pool = None  # noqa: SLF001
                    self._pool.append(conn)
                    return
        super().putconn(conn)

    def _getconn_unchecked(self, timeout: float) -> Any:
        # The base class leaves the place of a client that KeyboardInterrupt takes out of the queue, where it would
        # swallow the next connection that comes back.
        with self._lock:
            connection = self._get_ready_connection(timeout)
            if connection is None:
                place = WaitingClient[Any]()
                self._waiting.append(place)
                self._stats[self._REQUESTS_QUEUED] += 1
                self._maybe_grow_pool()
        if connection is None:
            connection = self._wait_at(place, timeout)
        connection._pool = self  # noqa: SLF001
        return connection

    def _wait_at(self, place: WaitingClient[Any], timeout: float) -> Any:
        began = monotonic()
        try:
            return place.wait(timeout)
        except BaseException:
            place.fail(PoolTimeout("the client waits no more"))
            if place.conn is not None:
                self._putconn(place.conn, from_getconn=True)
            self._stats[self._REQUESTS_ERRORS] += 1
            raise
        finally:
            self._stats[self._REQUESTS_WAIT_MS] += int(1000.0 * (monotonic() - began))

    def _get_ready_connection(self, timeout: float | None) -> Any:
        # The base class takes from the left, where those that have waited longest are, which shrinking closes first.
        if len(self._pool) > 1:
            self._pool.rotate(1)
        return super()._get_ready_connection(timeout)

    def _check_connection(self, conn: Any) -> None:
        if self._check and self._is_stale(conn):
            super()._check_connection(conn)

    def _is_stale(self, conn: Any) -> bool:
        return monotonic() - getattr(conn, "_idle_since", 0.0) > get_settings().health_check_bypass

    def _add_to_pool(self, conn: Any) -> None:
        if self._check:
            conn._idle_since = monotonic()  # noqa: SLF001 - as the pool itself marks its connections
        super()._add_to_pool(conn)


def recent_first(pool: Any) -> Any:
    """Make a psycopg pool that Django has just made one that prefers the connection returned last."""
    if type(pool) is ConnectionPool:
        pool.__class__ = RecentFirstPool
    return pool
