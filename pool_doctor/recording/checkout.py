"""One connection that is out: since when, for whom, how much of that it is needed, and what ran on it.

This is the hot path. Calls are written out where a call would cost as much as its body, and what is rarely set
has its first value on the class.
"""

from __future__ import annotations

import itertools
import sys
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.ring import Ring
    from pool_doctor.recording.scope import Scope, Usage

_next_serial = itertools.count(1).__next__
_write_open_row = layout.OPEN_ROW.pack_into
_write_event = layout.EVENT.pack_into


class Checkout:
    """From the moment a connection is there until it goes back. All times are nanoseconds."""

    channel: Channel
    ring: Ring
    scope: Scope
    usage: Usage
    asked: int
    """When the connection was asked for."""
    since: int
    """When it was there."""
    needed_since: int
    """Since when a cursor or transaction is open on it; 0 while none is."""
    site: int
    """The number of the line that caused the checkout."""
    row: int
    """The first word of its row in the table of open checkouts; 0 where the table was full."""
    idle_cell: int
    implicit = False
    """Whether its scope was made for this checkout alone."""
    closed = False
    needed = 0
    queries = 0
    query_time = 0
    _seen_queries = 0
    _seen_query_time = 0

    def __init__(self, channel: Channel, scope: Scope, site: int, asked: int, since: int) -> None:
        self.channel = channel
        self.ring = ring = channel.ring
        self.scope = scope
        self.site = site
        self.asked = asked
        self.since = self.needed_since = since
        self.usage = scope.usages.get(channel) or scope.usage(channel)
        scope.open.add(self)
        name = ring.scope_numbers.get(scope.name) or ring.scopes.number(scope.name)
        if ring.free_rows:
            self.row = row = ring.free_rows.pop()
            self.idle_cell = row + layout.OPEN_IDLE_SINCE
            serial = _next_serial()
            _write_open_row(
                ring.memory,
                row << 3,
                serial,
                channel.index,
                name,
                site,
                since,
                since,
                0,
                serial,
            )
        else:
            self.row = 0
            self.idle_cell = layout.SCRATCH

    def rename(self) -> None:
        """Show the scope's new name in the table of open checkouts."""
        number = self.ring.scopes.number(self.scope.name)
        if self.row:
            self.ring.cells[self.row + layout.OPEN_SCOPE] = number

    def query_started(self) -> int:
        """Note that a query begins; return the time."""
        self.ring.cells[self.idle_cell] = 0
        return monotonic_ns()

    def query_ended(self, started: int, count: int = 1) -> None:
        """Note that the query that began at ``started`` has ended, well or not; ``count`` 0: one more fetch of it."""
        now = monotonic_ns()
        self.queries += count
        self.query_time += now - started
        self.ring.cells[self.idle_cell] = now
        if self.scope.collector is not None:
            self.scope.collector.query(self, started, now)

    def transaction_ended(self, started: int) -> None:
        """Note that a commit or rollback that began at ``started`` is done: time in which the server works."""
        now = monotonic_ns()
        self.query_time += now - started
        self.ring.cells[self.idle_cell] = now

    def need_ended(self) -> None:
        """Note that the connection is not needed any more: it could go back now."""
        now = monotonic_ns()
        started = self.needed_since
        duration = now - started
        self.needed_since = 0
        self.needed += duration
        queries = self.queries
        query_time = self.query_time
        scope = self.scope
        ring = self.ring
        number = ring.claim()
        serial = (number + 1) & 0xFFFFFFFF
        _write_event(
            ring.memory,
            ring.events_at + number % ring.ring_size * layout.EVENT_BYTES,
            serial,
            layout.SEGMENT,
            self.channel.index,
            layout.OK,
            0,
            ring.scope_numbers.get(scope.name, 0),
            self.site,
            scope.id,
            queries - self._seen_queries,
            0,
            started,
            duration,
            0,
            0,
            query_time - self._seen_query_time,
            0,
            serial,
        )
        ring.cells[layout.RECORDED] = number + 1
        self._seen_queries = queries
        self._seen_query_time = query_time
        if scope.collector is not None:
            scope.collector.segment(self, started, now)

    def returned(self, pool: Any = None) -> None:
        """Note that the connection went back, and write the checkout's event. Only the first call counts."""
        if self.closed:
            return
        self.closed = True
        flags = layout.WHOLE if self.needed_since == self.since else 0
        if self.needed_since and not flags:
            self.need_ended()
        now = monotonic_ns()
        channel = self.channel
        ring = self.ring
        cells = ring.cells
        hold = now - self.since
        if flags:
            self.needed = hold
        cells[channel.in_use] -= 1
        if pool is not None:
            cells[channel.size], cells[channel.available] = channel.gauge(pool)
        if self.row:
            cells[self.row] = 0
            ring.free_rows.append(self.row)
        channel.count_hold(hold, self.needed)
        scope = self.scope
        self.settle(now)
        scope.open.discard(self)
        number = ring.claim()
        serial = (number + 1) & 0xFFFFFFFF
        _write_event(
            ring.memory,
            ring.events_at + number % ring.ring_size * layout.EVENT_BYTES,
            serial,
            layout.CHECKOUT,
            channel.index,
            layout.OK,
            flags,
            ring.scope_numbers.get(scope.name, 0),
            self.site,
            scope.id,
            self.queries,
            0,
            self.asked,
            self.since - self.asked,
            hold,
            self.needed,
            self.query_time,
            0,
            serial,
        )
        cells[layout.RECORDED] = number + 1
        cells[layout.UPDATED] = now
        if scope.collector is not None:
            scope.collector.returned(self, now)
        if self.implicit:
            scope.end(ring)

    def settle(self, now: int) -> None:
        """Add what this checkout has used until now to the sums of its scope."""
        usage = self.usage
        usage.checkouts += 1
        usage.queries += self.queries
        usage.wait += self.since - self.asked
        usage.hold += now - self.since
        usage.needed += self.needed if self.closed or not self.needed_since else self.needed + now - self.needed_since
        usage.query_time += self.query_time


class UnpooledCheckout(Checkout):
    """A checkout without a pool: a connection that is collected with its wrapper is closed, not lost."""

    def __del__(self) -> None:
        if not self.closed and not sys.is_finalizing():
            self.returned()


class OwnConnection:
    """Counts a connection that belongs to no pool, from when it is made until it is closed or collected."""

    def __init__(self, channel: Channel) -> None:
        self._cells = channel.cells
        self._size = channel.size
        self._cells[self._size] += 1

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self._cells[self._size] -= 1
