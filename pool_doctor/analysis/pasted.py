"""Advice as lines for settings.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool_doctor.analysis.trace import Policy, Trace

LONGEST_LINE = 76
"""What a report of 80 columns has room for."""

_ENGINES = {
    "postgresql": ("django.db.backends.postgresql", "pool_doctor.backends.postgresql"),
    "postgis": ("django.contrib.gis.db.backends.postgis", "pool_doctor.backends.postgis"),
    "dj_db_conn_pool": ("dj_db_conn_pool.backends.postgresql", "pool_doctor.backends.dj_db_conn_pool"),
}


def family(engine: str) -> str:
    """Return which of the supported kinds of engine ``engine`` is."""
    return next((name for name in ("dj_db_conn_pool", "postgis") if name in engine), "postgresql")


def settings_lines(trace: Trace, policy: Policy, min_size: int, max_size: int, timeout: float | None) -> str:
    """Return what to put below ``DATABASES`` in settings.py."""
    database = f'DATABASES["{trace.alias}"]'
    kind = family(trace.engine)
    stock, releasing = _ENGINES[kind]
    lines = []
    if policy == "query" and trace.engine != releasing:
        lines.append(f'{database}["ENGINE"] = "{releasing}"')
    elif policy == "request" and trace.engine == releasing:
        lines.append(f'{database}["ENGINE"] = "{stock}"')
    if trace.policy == "persistent":
        lines.append(f'{database}["CONN_MAX_AGE"] = 0')
    if kind == "dj_db_conn_pool":
        # SQLAlchemy's pool opens connections as they are asked for: it has no least size.
        pool: dict[str, float] = {"POOL_SIZE": max_size, "MAX_OVERFLOW": 0}
        name = "TIMEOUT"
        target = f'{database}["POOL_OPTIONS"]'
    else:
        pool = {"min_size": min_size, "max_size": max_size}
        name = "timeout"
        target = f'{database}.setdefault("OPTIONS", {{}})["pool"]'
    if timeout is not None:
        pool[name] = timeout
    items = [f'"{key}": {value:g}' for key, value in pool.items()]
    line = f"{target} = {{{', '.join(items)}}}"
    if len(line) > LONGEST_LINE:
        line = "\n".join([f"{target} = {{", *(f"    {item}," for item in items), "}"])
    return "\n".join([*lines, line])
