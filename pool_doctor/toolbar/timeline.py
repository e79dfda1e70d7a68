"""The timeline of a request: what to draw where, in per cent of its duration.

All numbers that end up in the drawing are texts already: a template would write them in the reader's language.
"""

from __future__ import annotations

from collections import defaultdict
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from pool_doctor.analysis.counterfactual import apart
from pool_doctor.analysis.trace import Checkout
from pool_doctor.report.words import duration
from pool_doctor.toolbar.collector import Failure, Held
from pool_doctor.toolbar.statements import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pool_doctor.toolbar.collector import Query
    from pool_doctor.toolbar.gaps import Gap

MAX_LANES = 8
"""Connections that are drawn one below the other; a request rarely has two at once."""
NARROWEST = 0.16
"""In per cent: what is shorter gets this width, and what would be nearer to each other is drawn as one."""
FAINTEST = 0.2
"""The least opacity of marks that are drawn as one."""
LABELLED = 10.0
"""In per cent: from this width on, an idle gap says how long it is."""
TICKS = 6

_TOP = 18
_LANE = 36


class _Kind(NamedTuple):
    """How one kind of time is drawn, in pixels from the top of its lane."""

    name: str
    several: str
    y: int
    height: int


_IDLE = _Kind("idle", "idle gaps", 18, 4)
_NEEDED = _Kind("needed", "times needed", 13, 14)
_QUERY = _Kind("query", "queries", 13, 14)
_WAIT = _Kind("wait", "waits", 13, 14)
_FAILED = _Kind("failed", "failed checkouts", 13, 14)
_TRANSACTION = _Kind("transaction", "transactions", 30, 3)


class _Span(NamedTuple):
    """Something to draw: start and end in nanoseconds, and what it is."""

    start: int
    end: int
    what: Query | str


Lane = list[Held | Failure]


def lanes(entries: Sequence[Held | Failure]) -> list[Lane]:
    """Split checkouts into as few rows as possible in which none overlaps the next: a row for each one at a time."""
    checkouts = [Checkout(entry.asked / 1e9, 0.0, (entry.ended - entry.asked) / 1e9) for entry in entries]
    by_checkout = {id(checkout): entry for checkout, entry in zip(checkouts, entries, strict=True)}
    return [[by_checkout[id(checkout)] for checkout in lane] for lane in apart(checkouts)]


def timeline(rows: Sequence[Lane], idle: Iterable[Gap], started: int, ended: int) -> dict[str, Any]:
    """Return what the template draws, JSON-safe."""
    gaps: dict[int, list[Gap]] = defaultdict(list)
    for gap in idle:
        gaps[id(gap.held)].append(gap)
    scale = _Scale(started, ended)
    drawn = rows[:MAX_LANES]
    bottom = _TOP + _LANE * len(drawn)
    return {
        "height": str(bottom + 2),
        "ticks": scale.ticks(),
        "lanes": [_lane(row, gaps, _TOP + _LANE * number, scale) for number, row in enumerate(drawn)],
        "lanes_cut": len(rows) - len(drawn),
    }


def _lane(row: Lane, gaps: Mapping[int, list[Gap]], top: int, scale: _Scale) -> dict[str, Any]:
    held = [entry for entry in row if isinstance(entry, Held)]
    idle = [gap for one in held for gap in gaps[id(one)]]
    spans: list[tuple[_Kind, Iterable[_Span]]] = [
        (_IDLE, (_Span(gap.started, gap.ended, "Idle while held") for gap in idle)),
        (_NEEDED, (_Span(*segment, "Needed") for one in held for segment in one.segments)),
        (_QUERY, (_Span(query.started, query.ended, query) for one in held for query in one.queries)),
        (_WAIT, (_Span(one.asked, one.since, "Waited") for one in held)),
        (_FAILED, (_Span(one.asked, one.ended, "Got no connection") for one in row if isinstance(one, Failure))),
        (_TRANSACTION, (_Span(*times, "In a transaction") for one in held for times in one.transactions)),
    ]
    return {
        "top": str(top),
        "kinds": [
            {"name": kind.name, "y": str(kind.y), "height": str(kind.height), "marks": marks}
            for kind, of_kind in spans
            if (marks := scale.marks(of_kind, kind))
        ],
        "labels": scale.labels((gap.started, gap.ended) for gap in idle),
    }


def _title(what: Query | str, nanoseconds: int) -> str:
    name = what if isinstance(what, str) else f"Query {what.line} {shown(what.sql)}".rstrip()
    return f"{name}: {duration(nanoseconds / 1e9)}"


class _Scale:
    """Turns times into per cent of the request."""

    def __init__(self, started: int, ended: int) -> None:
        self.started = started
        self.length = max(1, ended - started)

    def _percent(self, time: int) -> float:
        return min(100.0, max(0.0, 100 * (time - self.started) / self.length))

    def marks(self, spans: Iterable[_Span], kind: _Kind) -> list[dict[str, str]]:
        """Return the marks of one kind; those that would touch are one, as dense as they fill it."""
        merged: list[tuple[float, float, int, int, Query | str]] = []
        for start, end, what in sorted(spans, key=itemgetter(0, 1)):
            x, right = self._percent(start), self._percent(end)
            if kind is _WAIT and right - x < NARROWEST:  # the time that a pool takes to say yes
                continue
            right = min(100.0, max(right, x + NARROWEST))
            x = min(x, right - NARROWEST)
            if merged and x - merged[-1][1] < NARROWEST:
                left, before, number, total, _ = merged[-1]
                merged[-1] = (left, max(before, right), number + 1, total + end - start, "")
            else:
                merged.append((x, right, 1, end - start, what))
        return [self._mark(*mark, kind) for mark in merged]

    def _mark(self, x: float, right: float, number: int, total: int, what: Query | str, kind: _Kind) -> dict[str, str]:
        several = number > 1
        density = max(FAINTEST, min(1.0, 100 * total / self.length / (right - x))) if several else 1.0
        return {
            "x": f"{x:.2f}",
            "width": f"{right - x:.2f}",
            "density": f"{density:.2f}",
            "title": _title(f"{number} {kind.several}" if several else what, total),
        }

    def labels(self, times: Iterable[tuple[int, int]]) -> list[dict[str, str]]:
        """Return the names of those idle gaps that have room for one."""
        return [
            {"x": f"{(left + right) / 2:.2f}", "text": f"idle {duration((end - start) / 1e9)}"}
            for start, end in times
            if (right := self._percent(end)) - (left := self._percent(start)) >= LABELLED
        ]

    def ticks(self) -> list[dict[str, str]]:
        """Return the moments to name on the axis, at round durations from the beginning of the request."""
        step = next(step for step in _steps() if step * TICKS >= self.length)
        ticks = []
        for time in range(0, self.length + 1, step):
            x = 100 * time / self.length
            anchor = "start" if not time else "end" if x > 95 else "middle"
            ticks.append({"x": f"{x:.2f}", "anchor": anchor, "label": duration(time / 1e9)})
        return ticks


def _steps() -> Iterator[int]:
    unit = 1
    while True:
        yield from (unit, 2 * unit, 5 * unit)
        unit *= 10
