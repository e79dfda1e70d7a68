"""The pools that Django connections come from: which pool, how it is set, how many connections it has now."""

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from django.db.backends.base.base import NO_DB_ALIAS

from pool_doctor.recording.channel import Description
from pool_doctor.recording.snapshot import PoolSettings

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_DEFAULTS = ("min_size", "max_size", "timeout", "max_waiting", "max_lifetime", "max_idle")


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    from psycopg_pool import ConnectionPool  # noqa: PLC0415 - not needed by engines without a pool

    parameters = inspect.signature(ConnectionPool.__init__).parameters
    return {name: parameters[name].default for name in _DEFAULTS}


def pool_settings(options: Any) -> PoolSettings:
    """Return the settings of Django's own pool for OPTIONS["pool"], with psycopg_pool's own defaults."""
    given = {**_defaults(), **(options if isinstance(options, dict) else {})}
    min_size = given["min_size"]
    return PoolSettings(
        min_size=min_size,
        # In psycopg_pool, None means: as many as min_size.
        max_size=min_size if given["max_size"] is None else given["max_size"],
        timeout=float(given["timeout"]),
        max_waiting=given["max_waiting"],
        max_lifetime=float(given["max_lifetime"]),
        max_idle=float(given["max_idle"]),
    )


def queue_pool_settings(options: dict[str, Any]) -> PoolSettings:
    """Return the settings of django-db-connection-pool's SQLAlchemy QueuePool for POOL_OPTIONS."""
    from dj_db_conn_pool.core import pool_container  # noqa: PLC0415 - an optional package

    given = {**pool_container.pool_default_params, **{key.lower(): value for key, value in options.items()}}
    overflow = given["max_overflow"]
    return PoolSettings(
        min_size=0,
        max_size=0 if overflow < 0 or not given["pool_size"] else given["pool_size"] + overflow,
        timeout=float(given["timeout"]),
        # It closes no connection for being idle, and -1 is its word for never.
        max_lifetime=float(given["recycle"]) if given["recycle"] >= 0 else float("inf"),
        max_idle=float("inf"),
    )


def uses_queue_pool(wrapper_class: type) -> bool:
    """Say whether a database wrapper takes its connections from a SQLAlchemy QueuePool."""
    return any(base.__module__.startswith("dj_db_conn_pool.") for base in wrapper_class.__mro__)


def configured_pool(wrapper_class: type, settings_dict: dict[str, Any]) -> PoolSettings | None:
    """Return how the pool of a database is set, or None where it has none."""
    if uses_queue_pool(wrapper_class):
        return queue_pool_settings(settings_dict.get("POOL_OPTIONS", {}))
    options = settings_dict.get("OPTIONS", {}).get("pool")
    return pool_settings(options) if options else None


def policy(wrapper_class: type, settings_dict: dict[str, Any]) -> str:
    """Return when connections go back: after each 'query', after each 'request', or never ('persistent').

    'unpooled' connections are made and closed for each request.
    """
    if configured_pool(wrapper_class, settings_dict) is not None:
        return "query" if getattr(wrapper_class, "releases_after_query", False) else "request"
    return "persistent" if settings_dict.get("CONN_MAX_AGE", 0) != 0 else "unpooled"


def describe(wrapper: BaseDatabaseWrapper) -> Description | None:
    """Return what is fixed about a wrapper's database; None for those that stand outside the project's databases."""
    if wrapper.alias == NO_DB_ALIAS:
        return None
    settings_dict = wrapper.settings_dict
    wrapper_class = type(wrapper)
    return Description(
        alias=wrapper.alias,
        engine=settings_dict["ENGINE"],
        policy=policy(wrapper_class, settings_dict),
        pool=configured_pool(wrapper_class, settings_dict),
    )


def existing_pool(wrapper: BaseDatabaseWrapper) -> Any:
    """Return the pool that a wrapper would take a connection from; None where there is none (yet)."""
    if uses_queue_pool(type(wrapper)):
        from dj_db_conn_pool.core import pool_container  # noqa: PLC0415 - an optional package

        return dict.get(pool_container, wrapper.alias)
    return getattr(wrapper, "_connection_pools", {}).get(wrapper.alias)


def gauge(pool: Any) -> tuple[int, int]:
    """Return size and available connections of a pool, now.

    psycopg_pool says the same in get_stats(), at twenty times the cost; its attributes are read where it has them.
    """
    try:
        return pool._nconns, len(pool._pool)  # noqa: SLF001
    except (AttributeError, TypeError):
        return _slow_gauge(pool)


def _slow_gauge(pool: Any) -> tuple[int, int]:
    if hasattr(pool, "get_stats"):
        stats = pool.get_stats()
        return stats.get("pool_size", 0), stats.get("pool_available", 0)
    available = pool.checkedin()
    return available + pool.checkedout(), available


def is_pool_timeout(error: BaseException) -> bool:
    """Say whether a checkout failed because no connection came free in time (or the queue for one was full)."""
    names = {(base.__module__.partition(".")[0], base.__name__) for base in type(error).__mro__}
    return bool(names & _TIMEOUTS)


_TIMEOUTS = {("psycopg_pool", "PoolTimeout"), ("psycopg_pool", "TooManyRequests"), ("sqlalchemy", "TimeoutError")}
