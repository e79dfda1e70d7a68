"""The reading side: ring files to plain values. It never disturbs a writer and trusts nothing that it reads."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.directory import files, is_owned, opened_for_reading, refusal
from pool_doctor.recording.image import Image
from pool_doctor.recording.ring import boot_id
from pool_doctor.recording.snapshot import AliasSnapshot, ProcessSnapshot, Recordings, ScopeTotals
from pool_doctor.recording.window import Window

if TYPE_CHECKING:
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
        image = _read(descriptor, twice=alive and since is not None)
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
        Window(image, since).fill(process, sections)
    if alive:
        for alias, row in image.open_rows(now):
            if alias < len(sections):
                sections[alias].open.append(row)
    for section in sections:
        section.open.sort(key=lambda row: row.held_for, reverse=True)
        known = process.aliases.get(section.alias)
        process.aliases[section.alias] = section if known is None else _merged(known, section)
    return process


def read_image(path: Path) -> Image:
    """Return a copy of one ring file with all its events. Raises OSError or ValueError, as read_file() does."""
    with opened_for_reading(path) as descriptor:
        return _read(descriptor, twice=is_owned(descriptor))


def _read(descriptor: int, *, twice: bool) -> Image:
    size = os.fstat(descriptor).st_size
    if size < layout.HEADER_BYTES:
        raise ValueError("it is too short to be a ring file")
    if size > MAX_FILE_BYTES:
        raise ValueError("it is too large to be a ring file")
    with open(descriptor, "rb", closefd=False) as file:
        head = file.read(layout.HEADER_BYTES)
        geometry = layout.Geometry(layout.parse_header(head).ring_size)
        # read() takes the memory for all that it is asked for, and a damaged header may ask for anything.
        data = head + file.read(min(size, geometry.size) - layout.HEADER_BYTES)
        if len(data) < geometry.size:
            raise ValueError(f"it is cut off: {len(data)} bytes where {geometry.size} are expected")
        again = None
        if twice:
            file.seek(geometry.events)
            again = file.read(geometry.size - geometry.events)
    return Image(data, again)


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
        mine = newer.scopes.setdefault(name, ScopeTotals(name))
        requests = max(mine.requests, totals.requests)  # both say how many runs there were in the process
        mine.add(totals)
        mine.requests = requests
    return newer
