"""The psycopg pool of the releasing engine: it hands out the connection that came back last."""

from __future__ import annotations

from time import monotonic
from typing import Any

from psycopg import Connection
from psycopg_pool import ConnectionPool

from pool_doctor.adapters.conf import get_settings


class RecentFirstPool(ConnectionPool[Connection[Any]]):
    """A ConnectionPool that prefers the connection returned last, and checks only those that have been idle.

    psycopg_pool hands idle connections out in rotation, so that two queries in a row wake two different backends of the
    server. The one used last is warm; the surplus stays idle and is closed by the pool's own shrinking.
    """

    def _get_ready_connection(self, timeout: float | None) -> Any:
        # The base class takes from the left, where those that have waited longest are, which shrinking closes first.
        if len(self._pool) > 1:
            self._pool.rotate(1)
        return super()._get_ready_connection(timeout)

    def _check_connection(self, conn: Any) -> None:
        if self._check and monotonic() - getattr(conn, "_idle_since", 0.0) > get_settings().health_check_bypass:
            super()._check_connection(conn)

    def _add_to_pool(self, conn: Any) -> None:
        if self._check:
            conn._idle_since = monotonic()  # noqa: SLF001 - as the pool itself marks its connections
        super()._add_to_pool(conn)


def recent_first(pool: Any) -> Any:
    """Make a psycopg pool that Django has just made one that prefers the connection returned last."""
    if type(pool) is ConnectionPool:
        pool.__class__ = RecentFirstPool
    return pool
