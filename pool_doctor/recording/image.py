"""The bytes of one ring file, and what they mean. Nothing in them is trusted: the file may be damaged or forged."""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.histogram import BUCKETS, Histogram
from pool_doctor.recording.snapshot import AliasSnapshot, MinuteRow, OpenCheckout, PoolSettings, ScopeTotals

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_FLIGHT = 64
"""How many events may be claimed and not yet noted as recorded: one for each thread that records just then."""


class Image:
    """A copy of one file. Raises ValueError, which says what is wrong with it, where it can't be one.

    ``recorded`` is the file's word of that name as it was after the copy was made: the ring's records that may have
    been written over meanwhile are left out. None says that nobody wrote.
    """

    def __init__(self, data: bytes, recorded: int | None = None) -> None:
        self.data = data
        self.header = layout.parse_header(data)
        self.geometry = layout.Geometry(self.header.ring_size)
        self.words = memoryview(data).cast("Q")
        self._end = self._newest()
        self.updated = self._ended(self._end) or self.header.started
        self.scope_names = self._names(self.geometry.scope_names, self.words[layout.SCOPE_NAMES], layout.MAX_SCOPES)
        self.site_names = self._names(self.geometry.site_names, self.words[layout.SITE_NAMES], layout.MAX_SITES)
        self.torn = 0
        """Records that ``records`` dropped because they were being written."""
        before: int = self.words[layout.RECORDED]
        written = before if recorded is None else recorded
        self._first_safe = 0 if written == before else written + IN_FLIGHT - self.header.ring_size

    def _names(self, at: int, used: int, cap: int) -> list[str]:
        names = []
        for number in range(min(used, cap)):
            length, text = layout.NAME.unpack_from(self.data, at + number * layout.NAME.size)
            names.append(text[:length].decode("utf-8", "replace"))
        return names

    def scope(self, number: int) -> str:
        return self.scope_names[number] if number < len(self.scope_names) else layout.OTHER

    def site(self, number: int) -> str:
        return self.site_names[number] if number < len(self.site_names) else ""

    def alias(self, index: int, alive: bool) -> AliasSnapshot:
        base = self.geometry.aliases // layout.WORD + index * layout.ALIAS_WORDS
        alias, engine, policy, *numbers = layout.ALIAS.unpack_from(self.data, base * layout.WORD)
        words = self.words
        wait, hold, needed = (self._histogram(base + at) for at in (layout.WAIT, layout.HOLD, layout.NEEDED))
        in_use = words[base + layout.IN_USE] if alive else 0
        waiting = words[base + layout.WAITING] if alive else 0
        size = max(words[base + layout.SIZE], in_use)
        pool = _pool(numbers)
        return AliasSnapshot(
            alias=layout.text(alias),
            engine=layout.text(engine),
            policy=layout.text(policy),
            pool=pool,
            size=size if alive else 0,
            available=self._available(base, size - in_use, pool) if alive else 0,
            in_use=in_use,
            waiting=waiting,
            peak_in_use=words[base + layout.PEAK_IN_USE],
            peak_waiting=words[base + layout.PEAK_WAITING],
            checkouts=wait.count + waiting,
            timeouts=words[base + layout.TIMEOUTS],
            errors=words[base + layout.ERRORS],
            wait=wait,
            hold=hold,
            needed=needed,
            scopes=self._scopes(base),
            minutes=self._minutes(base),
        )

    def _available(self, base: int, left: int, pool: PoolSettings | None) -> int:
        # What a pool had available is from the last return, what is in use from now. Without a pool, what is not in
        # use is kept for a thread's next request.
        return left if pool is None else min(self.words[base + layout.AVAILABLE], left)

    def _histogram(self, at: int) -> Histogram:
        words = self.words
        counts = array("Q", words[at : at + BUCKETS].tobytes())
        return Histogram(counts, words[at + layout.HISTOGRAM_TOTAL] / 1e9, words[at + layout.HISTOGRAM_MAXIMUM] / 1e9)

    def _scopes(self, base: int) -> dict[str, ScopeTotals]:
        words = self.words
        runs = self.geometry.runs // layout.WORD
        found: dict[str, ScopeTotals] = {}
        for number, name in enumerate(self.scope_names):
            row = base + layout.TOTALS + number * layout.TOTAL_WORDS
            if words[row + layout.TOTAL_RUNS]:
                _, checkouts, queries, *sums, _ = words[row : row + layout.TOTAL_WORDS]
                requests = max(words[runs + number], words[row + layout.TOTAL_RUNS])
                totals = ScopeTotals(name, requests, checkouts, queries, *(nanoseconds / 1e9 for nanoseconds in sums))
                # Long names that differ only in what was cut off are one name to the reader.
                found.setdefault(name, ScopeTotals(name)).add(totals)
        return found

    def _minutes(self, base: int) -> list[MinuteRow]:
        rows = []
        newest = self.updated // layout.MINUTE
        for index in range(layout.MINUTES):
            at = base + layout.MINUTE_ROWS + index * layout.MINUTE_WORDS
            number, checkouts, timeouts, in_use, waiting = self.words[at : at + 5]
            if number and newest - layout.MINUTES < number <= newest + 1:
                start = self.header.wall_clock(number * layout.MINUTE)
                rows.append(MinuteRow(start, checkouts, timeouts, in_use, waiting))
        rows.sort(key=lambda row: row.start)
        return rows

    def open_rows(self, now: int) -> Iterator[tuple[int, OpenCheckout]]:
        """Yield alias number and row of each connection that is out."""
        for index in range(layout.MAX_OPEN):
            row = layout.OPEN_ROW.unpack_from(self.data, self.geometry.open_rows + index * layout.OPEN_ROW.size)
            serial, alias, scope, site, since, idle_since, pinned, last = row
            if not serial or serial != last or since > now:
                continue
            yield (
                alias,
                OpenCheckout(
                    scope=self.scope(scope),
                    site=self.site(site),
                    held_for=(now - since) / 1e9,
                    idle_for=max(now - idle_since, 0) / 1e9 if idle_since else 0.0,
                    pinned=self.site(pinned) if pinned else "",
                ),
            )

    def records(self) -> Iterator[tuple[int, ...]]:
        """Yield the ring's whole records (fields of layout.EVENT), oldest first; count the others in ``torn``."""
        size = self.header.ring_size
        ring = memoryview(self.data)[self.geometry.events :]
        end = self._end
        begin = max(end - size, self._first_safe, 0)
        cut = (begin + 1) % size
        stop = cut + max(end - begin, 0)
        number = begin
        for first, last in ((cut, min(stop, size)), (0, stop - size)):
            part = ring[first * layout.EVENT_BYTES : max(last, 0) * layout.EVENT_BYTES]
            for record in layout.EVENT.iter_unpack(part):
                number += 1
                if record[0] == number and record[16] == number & 0xFFFFFFFF:
                    yield record
                else:
                    self.torn += 1

    def _newest(self) -> int:
        """Return the number of the newest event: of two threads, the one that lags notes the lower number."""
        recorded: int = self.words[layout.RECORDED]
        for number in range(recorded + IN_FLIGHT, recorded, -1):
            record = self._record(number)
            if record[0] == number and record[16] == number & 0xFFFFFFFF:
                return number
        return recorded

    def _record(self, number: int) -> tuple[int, ...]:
        at = self.geometry.events + number % self.header.ring_size * layout.EVENT_BYTES
        return layout.EVENT.unpack_from(self.data, at)

    def _ended(self, number: int) -> int:
        """Return when an event was recorded, ns; 0 where it is not there."""
        record = self._record(number)
        return ended(record) if number and record[0] == number else 0


def _pool(numbers: list[float]) -> PoolSettings | None:
    minimum, maximum, timeout, waiting, lifetime, idle = numbers
    if any(math.isnan(number) for number in numbers) or not all(map(math.isfinite, (minimum, maximum, waiting))):
        raise ValueError("its description of a pool is damaged")
    if minimum < 0:
        return None
    return PoolSettings(int(minimum), int(maximum), timeout, int(waiting), lifetime, idle)


def ended(record: tuple[int, ...]) -> int:
    """Return the time (ns) at which an event was recorded: its start and what it says took how long."""
    kind, start = record[1], record[10]
    if kind == layout.REQUEST:
        return start + record[15]
    if kind == layout.CHECKOUT:
        return start + record[11] + record[12]
    return start + record[11]
