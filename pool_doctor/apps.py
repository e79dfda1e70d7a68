"""The Django app: observation begins when the apps are ready."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks


class PoolDoctorConfig(AppConfig):
    """See, measure and size the project's PostgreSQL connection pools."""

    name = "pool_doctor"
    verbose_name = "Pool doctor"

    def ready(self) -> None:
        """Start observing the project's databases."""
        from pool_doctor.adapters import startup  # noqa: PLC0415 - engines can't be imported before the apps are ready
        from pool_doctor.checks import check_databases, check_directory  # noqa: PLC0415

        startup.install()
        checks.register(check_directory)
        checks.register(check_databases)
