"""The releasing engine on django-db-connection-pool, whose connections are proxies from a SQLAlchemy QueuePool."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from dj_db_conn_pool.core import pool_container

from pool_doctor.adapters.lifecycle import LifecycleMixin
from pool_doctor.adapters.release import left_to_parent, silence

if TYPE_CHECKING:
    from pool_doctor.adapters.release import ReleasingMixin as _Base
else:
    _Base = object


_aliases: set[str] = set()


class QueuePoolMixin(_Base):
    """Takes, gives and knows connections as that pool does. Mix it in before ReleasingMixin."""

    _connection_pools: ClassVar[dict[str, Any]] = {}  # none of an engine that had the alias before

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self._handed_over is not None:
            return self._handed_over.getconn()
        _aliases.add(self.alias)
        return super().get_new_connection(conn_params)

    def _take(self) -> Any:
        if self.alias not in pool_container:
            return super(LifecycleMixin, self).get_new_connection(self.get_connection_params())
        pool = pool_container.get(self.alias)
        pool._pool.use_lifo = True  # noqa: SLF001 - an option of the pool that dj_db_conn_pool does not pass on
        connection = pool.connect()
        connection.info = connection.driver_connection.info
        return connection

    def _put(self, connection: Any, pool: Any) -> None:  # noqa: ARG002 - the proxy knows its pool
        connection.close()

    def _physical(self, connection: Any) -> Any:
        return connection.driver_connection


def leave_pools_to_parent() -> None:
    """In a forked child: let go of the pools of releasing engines, so that new ones are made at need."""
    pool_container.lock = threading.Lock()  # a thread of the parent may have it
    for alias in _aliases.intersection(pool_container):
        pool = pool_container.pop(alias)
        for record in list(pool._pool.queue):  # noqa: SLF001
            silence(record.driver_connection)
        left_to_parent.append(pool)


os.register_at_fork(after_in_child=leave_pools_to_parent)
