"""What settings.DATABASES says of an alias, for a report."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

from pool_doctor.adapters.pools import describe, uses_queue_pool
from pool_doctor.report.model import Configuration, ReportError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.backends.base.base import BaseDatabaseWrapper

_IN_OUR_WORDS = {"pool_size": "max_size", "max_overflow": "max_size", "recycle": "max_lifetime"}
"""What settings of SQLAlchemy's QueuePool are called here; others have the same name."""


def configuration_of(wrapper: BaseDatabaseWrapper) -> Configuration:
    """Read the configuration of a PostgreSQL alias off its database wrapper, without connecting.

    Raises ReportError where a setting of the pool is no number.
    """
    settings = wrapper.settings_dict
    try:
        description = describe(wrapper)
        if description is None:
            raise ReportError(f"Database {wrapper.alias!r} is not one of the project's own.")
        _require_numbers(astuple(description.pool) if description.pool else ())
    except (TypeError, ValueError) as error:
        raise ReportError(
            f"The pool of DATABASES[{wrapper.alias!r}] has a setting that is no number: {error}."
        ) from error
    return Configuration(
        description.alias,
        description.engine,
        description.policy,
        description.pool,
        conn_max_age=settings["CONN_MAX_AGE"],
        health_checks=bool(settings["CONN_HEALTH_CHECKS"]),
        pool_options=tuple(_options(wrapper)),
    )


def _require_numbers(values: Iterable[object]) -> None:
    for value in values:
        if not isinstance(value, int | float):
            raise TypeError(repr(value))


def _options(wrapper: BaseDatabaseWrapper) -> Iterable[str]:
    """Yield the names of the settings that the project itself has set."""
    if uses_queue_pool(type(wrapper)):
        names = (name.lower() for name in wrapper.settings_dict.get("POOL_OPTIONS", {}))
        return (_IN_OUR_WORDS.get(name, name) for name in names)
    options = wrapper.settings_dict["OPTIONS"].get("pool")
    return options if isinstance(options, dict) else ()
