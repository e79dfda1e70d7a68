"""Puts the events of a ring together again: runs of scopes, the checkouts of each, and when each was needed."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.recording.image import Image

Segment = tuple[int, int]

_FIRST_SERVED = layout.FIRST | layout.SERVED


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
    """False for what still ran."""
    served: bool = False
    """Whether it was a web server's request; False as well where it had not ended."""
    queued: int | None = None
    """How long it had waited for a thread before it began, to the millisecond; None where nobody said."""


class _Open:
    """What is known of a run whose end has not been met yet."""

    __slots__ = ("checkouts", "scope", "segments")

    def __init__(self) -> None:
        self.scope = 0
        self.checkouts: list[RecordedCheckout] = []
        self.segments: list[Segment] = []

    def add_checkout(self, record: tuple[int, ...]) -> None:
        _, _, _, outcome, flags, self.scope, _, _, _, _, asked, wait, hold, sole, _, after, _ = record
        since = asked + wait
        if flags & layout.SOLE:
            needed: tuple[Segment, ...] = ((since + after, sole),)
        else:
            end = since + hold
            # Two threads of one run may have a connection each: these segments are of the other's.
            others = [segment for segment in self.segments if not since <= segment[0] <= end]
            needed = tuple(sorted(segment for segment in self.segments if since <= segment[0] <= end))
            self.segments = others
        self.checkouts.append(RecordedCheckout(asked, wait, hold, outcome, needed))


def runs(image: Image, alias: int) -> Iterator[RecordedRun]:
    """Yield the runs that checked out connections of one alias (its section's number), by their end.

    Then follow a web server's requests that did not, for they took up a thread as well. Runs whose first events the
    ring has lost already are left out.
    """
    open_runs: defaultdict[int, _Open] = defaultdict(_Open)
    elsewhere: dict[int, tuple[int, ...]] = {}
    # Runs that ended before their last connection went back, or whose first events are lost.
    ended: dict[int, tuple[int, ...]] = {}
    for record in image.records():
        kind, scope_id = record[1], record[7]
        if record[2] != alias:
            # A run that used several aliases has one such event for each; this one's may follow the first.
            if kind == layout.REQUEST and record[4] & _FIRST_SERVED == _FIRST_SERVED:
                elsewhere[scope_id] = record
        elif kind == layout.CHECKOUT:
            open_runs[scope_id].add_checkout(record)
            if scope_id in ended and len(open_runs[scope_id].checkouts) >= ended[scope_id][9]:
                yield _ended(image, ended.pop(scope_id), tuple(open_runs.pop(scope_id).checkouts))
        elif kind == layout.SEGMENTS:
            fields = record[10 : 10 + min(2 * record[8], layout.SEGMENT_FIELDS)]
            open_runs[scope_id].segments += zip(fields[::2], fields[1::2], strict=True)
        elif kind == layout.REQUEST:
            elsewhere.pop(scope_id, None)
            if len(open_runs[scope_id].checkouts) >= record[9]:
                yield _ended(image, record, tuple(open_runs.pop(scope_id).checkouts))
            else:
                ended[scope_id] = record
    left = (run for scope_id, run in open_runs.items() if run.checkouts and scope_id not in ended)
    yield from (_unfinished(image, run) for run in left)
    yield from (_ended(image, record, ()) for record in elsewhere.values())


def _unfinished(image: Image, left: _Open) -> RecordedRun:
    ends = [checkout.asked + checkout.wait + checkout.hold for checkout in left.checkouts]
    return RecordedRun(image.scope(left.scope), left.checkouts[0].asked, max(ends), tuple(left.checkouts), ended=False)


def _ended(image: Image, record: tuple[int, ...], checkouts: tuple[RecordedCheckout, ...]) -> RecordedRun:
    served = bool(record[4] & layout.SERVED)
    queued = record[6] * 1_000_000 if served and record[6] != layout.UNKNOWN_QUEUED else None
    return RecordedRun(image.scope(record[5]), record[10], record[10] + record[15], checkouts, True, served, queued)
