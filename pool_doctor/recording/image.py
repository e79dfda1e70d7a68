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

_EVENT_WORDS = layout.EVENT_BYTES // layout.WORD


class Image:
    """A copy of one file. Raises ValueError, which says what is wrong with it, where it can't be one.

    ``events_again`` is a second copy of the ring of events, made after the first: records that are not the same in both
    were being written. It may be left out where nobody writes.
    """

    def __init__(self, data: bytes, events_again: bytes | None = None) -> None:
        self.data = data
        self.header = layout.parse_header(data)
        self.geometry = layout.Geometry(self.header.ring_size)
        self.words = memoryview(data).cast("Q")
        self.newest = self._newest()
        """The number of the newest event, counted from 1; 0 where there is none."""
        self.updated = self._updated()
        self.scope_names = self._names(self.geometry.scope_names, self.words[layout.SCOPE_NAMES], layout.MAX_SCOPES)
        self.site_names = self._names(self.geometry.site_names, self.words[layout.SITE_NAMES], layout.MAX_SITES)
        self.torn = 0
        """Records that ``records`` dropped because they were being written."""
        self._changed = _changed(data[self.geometry.events :], events_again)

    def _newest(self) -> int:
        numbers = self.words[self.geometry.events // layout.WORD :: _EVENT_WORDS]
        newest: int = max(numbers)
        if newest and not self._record(newest):
            newest = next(filter(self._record, sorted(numbers, reverse=True)), 0)
        return newest

    def _record(self, number: int) -> tuple[int, ...] | None:
        """Return the fields of the event with that number; None where they are not there, or not all."""
        at = self.geometry.events + number % self.header.ring_size * layout.EVENT_BYTES
        record = layout.EVENT.unpack_from(self.data, at)
        return record if number and record[0] == number and record[16] == number & 0xFFFFFFFF else None

    def _updated(self) -> int:
        newest = self._record(self.newest)
        return max(event_end(newest) if newest else 0, self.header.started)

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

    def sections(self, alias: str) -> list[int]:
        """Return the numbers of the sections of an alias: more than one where its configuration changed."""
        base = self.geometry.aliases
        names = [
            layout.text(layout.ALIAS.unpack_from(self.data, base + index * layout.ALIAS_WORDS * layout.WORD)[0])
            for index in range(min(self.words[layout.ALIASES], layout.MAX_ALIASES))
        ]
        return [index for index, name in enumerate(names) if name == alias]

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
        return Histogram.counted(array("Q", self.words[at : at + BUCKETS].tobytes()))

    def _scopes(self, base: int) -> dict[str, ScopeTotals]:
        words = self.words
        runs = self.geometry.runs // layout.WORD
        found: dict[str, ScopeTotals] = {}
        for number, name in enumerate(self.scope_names):
            row = base + layout.TOTALS + number * layout.TOTAL_WORDS
            checkouts, queries, *sums = words[row : row + layout.TOTAL_QUERY_TIME + 1]
            if checkouts:
                totals = ScopeTotals(name, words[runs + number], checkouts, queries, *(ns / 1e9 for ns in sums))
                # Long names that differ only in what was cut off are one name to the reader.
                found.setdefault(name, ScopeTotals(name)).add(totals)
        return found

    def _minutes(self, base: int) -> list[MinuteRow]:
        rows = []
        newest = self.updated // layout.MINUTE
        for index in range(layout.MINUTES):
            at = base + layout.MINUTE_ROWS + index * layout.MINUTE_WORDS
            number, checkouts, timeouts, in_use, waiting = self.words[at : at + 5]
            used = number or checkouts or in_use or waiting  # the minute in which the machine started is number 0
            if used and newest - layout.MINUTES < number <= newest + 1:
                start = self.header.wall_clock(number * layout.MINUTE)
                rows.append(MinuteRow(start, checkouts, timeouts, in_use, waiting))
        rows.sort(key=lambda row: row.start)
        return rows

    def open_rows(self, now: int) -> Iterator[tuple[int, OpenCheckout]]:
        """Yield alias number and row of each connection that is out."""
        for index in range(layout.MAX_OPEN):
            row = layout.OPEN_ROW.unpack_from(self.data, self.geometry.open_rows + index * layout.OPEN_ROW.size)
            since, alias, scope, site, idle_since, pinned, _, again = row
            if not since or since != again or since > now:
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

    def moments(self, every: int) -> list[int]:
        """Return when each so many-th event of the ring ended (ns), the newest first."""
        size = self.header.ring_size
        numbers = range(self.newest, max(self.newest - size, 0), -every)
        return [event_end(record) for number in numbers if (record := self._record(number)) is not None]

    def records(self) -> Iterator[tuple[int, ...]]:
        """Yield the ring's whole records (fields of layout.EVENT), oldest first; count the others in ``torn``.

        A checkout outside all scopes is followed by the REQUEST of the run that it is.
        """
        size, changed = self.header.ring_size, self._changed
        oldest = max(self.newest - size, 0) + 1
        number = oldest
        ring = memoryview(self.data)[self.geometry.events :]
        first = oldest % size
        stop = first + self.newest - oldest + 1
        for begin, end in ((first, min(stop, size)), (0, max(stop - size, 0))):
            for record in layout.EVENT.iter_unpack(ring[begin * layout.EVENT_BYTES : end * layout.EVENT_BYTES]):
                whole = record[0] == number and record[16] == number & 0xFFFFFFFF
                if whole and not (changed and number % size in changed):
                    yield record
                    if record[4] & layout.ALONE and record[1] == layout.CHECKOUT:
                        yield _run_of(record)
                else:
                    self.torn += 1
                number += 1


def event_end(record: tuple[int, ...]) -> int:
    """Return when the event of a record ended, which is when it was recorded (ns)."""
    kind = record[1]
    if kind == layout.REQUEST:
        return record[10] + record[15]
    if kind == layout.CHECKOUT:
        return record[10] + record[11] + record[12]
    if kind == layout.SEGMENTS:
        last = 8 + 2 * min(record[8], layout.SEGMENT_FIELDS // 2)
        return record[last] + record[last + 1]
    return record[10]


def _run_of(record: tuple[int, ...]) -> tuple[int, ...]:
    """Return the REQUEST event of the run that this CHECKOUT event is."""
    number, _, alias, _, _, scope, _, run, queries, _, asked, wait, hold, needed, query_time, _, again = record
    about = (number, layout.REQUEST, alias, layout.OK, layout.FIRST, scope, layout.UNKNOWN_QUEUED, run, queries, 1)
    return (*about, asked, wait, hold, needed, query_time, wait + hold, again)


def _changed(events: bytes, again: bytes | None) -> frozenset[int]:
    """Return the slots of the ring that differ between two copies of it."""
    if again is None or events == again:
        return frozenset()
    step = layout.EVENT_BYTES
    return frozenset(
        at // step for at in range(0, len(events), step) if events[at : at + step] != again[at : at + step]
    )


def _pool(numbers: list[float]) -> PoolSettings | None:
    minimum, maximum, timeout, waiting, lifetime, idle = numbers
    if any(math.isnan(number) for number in numbers) or not all(map(math.isfinite, (minimum, maximum, waiting))):
        raise ValueError("its description of a pool is damaged")
    if minimum < 0:
        return None
    return PoolSettings(int(minimum), int(maximum), timeout, int(waiting), lifetime, idle)
