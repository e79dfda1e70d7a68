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
        from pool_doctor import checks as our_checks  # noqa: PLC0415
        from pool_doctor.adapters import startup  # noqa: PLC0415 - engines can't be imported before the apps are ready

        startup.install()
        for check in (our_checks.check_directory, our_checks.check_databases, our_checks.check_engines):
            checks.register(check)
