"""What settings.DATABASES says of an alias, with psycopg_pool's own defaults for what it leaves out."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from psycopg_pool import ConnectionPool

from pool_doctor.recording.snapshot import PoolSettings
from pool_doctor.report.model import Configuration, ReportError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

_ENGINES_OF_POLICY_QUERY = "pool_doctor.backends."


def configuration_of(wrapper: BaseDatabaseWrapper) -> Configuration:
    """Read the configuration of a PostgreSQL alias off its database wrapper, without connecting.

    Raises ReportError where a pool setting is no number.
    """
    settings = wrapper.settings_dict
    alias, engine = wrapper.alias, settings["ENGINE"]
    options, pool = _pool(wrapper)
    max_age = settings["CONN_MAX_AGE"]
    if pool is not None:
        policy = "query" if engine.startswith(_ENGINES_OF_POLICY_QUERY) else "request"
    else:
        policy = "unpooled" if max_age == 0 else "persistent"
    return Configuration(alias, engine, policy, pool, max_age, bool(settings["CONN_HEALTH_CHECKS"]), tuple(options))


def _pool(wrapper: BaseDatabaseWrapper) -> tuple[Mapping[str, Any], PoolSettings | None]:
    """Return the options that the project set, and the pool's settings with all defaults."""
    settings = wrapper.settings_dict
    if _uses_sqlalchemy(wrapper):
        return _sqlalchemy_pool(wrapper.alias, settings.get("POOL_OPTIONS", {}))
    options = settings["OPTIONS"].get("pool")
    if not options:
        return {}, None
    options = {} if options is True else options
    values = {**psycopg_pool_defaults(), **options}
    if values["max_size"] is None:
        values["max_size"] = values["min_size"]
    values = {name: values[name] for name in PoolSettings.__dataclass_fields__}
    return options, _checked(values, f"DATABASES[{wrapper.alias!r}]['OPTIONS']['pool']")


@functools.cache
def psycopg_pool_defaults() -> Mapping[str, Any]:
    """Return the defaults of the installed psycopg_pool, from its signature."""
    parameters = inspect.signature(ConnectionPool.__init__).parameters
    return {name: parameters[name].default for name in PoolSettings.__dataclass_fields__}


def _uses_sqlalchemy(wrapper: BaseDatabaseWrapper) -> bool:
    return any(base.__module__.startswith("dj_db_conn_pool.") for base in type(wrapper).__mro__)


def _sqlalchemy_pool(alias: str, options: Mapping[str, Any]) -> tuple[Mapping[str, Any], PoolSettings]:
    """Put django-db-connection-pool's settings (of SQLAlchemy's QueuePool) into psycopg_pool's words.

    QueuePool keeps up to ``pool_size`` connections, adds up to ``max_overflow`` and closes those again; -1
    as ``max_overflow`` or 0 as ``pool_size`` is without limit. It opens none ahead and closes none when idle.
    """
    from dj_db_conn_pool.core import (  # type: ignore[import-untyped]  # noqa: PLC0415 -- optional
        pool_container,
    )

    options = {key.lower(): value for key, value in options.items() if key.isupper()}
    values = {**pool_container.pool_default_params, **options}
    unlimited = values["pool_size"] == 0 or values["max_overflow"] == -1
    settings = {
        "min_size": 0,
        "max_size": 0 if unlimited else values["pool_size"] + values["max_overflow"],
        "timeout": values["timeout"],
        "max_waiting": 0,
        "max_lifetime": float("inf") if values["recycle"] == -1 else values["recycle"],
        "max_idle": float("inf"),
    }
    return options, _checked(settings, f"DATABASES[{alias!r}]['POOL_OPTIONS']")


def _checked(values: Mapping[str, Any], where: str) -> PoolSettings:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ReportError(f"{where}['{name}'] is {value!r}; a number is accepted.")
    return PoolSettings(**values)
