"""Django's PostGIS engine, releasing: each pooled connection goes back when the need for it ends."""

from django.contrib.gis.db.backends.postgis.base import DatabaseWrapper as Stock

from pool_doctor.adapters.release import ReleasingMixin


class DatabaseWrapper(ReleasingMixin, Stock):
    """One thread's spatial database, on Django's own pool (OPTIONS["pool"])."""
