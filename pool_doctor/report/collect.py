"""Collects a report: settings, recordings and server facts of this project, now."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from pool_doctor.adapters.conf import get_settings
from pool_doctor.recording.reader import read_directory
from pool_doctor.report.advice import Targets, advice_on
from pool_doctor.report.build import build_report
from pool_doctor.report.configuration import configuration_of
from pool_doctor.report.model import Report, ReportError
from pool_doctor.report.server import ServerProbe
from pool_doctor.report.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django.db.backends.base.base import BaseDatabaseWrapper


def collect_report(
    aliases: Sequence[str] = (),
    *,
    last: float | None = None,
    probe: ServerProbe | None = None,
    targets: Targets | None = None,
    processes: int = 1,
) -> Report:
    """Collect the report of some aliases (of every PostgreSQL alias when none is named).

    ``last`` limits it to the last so many seconds. Raises ReportError for an alias that is unknown or not
    PostgreSQL, and where there is none. With ``targets`` there is advice in it, which so many ``processes`` may make.
    """
    wrappers = postgresql(aliases)
    configurations = [configuration_of(wrapper) for wrapper in wrappers.values()]
    probe = probe or ServerProbe()
    probe.start(wrappers)
    own = get_settings()
    since = None if last is None else time.time() - last
    recordings = read_directory(own.directory, since)
    servers = probe.results()
    facts = [(configuration, servers[configuration.alias]) for configuration in configurations]
    advice = {}
    if targets is not None:
        traces = Traces(recordings, since)
        advice = {
            alias: advice_on(alias, traces, server, targets, processes=processes) for alias, server in servers.items()
        }
    return build_report(recordings, facts, now=time.time(), since=since, recording=own.enabled, advice=advice)


def postgresql(aliases: Sequence[str]) -> dict[str, BaseDatabaseWrapper]:
    """Return the wrappers of the PostgreSQL aliases asked for, of all where none is named; raises ReportError."""
    known = list(settings.DATABASES)
    for alias in aliases:
        if alias not in known:
            raise ReportError(f"There is no database {alias!r} in settings.DATABASES, which has {_names(known)}.")
    try:
        wrappers = {alias: connections[alias] for alias in aliases or known}
    except ImproperlyConfigured as error:
        raise ReportError(str(error)) from error
    others = [alias for alias, wrapper in wrappers.items() if wrapper.vendor != "postgresql"]
    if others and aliases:
        wrapper = wrappers[others[0]]
        raise ReportError(f"Database {others[0]!r} is {wrapper.display_name}; pool_report knows PostgreSQL only.")
    if len(others) == len(wrappers):
        raise ReportError("None of settings.DATABASES is PostgreSQL, so there is no pool to report on.")
    return {alias: wrapper for alias, wrapper in wrappers.items() if alias not in others}


def _names(aliases: Sequence[str]) -> str:
    return ", ".join(repr(alias) for alias in aliases)
