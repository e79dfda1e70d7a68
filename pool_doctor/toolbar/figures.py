"""What the panel stores of one request: plain, JSON-safe values. Durations are seconds."""

from __future__ import annotations

import math
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from django.db import connections

from pool_doctor.adapters.pools import existing_pool, gauge
from pool_doctor.recording import layout
from pool_doctor.toolbar.collector import Failure
from pool_doctor.toolbar.findings import findings
from pool_doctor.toolbar.gaps import longest
from pool_doctor.toolbar.statements import shown
from pool_doctor.toolbar.timeline import timeline
from pool_doctor.toolbar.use import DatabaseUse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.recording.channel import Channel
    from pool_doctor.toolbar.collector import Held, Query, RequestCollector
    from pool_doctor.toolbar.gaps import Gap

MAX_ROWS = 40
"""Checkouts in the table: of more, the longest."""
MAX_GAPS = 5
"""Gaps in their table: of more, the longest."""
SHORTEST_GAP = 1_000_000
"""Nanoseconds: a shorter gap is in no table."""


def describe(collector: RequestCollector) -> dict[str, Any]:
    """Return what is to be stored of a request that has been answered."""
    entries: list[Held | Failure] = [*collector.held, *collector.failures]
    entries.sort(key=lambda entry: (entry.channel.alias, entry.asked))
    databases = [
        _database(DatabaseUse(list(own), collector.started, collector.ended))
        for _, own in groupby(entries, key=attrgetter("channel.alias"))
    ]
    totals = {name: sum(database["totals"][name] for database in databases) for name in ("wait", "hold", "query_time")}
    return {"seconds": (collector.ended - collector.started) / 1e9, "totals": totals, "databases": databases}


def _database(use: DatabaseUse) -> dict[str, Any]:
    return {
        "alias": use.about.alias,
        "engine": use.about.engine,
        "policy": use.about.policy,
        "pool": _settings(use.channel),
        "now": _state(use.channel),
        "totals": {
            "checkouts": len(use.held),
            "failed": len(use.failures),
            "queries": use.queries,
            "wait": use.wait / 1e9,
            "hold": use.hold / 1e9,
            "needed": use.needed / 1e9,
            "query_time": use.query_time / 1e9,
            "transaction": use.transaction_time / 1e9,
            "idle": max(0, use.hold - use.query_time) / 1e9,
        },
        "timeline": timeline(use.lanes, use.gaps, use.started, use.ended),
        "checkouts": _checkouts([*use.held, *use.failures], use.started),
        "gaps": _gaps(use.gaps, use.started),
        "other": _other(use),
        "findings": [finding._asdict() | {"docs": finding.docs} for finding in findings(use)],
    }


def _other(use: DatabaseUse) -> dict[str, Any]:
    other, own = use.other, use.hold / 1e9
    longest_hold = max(own, other.hold) or 1.0
    bars = {"own": f"{100 * own / longest_hold:.2f}", "other": f"{100 * other.hold / longest_hold:.2f}"}
    return other._asdict() | {"bars": bars}


def _settings(channel: Channel) -> dict[str, float | None] | None:
    pool = channel.description.pool
    if pool is None:
        return None
    settings = {name: None if math.isinf(value) else value for name, value in asdict(pool).items()}
    # 0 is the recorder's word for no limit.
    return settings | {"max_size": settings["max_size"] or None}


def _state(channel: Channel) -> dict[str, int | None]:
    """Return the connections of this process now, without asking the database anything."""
    cells = channel.cells
    size, available = cells[channel.size], None
    if channel.description.pool is not None and channel.alias in connections.settings:
        pool = existing_pool(connections[channel.alias])
        if pool is not None:
            size, available = gauge(pool)
    return {
        "size": size,
        "available": available,
        "in_use": cells[channel.in_use],
        "waiting": cells[channel.waiting],
    }


def _checkouts(entries: Sequence[Held | Failure], started: int) -> dict[str, Any]:
    kept = sorted(entries, key=lambda entry: entry.ended - entry.asked, reverse=True)[:MAX_ROWS]
    kept.sort(key=attrgetter("asked"))
    rows = [_row(entry, started) for entry in kept]
    sums = ("wait", "hold", "needed", "queries", "query_time")
    chosen = set(map(id, kept))
    rest = [_row(entry, started) for entry in entries if id(entry) not in chosen]
    return {
        "rows": rows,
        "cut": {"number": len(rest)} | {name: sum(row[name] for row in rest) for name in sums},
    }


def _row(entry: Held | Failure, started: int) -> dict[str, Any]:
    common = {"at": (entry.asked - started) / 1e9, "site": entry.site}
    if isinstance(entry, Failure):
        outcome = "timed out" if entry.outcome == layout.TIMEOUT else "failed"
        wait = (entry.ended - entry.asked) / 1e9
        return common | {"outcome": outcome, "wait": wait, "hold": 0, "needed": 0, "queries": 0, "query_time": 0}
    return common | {
        "outcome": "" if entry.returned else "until the end",
        "wait": (entry.since - entry.asked) / 1e9,
        "hold": (entry.ended - entry.since) / 1e9,
        "needed": sum(end - start for start, end in entry.segments) / 1e9,
        "queries": entry.count,
        "query_time": entry.query_time / 1e9,
        "transaction": sum(end - start for start, end in entry.transactions) / 1e9,
        "pins": entry.pins,
    }


def _gaps(gaps: Sequence[Gap], started: int) -> dict[str, Any]:
    shown_gaps = longest([gap for gap in gaps if gap.duration >= SHORTEST_GAP], MAX_GAPS)
    rest = sum(gap.duration for gap in gaps) - sum(gap.duration for gap in shown_gaps)
    return {
        "rows": [
            {
                "at": (gap.started - started) / 1e9,
                "duration": gap.duration / 1e9,
                "kept_by": gap.kept_by,
                "before": _query(gap.before) if gap.before else {"line": gap.held.site, "sql": ""},
                "first": gap.before is None,
                "after": _query(gap.after) if gap.after else None,
                "returned": gap.held.returned,
            }
            for gap in shown_gaps
        ],
        "cut": {"number": len(gaps) - len(shown_gaps), "duration": rest / 1e9},
    }


def _query(query: Query) -> dict[str, str]:
    return {"line": query.line, "sql": shown(query.sql)}
