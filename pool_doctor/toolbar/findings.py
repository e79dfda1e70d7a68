"""What is worth mending in one request's use of a database, with the numbers and the remedy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pool_doctor.recording import layout
from pool_doctor.report.words import duration, plural
from pool_doctor.toolbar.collector import Held
from pool_doctor.toolbar.gaps import CURSOR, NOTHING, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.toolbar.gaps import Gap
    from pool_doctor.toolbar.use import DatabaseUse

LONG = 5_000_000
"""Nanoseconds: what is shorter is not worth a line. It is also the wait that the advice on pool sizes allows."""
LONG_CURSOR = 20_000_000
"""Nanoseconds: the toolbar itself works a while after each query."""
MANY_CHECKOUTS = 50
"""From here on, what the checkouts themselves cost comes to a good part of a millisecond."""

_RELEASING = {
    "django.db.backends.postgresql": "pool_doctor.backends.postgresql",
    "django.contrib.gis.db.backends.postgis": "pool_doctor.backends.postgis",
    "dj_db_conn_pool.backends.postgresql": "pool_doctor.backends.dj_db_conn_pool",
}
_INSTEAD = {
    "SET": "Use SET LOCAL inside atomic().",
    "set config": "Pass true as the third argument of set_config(), inside atomic().",
    "advisory lock": "Use pg_advisory_xact_lock() inside atomic().",
    "temporary table": "Create it with ON COMMIT DROP inside atomic().",
    "LISTEN": "Listen on a connection of its own, outside the pool.",
    "PREPARE": "Leave preparing to psycopg (prepare_threshold).",
    "LOAD": "Set session_preload_libraries for the role.",
}


class Finding(NamedTuple):
    """One thing to mend."""

    id: str
    severity: str
    """'error', 'warning' or 'info'."""
    title: str
    evidence: str
    fix: str

    @property
    def docs(self) -> str:
        """Where it is explained."""
        return f"docs/panel.md#{self.id}"


def findings(use: DatabaseUse) -> list[Finding]:
    """Return the findings, the gravest first."""
    found = [
        *_failures(use),
        *_idle(use),
        *_in_transaction(use),
        *_open_cursor(use),
        *_waits(use),
        *_at_once(use),
        *_many(use),
        *_pinned(use),
    ]
    return sorted(found, key=lambda finding: ("error", "warning", "info").index(finding.severity))


def _failures(use: DatabaseUse) -> Iterator[Finding]:
    for outcome, finding_id, title, fix in (
        (
            layout.TIMEOUT,
            "timed-out",
            "No connection came free in time",
            "manage.py pool_report says who holds the connections of this process, and for how long.",
        ),
        (
            layout.ERROR,
            "not-connected",
            "The database could not be reached",
            "The exception says why; manage.py pool_report shows what the server says of its connections.",
        ),
    ):
        failed = [failure for failure in use.failures if failure.outcome == outcome]
        if failed:
            last = failed[-1]
            evidence = f"{plural(len(failed), 'checkout')} failed, the last after {_time(last.ended - last.asked)}"
            yield Finding(finding_id, "error", title, f"{evidence}{_at(last.site)}.", fix)


def _idle(use: DatabaseUse) -> Iterator[Finding]:
    free = [gap for gap in use.gaps if gap.kept_by == NOTHING]
    total = sum(gap.duration for gap in free)
    if total < LONG:
        return
    engine = _RELEASING.get(use.about.engine)
    by_hand = "call django.db.connection.close() before the slow part; the next query takes a connection again."
    if engine is None or use.about.policy == "query":
        fix = by_hand[0].upper() + by_hand[1:]
    elif use.about.pool is None:
        fix = f'Set OPTIONS["pool"] and ENGINE "{engine}": connections go back after each query. Or {by_hand}'
    else:
        fix = f'Set ENGINE "{engine}": connections go back after each query. Or {by_hand}'
    yield Finding("idle-while-held", "warning", f"Held for {_time(total)} while nothing needed it", _longest(free), fix)


def _in_transaction(use: DatabaseUse) -> Iterator[Finding]:
    kept = [gap for gap in use.gaps if gap.kept_by == TRANSACTION]
    total = sum(gap.duration for gap in kept)
    if total >= LONG:
        yield Finding(
            "work-in-transaction",
            "warning",
            f"{_time(total)} of other work inside a transaction",
            _longest(kept),
            "Do it before atomic(), or in transaction.on_commit(): in between, the connection and the locks on rows "
            "stay taken, whatever the engine.",
        )


def _open_cursor(use: DatabaseUse) -> Iterator[Finding]:
    # Between two queries of one need. What comes after the last one is reading its rows, and the toolbar's SQL panel.
    kept = [gap for gap in use.gaps if gap.kept_by == CURSOR and gap.between_queries]
    total = sum(gap.duration for gap in kept)
    if max((gap.duration for gap in kept), default=0) >= LONG_CURSOR:
        yield Finding(
            "open-cursor",
            "warning",
            f"A cursor or hold() was open for {_time(total)} in which no query ran",
            _longest(kept),
            "Read the rows before the slow part, as list(queryset) does, and close cursors with a with block.",
        )


def _waits(use: DatabaseUse) -> Iterator[Finding]:
    waited = sum(held.since - held.asked for held in use.held)
    if waited < LONG:
        return
    longest = max(use.held, key=lambda held: held.since - held.asked)
    evidence = f"The longest wait was {_time(longest.since - longest.asked)}{_at(longest.site)}."
    if use.about.pool is None:
        title = f"{_time(waited)} went into opening connections"
        fix = 'Set OPTIONS["pool"]: a pool keeps them open.'
    else:
        title = f"Waited {_time(waited)} for a connection"
        fix = (
            "manage.py pool_report says who holds the others. The first checkout of a process waits until its pool "
            "has connected: that one is no reason to worry."
        )
    yield Finding("waited", "warning", title, evidence, fix)


def _at_once(use: DatabaseUse) -> Iterator[Finding]:
    number = sum(any(isinstance(entry, Held) for entry in lane) for lane in use.lanes)
    if number > 1:
        yield Finding(
            "several-at-once",
            "warning",
            f"{number} connections at once for one request",
            "It took a connection while it held another, as threads of one request do.",
            "Requests that wait for a second connection while they hold the first can block each other for ever: "
            "query in one thread, or give the first back before.",
        )


def _many(use: DatabaseUse) -> Iterator[Finding]:
    if use.about.policy != "query" or len(use.held) < MANY_CHECKOUTS:
        return
    ((site, number),) = Counter(held.site for held in use.held).most_common(1)
    yield Finding(
        "many-checkouts",
        "info",
        f"{plural(len(use.held), 'checkout')} in one request",
        f"{'All' if number == len(use.held) else number} of them{_at(site)}." if site else "Their lines are not known.",
        "Fewer queries (select_related, prefetch_related) save the most; pool_doctor.hold() around a loop keeps one "
        "connection for all of it.",
    )


def _pinned(use: DatabaseUse) -> Iterator[Finding]:
    pins = [pin for held in use.held for pin in held.pins]
    if not pins:
        return
    kind = next((kind for kind in _INSTEAD if pins[0].startswith(kind)), "")
    releases = use.about.policy == "query"
    yield Finding(
        "pinned",
        "warning" if releases else "info",
        "A statement keeps the connection until the request ends"
        if releases
        else "A releasing engine could not give this connection back",
        f"{pins[0]}." if len(pins) == 1 else f"{pins[0]}, and {len(pins) - 1} more.",
        _INSTEAD.get(kind, "Its effect outlives its transaction: do it inside atomic() where there is a way to."),
    )


def _longest(gaps: list[Gap]) -> str:
    longest = max(gaps, key=lambda gap: gap.duration)
    before = longest.before.line if longest.before else longest.held.site
    after = longest.after.line if longest.after else ""
    places = f", after {before}" if before else ""
    places += f", before {after}" if after else "" if longest.after else ", until the end"
    several = "" if len(gaps) == 1 else f" ({len(gaps)} gaps)"
    return f"The longest gap: {_time(longest.duration)}{places}{several}."


def _at(site: str) -> str:
    return f" at {site}" if site else ""


def _time(nanoseconds: int) -> str:
    return duration(nanoseconds / 1e9)
