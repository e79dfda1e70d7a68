"""What the events of a ring say of a window of time, in place of the counters that cover a process's whole life."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.histogram import BUCKETS, Histogram, bucket_of
from pool_doctor.recording.image import event_end
from pool_doctor.recording.snapshot import ScopeTotals

if TYPE_CHECKING:
    from pool_doctor.recording.image import Image
    from pool_doctor.recording.snapshot import AliasSnapshot, ProcessSnapshot


class Durations:
    """A histogram that is being counted, in nanoseconds."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = self.maximum = 0

    def add(self, duration: int) -> None:
        self.counts[bucket_of(duration)] += 1
        self.total += duration
        if duration > self.maximum:
            self.maximum = duration

    def histogram(self) -> Histogram:
        return Histogram(self.counts, self.total / 1e9, self.maximum / 1e9)


class Tally:
    """The events of one alias."""

    def __init__(self) -> None:
        self.wait, self.hold, self.needed = Durations(), Durations(), Durations()
        self.outcomes: Counter[int] = Counter()
        self.scopes: dict[int, list[int]] = {}
        """By scope number: runs, checkouts, queries, and the sums of wait, hold, needed and query time."""

    def fill(self, section: AliasSnapshot, runs: Counter[str], image: Image) -> None:
        section.wait, section.hold, section.needed = (
            durations.histogram() for durations in (self.wait, self.hold, self.needed)
        )
        section.checkouts = self.outcomes.total()
        section.timeouts = self.outcomes[layout.TIMEOUT]
        section.errors = section.checkouts - section.timeouts - self.outcomes[layout.OK]
        section.scopes = {}
        for number, (requests, checkouts, queries, *sums) in self.scopes.items():
            name = image.scope(number)
            totals = ScopeTotals(name, requests, checkouts, queries, *(nanoseconds / 1e9 for nanoseconds in sums))
            section.scopes.setdefault(name, ScopeTotals(name)).add(totals)
        for name, totals in section.scopes.items():
            totals.requests = max(totals.requests, runs[name])


class Window:
    """The time from ``since`` (seconds since the epoch) on."""

    def __init__(self, image: Image, since: float) -> None:
        self.image = image
        self.since = since
        self._first = image.header.started + (since - image.header.started_at) * 1e9
        self._runs: Counter[int] = Counter()
        self._tallies: dict[int, Tally] = {}
        self._oldest: int | None = None

    def fill(self, process: ProcessSnapshot, sections: list[AliasSnapshot]) -> None:
        """Put what the window's events say into the sections, and how far they reach back into the process."""
        self._tallies = {index: Tally() for index in range(len(sections))}
        self._read()
        image = self.image
        runs: Counter[str] = Counter()
        for number, count in self._runs.items():
            runs[image.scope(number)] += count
        for index, section in enumerate(sections):
            self._tallies[index].fill(section, runs, image)
            section.minutes = [row for row in section.minutes if row.start + 60 > self.since]
            section.peak_in_use = max([row.peak_in_use for row in section.minutes], default=section.in_use)
            section.peak_waiting = max([row.peak_waiting for row in section.minutes], default=section.waiting)
        process.torn = image.torn
        process.covers_from = self.since
        if image.newest > image.header.ring_size and self._oldest is not None:
            process.truncated = self._oldest > self._first
            if process.truncated:
                process.covers_from = image.header.wall_clock(self._oldest)

    def _read(self) -> None:
        # A million records are read here for a report on sixteen workers: no call per record that is not counted.
        for record in self.image.records():
            kind = record[1]
            if self._oldest is None:
                self._oldest = event_end(record)
            if kind == layout.CHECKOUT:
                self._count_checkout(record)
            elif kind == layout.REQUEST:
                self._count_run(record)

    def _count_checkout(self, record: tuple[int, ...]) -> None:
        _, _, alias, outcome, _, _, _, _, _, _, start, wait, hold, needed, _, _, _ = record
        tally = self._tallies.get(alias)
        if tally is None or start + wait + hold < self._first:
            return
        tally.outcomes[outcome] += 1
        tally.wait.add(wait)
        if outcome == layout.OK:
            tally.hold.add(hold)
            tally.needed.add(needed)

    def _count_run(self, record: tuple[int, ...]) -> None:
        _, _, alias, _, flags, scope, _, _, queries, checkouts, start, wait, hold, needed, query_time, duration, _ = (
            record
        )
        if start + duration < self._first:
            return
        if flags & layout.FIRST:
            self._runs[scope] += 1
        tally = self._tallies.get(alias)
        if tally is None:
            return
        sums = tally.scopes.get(scope)
        if sums is None:
            tally.scopes[scope] = [1, checkouts, queries, wait, hold, needed, query_time]
            return
        sums[0] += 1
        sums[1] += checkouts
        sums[2] += queries
        sums[3] += wait
        sums[4] += hold
        sums[5] += needed
        sums[6] += query_time
