"""System checks: what keeps pool_doctor from working, said before it is needed."""

from __future__ import annotations

from typing import Any

from django.core import checks
from django.db import connections

from pool_doctor.adapters.conf import get_settings
from pool_doctor.adapters.pools import configured_pool
from pool_doctor.recording.directory import DirectoryRefusedError, look_ahead

_DOCS = "See docs/checks.md#{}."


def check_directory(**_: Any) -> list[checks.CheckMessage]:
    """Warn where nothing can be recorded because the directory can't be used."""
    settings = get_settings()
    if not settings.enabled:
        return []
    try:
        look_ahead(settings.directory)
    except DirectoryRefusedError as error:
        return [
            checks.Warning(
                f"pool_doctor records nothing that pool_report could read: {error}",
                hint=f'Set POOL_DOCTOR["DIRECTORY"] to a directory of the workers\' user. {_DOCS.format("w001")}',
                id="pool_doctor.W001",
            )
        ]
    return []


def check_engines(**_: Any) -> list[checks.CheckMessage]:
    """Warn of a releasing engine that has no pool to release to."""
    return [
        checks.Warning(
            f"The engine of database {connection.alias!r} releases connections to a pool, but there is none, so it "
            "does what Django's own engine does.",
            hint=f'Set OPTIONS["pool"], or use Django\'s engine. {_DOCS.format("w003")}',
            id="pool_doctor.W003",
        )
        for connection in connections.all()
        if getattr(connection, "releases_after_query", False)
        and configured_pool(type(connection), connection.settings_dict) is None
    ]


def check_databases(**_: Any) -> list[checks.CheckMessage]:
    """Warn where the project has no PostgreSQL database."""
    if any(connection.vendor == "postgresql" for connection in connections.all()):
        return []
    return [
        checks.Warning(
            "pool_doctor finds no PostgreSQL database in DATABASES, so there is nothing that it could observe.",
            hint=f'Remove "pool_doctor" from INSTALLED_APPS, or add a PostgreSQL database. {_DOCS.format("w002")}',
            id="pool_doctor.W002",
        )
    ]
