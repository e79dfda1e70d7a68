"""Puts the events of a ring together again: runs of scopes, the checkouts of each, and when each was needed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.recording.image import Image

Segment = tuple[int, int]


class RecordedCheckout(NamedTuple):
    """One checkout. Times are nanoseconds of the monotonic clock."""

    asked: int
    wait: int
    hold: int
    outcome: int
    needed: tuple[Segment, ...]
    """Start and duration of each needed segment, in order."""


class RecordedRun(NamedTuple):
    """One run of a scope, as far as it concerns one database. Times are nanoseconds of the monotonic clock."""

    scope: str
    start: int
    end: int
    checkouts: tuple[RecordedCheckout, ...]
    ended: bool
    """False for what still ran, and for failed checkouts outside all scopes."""


class _Open:
    """What is known of a run whose end has not been met yet."""

    __slots__ = ("checkouts", "scope", "segments")

    def __init__(self) -> None:
        self.scope = 0
        self.checkouts: list[RecordedCheckout] = []
        self.segments: list[Segment] = []

    def add_checkout(self, record: tuple[int, ...]) -> None:
        _, _, _, outcome, flags, self.scope, _, _, _, _, asked, wait, hold, _, _, _, _ = record
        since = asked + wait
        if flags & layout.WHOLE:
            needed: tuple[tuple[int, int], ...] = ((since, hold),)
        else:
            end = since + hold
            # Two threads of one run may have a connection each: these segments are of the other's.
            others = [segment for segment in self.segments if not since <= segment[0] <= end]
            needed = tuple(sorted(segment for segment in self.segments if since <= segment[0] <= end))
            self.segments = others
        self.checkouts.append(RecordedCheckout(asked, wait, hold, outcome, needed))


def runs(image: Image, alias: int) -> Iterator[RecordedRun]:
    """Yield the runs that checked out connections of one alias (its section's number), by their end.

    Runs whose first events the ring has lost already are left out.
    """
    open_runs: defaultdict[int, _Open] = defaultdict(_Open)
    for record in image.records():
        kind = record[1]
        if record[2] != alias:
            continue
        scope_id = record[7]
        if kind == layout.CHECKOUT:
            open_runs[scope_id].add_checkout(record)
        elif kind == layout.SEGMENTS:
            fields = record[10 : 10 + 2 * record[8]]
            open_runs[scope_id].segments += zip(fields[::2], fields[1::2], strict=True)
        elif kind == layout.REQUEST:
            found = open_runs.pop(scope_id, None)
            checkouts = tuple(found.checkouts) if found is not None else ()
            if len(checkouts) >= record[9]:
                # A scope that was made for one checkout begins when the connection is there.
                start = min([record[10], *(checkout.asked for checkout in checkouts[:1])])
                yield RecordedRun(image.scope(record[5]), start, start + record[15], checkouts, ended=True)
    for left in open_runs.values():
        if left.checkouts:
            ends = [checkout.asked + checkout.wait + checkout.hold for checkout in left.checkouts]
            start = left.checkouts[0].asked
            yield RecordedRun(image.scope(left.scope), start, max(ends), tuple(left.checkouts), ended=False)
