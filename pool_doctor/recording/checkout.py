"""One connection that is out: since when, for whom, how much of that it is needed, and what ran on it.

This is the hot path, with channel.py: calls are written out where a call would cost as much as its body, and what
can be derived when a file is read is not written.
"""

from __future__ import annotations

import sys
from time import monotonic_ns
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.histogram import BUCKET_TABLE, TABLED, UNIT_BITS, bucket_of

if TYPE_CHECKING:
    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.ring import Ring
    from pool_doctor.recording.scope import Scope

_write_event = layout.EVENT.pack_into
_PADDING = (0,) * layout.SEGMENT_FIELDS


class Checkout:
    """From the moment a connection is there until it goes back. Made by Channel; all times are nanoseconds."""

    channel: Channel
    ring: Ring
    scope: Scope
    run = 0
    """The id of the run that it belongs to, which is the scope's where it is not alone."""
    asked: int
    """When the connection was asked for."""
    since = 0
    """When it was there."""
    needed_since: int
    """Since when a cursor or transaction is open on it; 0 while none is."""
    site: int
    """The number of the line that caused the checkout."""
    row = 0
    """The first word of its row in the table of open checkouts; 0 where the table was full."""
    idle_cell = layout.SCRATCH
    """The word that says since when no query runs."""
    alone = 0
    """layout.ALONE where it lies outside all scopes."""
    closed = False
    needed = 0
    queries = 0
    query_time = 0
    segments: tuple[int, ...] = ()
    """Start and duration of each needed segment that has ended and is not in an event yet."""

    def rename(self) -> None:
        """Show the scope's new name in the table of open checkouts."""
        number = self.ring.scopes.number(self.scope.name)
        if self.row:
            self.ring.cells[self.row + layout.OPEN_SCOPE] = number

    def query_started(self) -> int:
        """Note that a query begins; return the time."""
        self.ring.cells[self.idle_cell] = 0
        return monotonic_ns()

    def query_ended(self, started: int, count: int = 1, sql: object = None, in_transaction: bool = False) -> None:
        """Note that the query that began at ``started`` has ended, well or not; ``count`` 0: one more fetch of it.

        ``sql`` and ``in_transaction`` are for the scope's collector; see there.
        """
        now = monotonic_ns()
        self.ring.cells[self.idle_cell] = now
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
        self.ring.cells[self.idle_cell] = now
        if self.scope.collector is not None:
            self.scope.collector.transaction_ended(self, started, now)

    def need_ended(self) -> None:
        """Note that the connection is not needed any more: it could go back now."""
        now = monotonic_ns()
        started = self.needed_since
        self.needed_since = 0
        self.needed += now - started
        self.segments += (started, now - started)
        if len(self.segments) == layout.SEGMENT_FIELDS:
            self.write_segments()
        if self.scope.collector is not None:
            self.scope.collector.segment(self, started, now)

    def write_segments(self) -> None:
        """Write the needed segments that were noted since the last time, in one event."""
        segments = self.segments
        number = len(segments) // 2
        self.ring.record(
            layout.SEGMENTS,
            self.channel.index,
            layout.OK,
            0,
            self.ring.scope_numbers.get(self.scope.name, 0),
            self.site,
            self.run,
            number,
            0,
            *segments,
            *_PADDING[len(segments) :],
        )
        self.segments = ()

    def pinned(self, kind: str, site: int) -> None:
        """Note that a statement of this kind, at this line, keeps the connection from going back."""
        ring = self.ring
        line = ring.sites.name(site)
        number = ring.sites.number(f"{kind} at {line}" if line else kind)
        if self.row:
            ring.cells[self.row + layout.OPEN_PINNED] = number
        ring.record(
            layout.PIN,
            self.channel.index,
            layout.OK,
            0,
            ring.scope_numbers.get(self.scope.name, 0),
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
        hold = now - self.since
        if self.needed_since == self.since:
            flags = layout.WHOLE
            self.needed = hold
            self.needed_since = 0
        else:
            flags = 0
            if self.needed_since:
                self.need_ended()
            if self.segments:
                self.write_segments()
        needed = self.needed
        channel = self.channel
        ring = self.ring
        cells = ring.cells
        cells[channel.in_use] -= 1
        if self.row:
            cells[self.row] = 0
            ring.free_rows.append(self.row)
        units = hold >> UNIT_BITS
        channel.hold[BUCKET_TABLE[units] if units < TABLED else bucket_of(hold)] += 1
        units = needed >> UNIT_BITS
        channel.needed[BUCKET_TABLE[units] if units < TABLED else bucket_of(needed)] += 1
        scope = self.scope
        name = ring.scope_numbers.get(scope.name, 0)
        number = ring.claim()
        _write_event(
            ring.memory,
            ring.events_at + number % ring.ring_size * layout.EVENT_BYTES,
            number,
            layout.CHECKOUT,
            channel.index,
            layout.OK,
            flags | self.alone,
            name,
            self.site,
            self.run,
            self.queries,
            0,
            self.asked,
            self.since - self.asked,
            hold,
            needed,
            self.query_time,
            0,
            number & 0xFFFFFFFF,
        )
        if self.alone:
            cells[ring.runs + name] += 1
            channel.add_run(name, 1, self.queries, self.since - self.asked, hold, needed, self.query_time)
            return
        self.settle(hold, needed)
        scope.open.discard(self)
        if scope.collector is not None:
            scope.collector.returned(self, now)

    def settle(self, hold: int, needed: int) -> None:
        """Add this checkout, with what it was held and needed until now, to the sums of its scope."""
        usage = self.scope.usages.get(self.channel) or self.scope.usage(self.channel)
        usage.checkouts += 1
        usage.queries += self.queries
        usage.wait += self.since - self.asked
        usage.hold += hold
        usage.needed += needed
        usage.query_time += self.query_time

    def settle_open(self, now: int) -> None:
        """Add what was used until now to the sums of the scope, which ends before the connection goes back."""
        needed = self.needed + (now - self.needed_since if self.needed_since else 0)
        self.settle(now - self.since, needed)


class UnpooledCheckout(Checkout):
    """A checkout without a pool: a connection that is collected with its wrapper is closed, not lost."""

    def __del__(self) -> None:
        if self.since and not self.closed and not sys.is_finalizing():
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
