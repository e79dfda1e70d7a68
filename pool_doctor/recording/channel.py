"""One database alias in this process: its counters, histograms and peaks, and how checkouts begin and fail."""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic_ns
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.checkout import Checkout, UnpooledCheckout
from pool_doctor.recording.histogram import BUCKET_TABLE, BUCKETS, UNIT_BITS, bucket_of
from pool_doctor.recording.layout import (
    MINUTE_CHECKOUTS,
    MINUTE_PEAK_IN_USE,
    MINUTE_PEAK_WAITING,
    TOTAL_CHECKOUTS,
    TOTAL_HOLD,
    TOTAL_NEEDED,
    TOTAL_QUERIES,
    TOTAL_QUERY_TIME,
    TOTAL_WAIT,
    TOTAL_WORDS,
    WORD,
)
from pool_doctor.recording.scope import current, next_id, thread_scope

if TYPE_CHECKING:
    from pool_doctor.recording.ring import Ring
    from pool_doctor.recording.snapshot import PoolSettings

_write_open_row = layout.OPEN_ROW.pack_into


@dataclass(frozen=True, slots=True)
class Description:
    """What is fixed about an alias: how it is configured in this process."""

    alias: str
    engine: str
    policy: str
    pool: PoolSettings | None


class Channel:
    """The writer of one alias section. Attributes named after words of the layout are where those words are."""

    def __init__(self, ring: Ring, index: int, description: Description) -> None:
        self.ring = ring
        self.index = index
        self.alias = description.alias
        self.description = description
        self.base = base = ring.geometry.aliases // layout.WORD + index * layout.ALIAS_WORDS
        self.size = base + layout.SIZE
        self.available = base + layout.AVAILABLE
        self.in_use = base + layout.IN_USE
        self.waiting = base + layout.WAITING
        self._totals = base + layout.TOTALS
        self.heads = [
            layout.head(layout.CHECKOUT, index, layout.OK, flags) for flags in range(layout.CHECKOUT_FLAGS + 1)
        ]
        """How the event of a checkout begins, by its flags."""
        self.head_of_segments = layout.head(layout.SEGMENTS, index, layout.OK, 0)
        self.unpooled = description.pool is None
        self._checkout_class = UnpooledCheckout if self.unpooled else Checkout
        self._minute_end = 0
        self._minute_row = 0
        self.attach()
        self._describe()

    def detach(self) -> None:
        """Let go of the ring's memory, which is about to be the parent's alone."""
        for words in (self.wait, self.hold, self.needed):
            words.release()

    def attach(self) -> None:
        """Write to the memory that the ring has now."""
        base = self.base
        self.cells = cells = self.ring.cells
        self.wait = cells[base + layout.WAIT : base + layout.WAIT + BUCKETS]
        self.hold = cells[base + layout.HOLD : base + layout.HOLD + BUCKETS]
        self.needed = cells[base + layout.NEEDED : base + layout.NEEDED + BUCKETS]

    def _describe(self) -> None:
        about = self.description
        pool = about.pool
        numbers = (
            (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
            if pool is None
            else (
                float(pool.min_size),
                float(pool.max_size),
                pool.timeout,
                float(pool.max_waiting),
                pool.max_lifetime,
                pool.max_idle,
            )
        )
        layout.ALIAS.pack_into(
            self.ring.memory,
            self.base * layout.WORD,
            layout.clip(about.alias, 64),
            layout.clip(about.engine, 128),
            layout.clip(about.policy, 16),
            *numbers,
        )
        if self.cells[layout.ALIASES] <= self.index:
            self.cells[layout.ALIASES] = self.index + 1

    def ask(self) -> int:
        """Note that a connection is asked for, which may have to be waited for; return the time."""
        cells = self.cells
        cells[self.waiting] = waiting = cells[self.waiting] + 1
        now = monotonic_ns()
        if now >= self._minute_end:
            self._next_minute(now)
        if waiting > cells[self._minute_row + MINUTE_PEAK_WAITING]:
            self._new_peak(MINUTE_PEAK_WAITING, layout.PEAK_WAITING, waiting)
        return now

    def got(self, asked: int, site: int, *, at_once: bool = False) -> Checkout:
        """Begin the checkout of the connection that was asked for at ``asked`` and is there now.

        ``at_once`` says that there was no ask(), because one was at hand.
        """
        now = monotonic_ns()
        wait = now - asked
        cells = self.cells
        if not at_once:
            cells[self.waiting] -= 1
        if now >= self._minute_end:
            self._next_minute(now)
        cells[self.in_use] = in_use = cells[self.in_use] + 1
        minute = self._minute_row
        cells[minute + MINUTE_CHECKOUTS] += 1
        if in_use > cells[minute + MINUTE_PEAK_IN_USE]:
            self._new_peak(MINUTE_PEAK_IN_USE, layout.PEAK_IN_USE, in_use)
        try:
            self.wait[BUCKET_TABLE[wait >> UNIT_BITS]] += 1
        except IndexError:
            self.wait[bucket_of(wait)] += 1
        scope = current.get()
        if scope is None or scope.ended:
            scope = thread_scope()
        checkout = self._checkout_class()
        checkout.channel = self
        checkout.ring = ring = self.ring
        checkout.scope = scope
        try:
            name = ring.scope_numbers[scope.name]
        except KeyError:
            name = ring.scopes.number(scope.name)
        checkout.name = name
        checkout.asked = asked
        checkout.site = site
        checkout.alone = checkout.needed = checkout.queries = checkout.query_time = 0
        checkout.several = False
        checkout.segments = ()
        checkout.since = checkout.needed_since = now
        rows = ring.free_rows
        checkout.row = row = rows.pop() if rows else layout.SCRATCH_ROW
        _write_open_row(ring.memory, row * WORD, now, self.index, name, site, now, 0, 0, now)
        checkout.closed = False
        # Last, because from here on another thread that ends the scope may come across it.
        if scope.ended:
            checkout.run = next_id() & 0xFFFFFFFF
            checkout.alone = layout.ALONE
        else:
            checkout.run = scope.id
            scope.open.add(checkout)
            if scope.collector is not None:
                scope.collector.checked_out(checkout)
        return checkout

    def sized(self, size: int, available: int) -> None:
        """Note what the pool has now."""
        self.cells[self.size] = size
        self.cells[self.available] = available

    def failed(self, asked: int, site: int, outcome: int) -> None:
        """Note that the connection asked for did not come; ``outcome`` is layout.TIMEOUT or layout.ERROR."""
        now = monotonic_ns()
        wait = now - asked
        cells = self.cells
        cells[self.waiting] -= 1
        cells[self._minute_row + layout.MINUTE_CHECKOUTS] += 1
        if outcome == layout.TIMEOUT:
            cells[self.base + layout.TIMEOUTS] += 1
            cells[self._minute_row + layout.MINUTE_TIMEOUTS] += 1
        else:
            cells[self.base + layout.ERRORS] += 1
        self.wait[bucket_of(wait)] += 1
        scope = current.get()
        if scope is None or scope.ended:
            scope = thread_scope()
        number = self.ring.scopes.number(scope.name)
        if scope.ended:
            run, alone = next_id() & 0xFFFFFFFF, layout.ALONE
            cells[self.ring.runs + number] += 1
            self.add_run(number, 1, 0, wait, 0, 0, 0)
        else:
            run, alone = scope.id, 0
            spent = scope.sums(self)
            spent[0] += 1
            spent[2] += wait
        self.ring.record(layout.CHECKOUT, self.index, outcome, alone, number, site, run, 0, 0, asked, wait, 0, 0, 0, 0)
        if scope.collector is not None:
            scope.collector.failed(self, site, asked, now, outcome)

    def add_run(
        self, scope: int, checkouts: int, queries: int, wait: int, hold: int, needed: int, query_time: int
    ) -> None:
        """Add what one ended run used to the sums of its scope name, whose number is ``scope``."""
        cells = self.cells
        row = self._totals + scope * TOTAL_WORDS
        cells[row + TOTAL_CHECKOUTS] += checkouts
        cells[row + TOTAL_QUERIES] += queries
        cells[row + TOTAL_WAIT] += wait
        cells[row + TOTAL_HOLD] += hold
        cells[row + TOTAL_NEEDED] += needed
        cells[row + TOTAL_QUERY_TIME] += query_time

    def _new_peak(self, in_minute: int, ever: int, peak: int) -> None:
        # Another thread may have seen a higher one since the caller looked.
        cells = self.cells
        if peak > cells[self._minute_row + in_minute]:
            cells[self._minute_row + in_minute] = peak
        if peak > cells[self.base + ever]:
            cells[self.base + ever] = peak

    def _next_minute(self, now: int) -> None:
        minute = now // layout.MINUTE
        row = self.base + layout.MINUTE_ROWS + (minute % layout.MINUTES) * layout.MINUTE_WORDS
        cells = self.cells
        empty = _minute(minute, cells[self.in_use])
        # No call from here to the assignment: another thread may begin the same minute, and count in it.
        if cells[row] != minute:
            cells[row : row + layout.MINUTE_WORDS] = empty
        cells[layout.LAST_MINUTE] = minute
        self._minute_row = row
        self._minute_end = (minute + 1) * layout.MINUTE


def _minute(number: int, in_use: int) -> memoryview:
    words = memoryview(bytearray(layout.MINUTE_WORDS * layout.WORD)).cast("Q")
    words[layout.MINUTE_NUMBER] = number
    words[layout.MINUTE_PEAK_IN_USE] = in_use
    return words
