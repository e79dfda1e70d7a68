"""The idle gaps of a connection that is held: how long no query ran, between which lines, and what needed it."""

from __future__ import annotations

from bisect import bisect_right
from itertools import islice
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pool_doctor.toolbar.collector import Held, Interval, Query

NOTHING, TRANSACTION, PIN, CURSOR = "nothing", "transaction", "pin", "cursor"
"""What a connection is needed for while no query runs on it."""


class Gap(NamedTuple):
    """A time in which a connection was held and no query ran, and was or was not needed. Times are nanoseconds."""

    started: int
    ended: int
    before: Query | None
    """The last query before it; None where the connection had just been taken."""
    after: Query | None
    """The next query after it; None where the connection went back, or the response was there."""
    kept_by: str
    """What it was needed for."""
    held: Held

    @property
    def duration(self) -> int:
        """How long it lasted."""
        return self.ended - self.started

    @property
    def between_queries(self) -> bool:
        """Whether it lasted from one query to the next."""
        before, after = self.before, self.after
        return before is not None and after is not None and (self.started, self.ended) == (before.ended, after.started)


def gaps(held: Held) -> Iterator[Gap]:
    """Yield the gaps of one checkout, in order."""
    before: Query | None = None
    end = held.since
    for query in sorted(held.queries, key=attrgetter("started")):
        yield from _between(held, end, query.started, before, query)
        # A fetch or a query of another thread may lie within a longer one.
        if query.ended >= end:
            before, end = query, query.ended
    yield from _between(held, end, held.ended, before, None)


def _between(held: Held, started: int, ended: int, before: Query | None, after: Query | None) -> Iterator[Gap]:
    at = started
    for start, end in _overlapping(held.segments, started, ended):
        if start > at:
            yield Gap(at, start, before, after, NOTHING, held)
        yield Gap(start, end, before, after, _kept_by(held, start, end), held)
        at = end
    if ended > at:
        yield Gap(at, ended, before, after, NOTHING, held)


def _kept_by(held: Held, started: int, ended: int) -> str:
    inside = sum(end - start for start, end in _overlapping(held.transactions, started, ended))
    if inside > (ended - started) / 2:
        return TRANSACTION
    return PIN if held.pins else CURSOR


def _overlapping(intervals: Sequence[Interval], started: int, ended: int) -> Iterator[Interval]:
    """Yield what of the intervals, which are in order and apart from each other, lies in a time."""
    first = bisect_right(intervals, started, key=itemgetter(1))
    for start, end in islice(intervals, first, None):
        if start >= ended:
            return
        yield max(start, started), min(end, ended)


def longest(found: Sequence[Gap], number: int) -> list[Gap]:
    """Return the longest gaps, the longest first."""
    return sorted(found, key=attrgetter("duration"), reverse=True)[:number]
