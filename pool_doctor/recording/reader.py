"""The reading side: ring files to plain values. It never disturbs a writer and trusts nothing that it reads."""

from __future__ import annotations

import os
import time
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.directory import files, is_owned, opened_for_reading, refusal
from pool_doctor.recording.histogram import BUCKETS, Histogram, bucket_of
from pool_doctor.recording.ring import boot_id
from pool_doctor.recording.snapshot import (
    AliasSnapshot,
    MinuteRow,
    OpenCheckout,
    PoolSettings,
    ProcessSnapshot,
    Recordings,
    ScopeTotals,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_FILE_BYTES = 1 << 30
"""A file larger than this is not one of ours."""


def read_directory(directory: Path, since: float | None = None) -> Recordings:
    """Read all ring files in a directory.

    ``since`` (seconds since the epoch) limits histograms, counts and scopes to events from then on; without it they
    cover each process from its start. A file that can't be read becomes a line in ``problems``. Raises nothing.
    """
    recordings = Recordings(str(directory))
    reason = refusal(directory)
    if reason:
        recordings.problems.append(reason)
        return recordings
    for path in files(directory):
        try:
            recordings.processes.append(read_file(path, since))
        except FileNotFoundError:
            continue  # cleared away since the directory was listed
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            recordings.problems.append(f"{path.name} was skipped: {reason}.")
    recordings.processes.sort(key=lambda process: (not process.alive, process.started_at))
    return recordings


def read_file(path: Path, since: float | None = None) -> ProcessSnapshot:
    """Read one ring file. Raises OSError or ValueError, which says what is wrong with the file."""
    with opened_for_reading(path) as descriptor:
        alive = is_owned(descriptor)
        data = _read(descriptor)
    image = _Image(data)
    header = image.header
    alive = alive and header.boot == boot_id()
    now = time.monotonic_ns() if alive else image.updated
    process = ProcessSnapshot(
        path=str(path),
        pid=header.pid,
        kind=header.kind,
        command=header.command,
        started_at=header.started_at,
        updated_at=header.wall_clock(image.updated),
        alive=alive,
        covers_from=header.started_at,
        truncated=False,
        torn=0,
    )
    sections = [image.alias(index, alive) for index in range(min(image.words[layout.ALIASES], layout.MAX_ALIASES))]
    if since is not None and since > header.started_at:
        Window(image, process, sections, since).fill()
    if alive:
        for alias, row in image.open_rows(now):
            if alias < len(sections):
                sections[alias].open.append(row)
    for section in sections:
        section.open.sort(key=lambda row: row.held_for, reverse=True)
        known = process.aliases.get(section.alias)
        process.aliases[section.alias] = section if known is None else _merged(known, section)
    return process


def _read(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    if size < layout.HEADER_BYTES:
        raise ValueError("it is too short to be a ring file")
    if size > MAX_FILE_BYTES:
        raise ValueError("it is too large to be a ring file")
    with open(descriptor, "rb", closefd=False) as file:
        head = file.read(layout.HEADER_BYTES)
        expected = layout.Geometry(layout.parse_header(head).ring_size).size
        if size < expected:
            raise ValueError(f"it is cut off: {size} bytes where {expected} are expected")
        return head + file.read(expected - layout.HEADER_BYTES)


def _merged(older: AliasSnapshot, newer: AliasSnapshot) -> AliasSnapshot:
    """Join two sections of one alias: its configuration changed while the process ran."""
    newer.size = newer.size or older.size
    newer.in_use += older.in_use
    newer.waiting += older.waiting
    newer.peak_in_use = max(newer.peak_in_use, older.peak_in_use)
    newer.peak_waiting = max(newer.peak_waiting, older.peak_waiting)
    newer.checkouts += older.checkouts
    newer.timeouts += older.timeouts
    newer.errors += older.errors
    newer.wait += older.wait
    newer.hold += older.hold
    newer.needed += older.needed
    newer.open += older.open
    newer.minutes += older.minutes
    for name, totals in older.scopes.items():
        newer.scopes.setdefault(name, ScopeTotals(name)).add(totals)
    return newer


@dataclass(frozen=True, slots=True)
class Event:
    """One record of the ring; see layout.EVENT for what the durations of each kind are. Nanoseconds."""

    kind: int
    alias: int
    outcome: int
    flags: int
    scope: int
    site: int
    scope_id: int
    queries: int
    checkouts: int
    start: int
    durations: tuple[int, ...]


class _Image:
    """The bytes of one file, and where things are in it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.header = layout.parse_header(data)
        self.geometry = layout.Geometry(self.header.ring_size)
        self.words = memoryview(data).cast("Q")
        self.updated: int = max(self.words[layout.UPDATED], self.header.started)
        self.scope_names = self._names(self.geometry.scope_names, self.words[layout.SCOPE_NAMES], layout.MAX_SCOPES)
        self.site_names = self._names(self.geometry.site_names, self.words[layout.SITE_NAMES], layout.MAX_SITES)
        self.torn = 0

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
        found = {}
        for number, name in enumerate(self.scope_names):
            row = base + layout.TOTALS + number * layout.TOTAL_WORDS
            if words[row + layout.TOTAL_RUNS]:
                _, checkouts, queries, wait, hold, needed, query_time, _ = words[row : row + layout.TOTAL_WORDS]
                found[name] = ScopeTotals(
                    name,
                    max(words[runs + number], words[row + layout.TOTAL_RUNS]),
                    checkouts,
                    queries,
                    wait / 1e9,
                    hold / 1e9,
                    needed / 1e9,
                    query_time / 1e9,
                )
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

    def events(self) -> Iterator[Event]:
        """Yield the ring's whole records, oldest first; count the others in ``torn``."""
        recorded: int = self.words[layout.RECORDED]
        size = self.header.ring_size
        ring = memoryview(self.data)[self.geometry.events :]
        split = recorded % size if recorded > size else 0
        used = min(recorded, size) * layout.EVENT_BYTES
        serial = recorded - min(recorded, size)
        cut = split * layout.EVENT_BYTES
        for part in (ring[cut:used], ring[:cut]):
            for record in layout.EVENT.iter_unpack(part):
                serial += 1
                if record[0] != record[16] or record[0] != serial & 0xFFFFFFFF:
                    self.torn += 1
                    continue
                yield Event(*record[1:11], durations=record[11:16])


def _pool(numbers: list[float]) -> PoolSettings | None:
    minimum, maximum, timeout, waiting, lifetime, idle = numbers
    if minimum < 0:
        return None
    return PoolSettings(int(minimum), int(maximum), timeout, int(waiting), lifetime, idle)


class Window:
    """Replaces what covers the process's whole life by what its events from ``since`` on say."""

    def __init__(self, image: _Image, process: ProcessSnapshot, sections: list[AliasSnapshot], since: float) -> None:
        self.image = image
        self.process = process
        self.sections = sections
        self.since = since
        self.first = image.header.started + round((since - image.header.started_at) * 1e9)

    def fill(self) -> None:
        """Count the events of the window into the sections."""
        for section in self.sections:
            section.wait, section.hold, section.needed = Histogram(), Histogram(), Histogram()
            section.checkouts = section.timeouts = section.errors = 0
            section.scopes = {}
            section.minutes = [row for row in section.minutes if row.start + 60 > self.since]
            section.peak_in_use = max([row.peak_in_use for row in section.minutes], default=section.in_use)
            section.peak_waiting = max([row.peak_waiting for row in section.minutes], default=section.waiting)
        oldest = None
        for event in self.image.events():
            ended = event.start + _duration(event)
            oldest = ended if oldest is None else oldest
            if ended < self.first:
                continue
            if event.kind == layout.CHECKOUT and event.alias < len(self.sections):
                _count_checkout(self.sections[event.alias], event)
            elif event.kind == layout.REQUEST and event.alias < len(self.sections):
                _count_run(self.sections[event.alias], self.image.scope(event.scope), event)
        self._note_coverage(oldest)

    def _note_coverage(self, oldest: int | None) -> None:
        image = self.image
        wrapped = image.words[layout.RECORDED] > image.header.ring_size
        self.process.torn = image.torn
        self.process.covers_from = self.since
        if wrapped and oldest is not None and oldest > self.first:
            self.process.truncated = True
            self.process.covers_from = image.header.wall_clock(oldest)


def _duration(event: Event) -> int:
    if event.kind == layout.REQUEST:
        return event.durations[4]
    if event.kind == layout.CHECKOUT:
        return event.durations[0] + event.durations[1]
    return event.durations[0]


def _count_checkout(section: AliasSnapshot, event: Event) -> None:
    wait, hold, needed, _, _ = event.durations
    section.checkouts += 1
    _add(section.wait, wait)
    if event.outcome == layout.OK:
        _add(section.hold, hold)
        _add(section.needed, needed)
    elif event.outcome == layout.TIMEOUT:
        section.timeouts += 1
    else:
        section.errors += 1


def _add(histogram: Histogram, duration: int) -> None:
    histogram.counts[bucket_of(duration)] += 1
    histogram.total += duration / 1e9
    histogram.maximum = max(histogram.maximum, duration / 1e9)


def _count_run(section: AliasSnapshot, name: str, event: Event) -> None:
    wait, hold, needed, query_time, _ = event.durations
    totals = section.scopes.setdefault(name, ScopeTotals(name))
    totals.requests += 1
    totals.checkouts += event.checkouts
    totals.queries += event.queries
    totals.wait += wait / 1e9
    totals.hold += hold / 1e9
    totals.needed += needed / 1e9
    totals.query_time += query_time / 1e9
