"""The PostgreSQL engine of django-db-connection-pool, releasing: connections go back when the need for them ends."""

from dj_db_conn_pool.backends.postgresql.base import DatabaseWrapper as Stock

from pool_doctor.adapters.queue_pool import QueuePoolMixin
from pool_doctor.adapters.release import ReleasingMixin


class DatabaseWrapper(QueuePoolMixin, ReleasingMixin, Stock):
    """One thread's database, on a SQLAlchemy QueuePool (POOL_OPTIONS)."""
