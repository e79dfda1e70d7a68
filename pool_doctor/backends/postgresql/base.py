"""Django's PostgreSQL engine, releasing: each pooled connection goes back when the need for it ends."""

from django.db.backends.postgresql.base import DatabaseWrapper as Stock

from pool_doctor.adapters.release import ReleasingMixin


class DatabaseWrapper(ReleasingMixin, Stock):
    """One thread's database, on Django's own pool (OPTIONS["pool"])."""
