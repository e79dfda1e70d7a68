"""What PostgreSQL itself says, asked through one short connection outside every pool.

A server that is down, full or out of reach must not keep a report waiting: each alias is asked in a thread of
its own, and whoever has not answered by the deadline is reported as such. The connect_timeout of libpq alone
does not bound this, for it is per address and does not cover the look-up of names.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pool_doctor.report.model import ServerError, ServerFacts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.db.backends.base.base import BaseDatabaseWrapper

TIMEOUT = 2.0
"""Seconds after which a server counts as not answering."""

APPLICATION_NAME = "pool_report"
NOT_VISIBLE = "(not visible)"

_LIMITS = """
SELECT pg_backend_pid(),
       split_part(current_setting('server_version'), ' ', 1),
       current_setting('max_connections')::int,
       current_setting('superuser_reserved_connections')::int
       + coalesce(current_setting('reserved_connections', true), '0')::int
"""

# Who may not read another user's activity sees its pid, user and application name, and NULL for all else.
# Background processes have no user or no database, so what has both is a client.
_ACTIVITY = """
SELECT pid,
       CASE WHEN backend_type IS NULL THEN %(not_visible)s ELSE coalesce(state, 'starting') END,
       coalesce(nullif(application_name, ''), '(none)')
  FROM pg_catalog.pg_stat_activity
 WHERE (backend_type = 'client backend'
        OR backend_type IS NULL AND datid IS NOT NULL AND usesysid IS NOT NULL)
   AND pid <> pg_backend_pid()
"""


@dataclass(frozen=True, slots=True)
class _Answer:
    backend_pid: int
    version: str
    max_connections: int
    reserved: int
    pooler: bool
    connect_time: float
    activity: list[tuple[int, str, str]]


class ServerProbe:
    """Asks the servers of several aliases at once.

    Use one probe for all reports of a process: a server that hangs is then waited for by one thread, not by
    one more for each report.
    """

    def __init__(self) -> None:
        self._running: dict[str, _Inquiry] = {}

    def start(self, wrappers: Mapping[str, BaseDatabaseWrapper]) -> None:
        """Begin to ask the server of each wrapper, by alias. Never touches the wrappers' own connections."""
        for alias, wrapper in wrappers.items():
            inquiry = self._running.get(alias)
            if inquiry is None or not inquiry.is_alive():
                inquiry = self._running[alias] = _Inquiry(wrapper)
                inquiry.start()
            inquiry.deadline = time.monotonic() + TIMEOUT

    def results(self) -> dict[str, ServerFacts | ServerError]:
        """Return the answers by alias, at most TIMEOUT seconds after ``start``."""
        for inquiry in self._running.values():
            inquiry.join(max(0.0, inquiry.deadline - time.monotonic()))
        answers = {alias: inquiry.outcome for alias, inquiry in self._running.items()}
        own_pids = {answer.backend_pid for answer in answers.values() if isinstance(answer, _Answer)}
        return {
            alias: _facts(answer, own_pids) if isinstance(answer, _Answer) else answer
            for alias, answer in answers.items()
        }


class _Inquiry(threading.Thread):
    """Asks one server. A daemon, so that a name look-up that hangs does not keep the process from ending."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        super().__init__(name=f"pool_report {wrapper.alias}", daemon=True)
        self._wrapper = wrapper
        self.deadline = 0.0
        self.outcome: _Answer | ServerError = ServerError(f"the server did not answer within {TIMEOUT:g} s")

    def run(self) -> None:
        try:
            self.outcome = _ask(self._wrapper.get_connection_params())
        except Exception as error:  # whatever an engine or a driver raises: the report names it and goes on
            self.outcome = ServerError(next(iter(str(error).splitlines()), "").strip() or type(error).__name__)


def _ask(params: dict[str, Any]) -> _Answer:
    # The project's adapters and cursors are made for its own queries, and may query the database themselves.
    for name in ("context", "cursor_factory", "prepare_threshold", "connect_timeout", "application_name"):
        params.pop(name, None)
    began = time.monotonic()
    connection = psycopg.connect(
        **params, application_name=APPLICATION_NAME, connect_timeout=int(TIMEOUT), prepare_threshold=None
    )
    connect_time = time.monotonic() - began
    try:
        # LOCAL: behind a pooler the server's session outlives this connection.
        connection.execute(f"SET LOCAL statement_timeout = '{TIMEOUT:g}s'")
        limits = connection.execute(_LIMITS).fetchone()
        assert limits is not None  # noqa: S101 -- a SELECT without FROM has a row
        activity = connection.execute(_ACTIVITY, {"not_visible": NOT_VISIBLE}).fetchall()
        # PostgreSQL gives its own process id when a session begins, a pooler gives a number of its own.
        pid, version, max_connections, reserved = limits
        pooler = connection.info.backend_pid != pid
        return _Answer(pid, version, max_connections, reserved, pooler, connect_time, activity)
    finally:
        connection.close()


def _facts(answer: _Answer, own_pids: set[int]) -> ServerFacts:
    others = [
        (state, application)
        for pid, state, application in answer.activity
        if not (application == APPLICATION_NAME and pid in own_pids)
    ]
    return ServerFacts(
        answer.version,
        answer.max_connections,
        answer.reserved,
        len(others),
        dict(Counter(state for state, _ in others).most_common()),
        dict(Counter(application for _, application in others).most_common()),
        answer.pooler,
        answer.connect_time,
    )
