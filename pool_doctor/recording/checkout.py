"""One connection that is out: since when, for whom, how much of that it is needed, and what ran on it.

This is the hot path, with channel.py: calls are written out where a call would cost as much as its body, and what
can be derived when a file is read is not written.
"""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.histogram import BUCKET_TABLE, UNIT_BITS, bucket_of
from pool_doctor.recording.layout import EVENT_BYTES, OPEN_IDLE_SINCE, SCRATCH_ROW, SEGMENT_FIELDS, SOLE

if TYPE_CHECKING:
    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.ring import Ring
    from pool_doctor.recording.scope import Scope

_write_event = layout.SHORT_EVENT.pack_into
_PADDING = (0,) * SEGMENT_FIELDS


class Checkout:
    """From the moment a connection is there until it goes back. Made by Channel; all times are nanoseconds."""

    __slots__ = (
        "alone",
        "asked",
        "channel",
        "closed",
        "name",
        "needed",
        "needed_since",
        "queries",
        "query_time",
        "ring",
        "row",
        "run",
        "scope",
        "segments",
        "several",
        "since",
        "site",
    )

    channel: Channel
    ring: Ring
    scope: Scope
    name: int
    """The number of the scope's name."""
    run: int
    """The id of the run that it belongs to, which is the scope's where it is not alone."""
    alone: int
    """layout.ALONE where it lies outside all scopes."""
    site: int
    """The number of the line that caused the checkout."""
    row: int
    """The first word of its row in the table of open checkouts."""
    asked: int
    """When the connection was asked for."""
    since: int
    """When it was there."""
    closed: bool
    needed_since: int
    """Since when a cursor or transaction is open on it; 0 while none is."""
    needed: int
    """How long it was needed, without what began at ``needed_since``."""
    segments: tuple[int, ...]
    """Start and duration of each needed segment that has ended and is not in an event yet."""
    several: bool
    """Whether some are in an event."""
    queries: int
    query_time: int

    def rename(self) -> None:
        """Note that the scope has a new name."""
        self.name = number = self.ring.scopes.number(self.scope.name)
        self.ring.cells[self.row + layout.OPEN_SCOPE] = number

    def query_started(self) -> int:
        """Note that a query begins; return the time."""
        self.ring.cells[self.row + OPEN_IDLE_SINCE] = 0
        return monotonic_ns()

    def query_ended(self, started: int, count: int = 1, sql: object = None, in_transaction: bool = False) -> None:
        """Note that the query that began at ``started`` has ended, well or not; ``count`` 0: one more fetch of it.

        ``sql`` and ``in_transaction`` are for the scope's collector; see there.
        """
        now = monotonic_ns()
        self.ring.cells[self.row + OPEN_IDLE_SINCE] = now
        self.queries += count
        self.query_time += now - started
        if self.scope.collector is not None:
            self.scope.collector.query(self, started, now, sql, in_transaction)

    def transaction_began(self) -> None:
        """Note that an atomic block begins, which needs the connection until its commit or rollback."""
        if self.scope.collector is not None:
            self.scope.collector.transaction_began(self, monotonic_ns())

    def transaction_ended(self, started: int) -> None:
        """Note that a commit or rollback that began at ``started`` is done: time in which the server works."""
        now = monotonic_ns()
        self.query_time += now - started
        self.ring.cells[self.row + OPEN_IDLE_SINCE] = now
        if self.scope.collector is not None:
            self.scope.collector.transaction_ended(self, started, now)

    def need_ended(self) -> None:
        """Note that the connection is not needed any more: it could go back now."""
        now = monotonic_ns()
        started = self.needed_since
        lasted = now - started
        self.needed_since = 0
        self.needed += lasted
        self.segments += (started, lasted)
        if len(self.segments) == SEGMENT_FIELDS:
            self.write_segments()
        if self.scope.collector is not None:
            self.scope.collector.segment(self, started, now)

    def write_segments(self) -> None:
        """Write the needed segments that were noted since the last time, in one event."""
        segments = self.segments
        self.segments = ()
        self.several = True
        start, lasted, next_start, next_lasted, last_start, last_lasted = segments + _PADDING[len(segments) :]
        ring = self.ring
        number = ring.claim()
        _write_event(
            ring.memory,
            ring.events_at + number % ring.ring_size * EVENT_BYTES,
            number,
            self.channel.head_of_segments,
            self.name,
            self.site,
            self.run,
            len(segments) // 2,
            start,
            lasted,
            next_start,
            next_lasted,
            last_start,
            last_lasted,
            number & 0xFFFFFFFF,
        )

    def pinned(self, kind: str, site: int) -> None:
        """Note that a statement of this kind, at this line, keeps the connection from going back."""
        ring = self.ring
        line = ring.sites.name(site)
        number = ring.sites.number(f"{kind} at {line}" if line else kind)
        ring.cells[self.row + layout.OPEN_PINNED] = number
        ring.record(
            layout.PIN,
            self.channel.index,
            layout.OK,
            0,
            self.name,
            number,
            self.run,
            0,
            0,
            monotonic_ns(),
            0,
            0,
            0,
            0,
            0,
        )
        if self.scope.collector is not None:
            self.scope.collector.pinned(self, kind, site)

    def returned(self) -> None:
        """Note that the connection goes back, and write the checkout's event. Only the first call counts."""
        if self.closed:
            return
        self.closed = True
        now = monotonic_ns()
        since = self.since
        wait = since - self.asked
        hold = now - since
        if self.needed_since == since:
            flags, needed, after = SOLE, hold, 0
            self.needed, self.needed_since = hold, 0
        else:
            flags, needed, after = self._needed()
        channel = self.channel
        ring = self.ring
        cells = ring.cells
        cells[channel.in_use] -= 1
        row = self.row
        cells[row] = 0
        if row != SCRATCH_ROW:
            ring.free_rows.append(row)
        try:
            channel.hold[BUCKET_TABLE[hold >> UNIT_BITS]] += 1
        except IndexError:
            channel.hold[bucket_of(hold)] += 1
        try:
            channel.needed[BUCKET_TABLE[needed >> UNIT_BITS]] += 1
        except IndexError:
            channel.needed[bucket_of(needed)] += 1
        number = ring.claim()
        _write_event(
            ring.memory,
            ring.events_at + number % ring.ring_size * EVENT_BYTES,
            number,
            channel.heads[flags | self.alone],
            self.name,
            self.site,
            self.run,
            self.queries,
            self.asked,
            wait,
            hold,
            needed,
            self.query_time,
            after,
            number & 0xFFFFFFFF,
        )
        scope = self.scope
        if self.alone:
            cells[ring.runs + self.name] += 1
            channel.add_run(self.name, 1, self.queries, wait, hold, needed, self.query_time)
        else:
            scope.settle(self, wait, hold, needed)
            if scope.collector is not None:
                scope.collector.returned(self, now)

    def _needed(self) -> tuple[int, int, int]:
        """Return flag, duration and start of the need as the event has them, where it was not needed throughout."""
        if self.needed_since:
            self.need_ended()
        if len(self.segments) == 2 and not self.several:
            started, lasted = self.segments
            return SOLE, lasted, started - self.since
        if self.segments:
            self.write_segments()
        return 0, self.needed, 0

    def settle_open(self, now: int) -> None:
        """Add what was used until now to the sums of the scope, which ends before the connection goes back."""
        needed = self.needed + (now - self.needed_since if self.needed_since else 0)
        self.scope.settle(self, self.since - self.asked, now - self.since, needed)


class UnpooledCheckout(Checkout):
    """A checkout without a pool: a connection that is collected with its wrapper is closed, not lost."""

    def __del__(self) -> None:
        if not getattr(self, "closed", True) and not sys.is_finalizing():
            self.returned()


class OwnConnection:
    """Counts a connection that belongs to no pool, from when it is made until it is closed or collected."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        channel.cells[channel.size] += 1

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._channel.cells[self._channel.size] -= 1
