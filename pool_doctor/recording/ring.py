"""The writing side of a ring file: one per process, memory-mapped, of fixed size.

Nothing here takes a lock. Two facts of CPython make that right: one bytecode on a memoryview of words is not
interrupted, and threads are switched only at calls and backward jumps, so that ``cells[i] += 1`` is one step for
other threads; and ``next()`` on an ``itertools.count`` hands each number out once. Another process may see an event
half written: its serial number stands first and last.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import mmap
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pool_doctor.recording import directory, layout
from pool_doctor.recording.callsite import CallSites

if TYPE_CHECKING:
    from collections.abc import Callable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """Return what tells this boot of the machine from others (monotonic clocks start anew at each)."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Names:
    """Names interned in the file's slots; past the cap, all are slot 0."""

    def __init__(self, ring: Ring, at: int, cap: int, used: int) -> None:
        self._ring = ring
        self._at = at
        self._used = used
        self._cap = cap
        self.numbers: dict[str, int] = {}
        self._next = itertools.count(1).__next__
        self._write(0, layout.OTHER)
        ring.cells[used] = 1

    def number(self, name: str) -> int:
        """Return the slot number of a name; write the name first where it is new."""
        try:
            return self.numbers[name]
        except KeyError:
            return self._intern(name)

    def name(self, number: int) -> str:
        """Return the name in a slot; "" for slot 0."""
        # A copy, made in one step: another thread may add a name meanwhile.
        return next((name for name, slot in tuple(self.numbers.items()) if slot == number), "")

    def _intern(self, name: str) -> int:
        if len(self.numbers) >= self._cap - 1:
            return 0
        number = self._next()
        if number >= self._cap:
            return 0
        self._write(number, name)
        if number >= self._ring.cells[self._used]:
            self._ring.cells[self._used] = number + 1
        return self.numbers.setdefault(name, number)

    def _write(self, number: int, name: str) -> None:
        data = layout.clip(name, layout.NAME.size - 2)
        layout.NAME.pack_into(self._ring.memory, self._at + number * layout.NAME.size, len(data), data)


class Ring(CallSites):
    """One process's ring file, or the same in plain memory where ``path`` is None."""

    sites: Names

    def __init__(self, path: Path | None, ring_size: int, command: str, kind: str) -> None:
        self.path = path
        self.ring_size = ring_size
        self.geometry = geometry = layout.Geometry(ring_size)
        self._descriptor = -1 if path is None else _create(path, geometry.size)
        try:
            self.memory = mmap.mmap(self._descriptor, geometry.size)
        except BaseException:
            self._let_go()
            raise
        self.cells = memoryview(self.memory).cast("Q")
        self.claim: Callable[[], int] = itertools.count(1).__next__
        self.events_at = geometry.events
        self.runs = geometry.runs // layout.WORD
        self.scopes = Names(self, geometry.scope_names, layout.MAX_SCOPES, layout.SCOPE_NAMES)
        self.scope_numbers = self.scopes.numbers
        super().__init__(Names(self, geometry.site_names, layout.MAX_SITES, layout.SITE_NAMES))
        self.free_rows = [
            (geometry.open_rows // layout.WORD) + row * layout.OPEN_WORDS for row in range(layout.MAX_OPEN)
        ]
        self.free_rows.reverse()
        self._write_header(command, kind)

    def _write_header(self, command: str, kind: str) -> None:
        layout.HEADER.pack_into(
            self.memory,
            0,
            layout.MAGIC,
            layout.VERSION,
            self.ring_size,
            os.getpid(),
            0,
            time.time(),
            time.monotonic_ns(),
            boot_id().encode(),
            layout.clip(kind, 16),
            layout.clip(command, 160),
        )

    def set_kind(self, kind: str) -> None:
        """Write what kind of process this is, once its first work has shown it."""
        layout.KIND.pack_into(self.memory, layout.KIND_AT, layout.clip(kind, 16))

    def set_threads(self, threads: int) -> None:
        """Write how many requests the process serves at once at most."""
        layout.THREADS.pack_into(self.memory, layout.THREADS_AT, threads)

    def record(
        self,
        kind: int,
        alias: int,
        outcome: int,
        flags: int,
        scope: int,
        site: int,
        scope_id: int,
        queries: int,
        checkouts: int,
        start: int,
        first: int,
        second: int,
        third: int,
        fourth: int,
        fifth: int,
    ) -> None:
        """Write one event; see layout.EVENT for the meaning of the fields of each kind."""
        number = self.claim()
        layout.EVENT.pack_into(
            self.memory,
            self.events_at + (number % self.ring_size) * layout.EVENT_BYTES,
            number,
            kind,
            alias,
            outcome,
            flags,
            scope,
            site,
            scope_id,
            queries,
            checkouts,
            start,
            first,
            second,
            third,
            fourth,
            fifth,
            number & 0xFFFFFFFF,
        )

    def close(self) -> None:
        """Give the lock up: the process records elsewhere from now on."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._let_go()

    def detach(self) -> None:
        """Leave the file and its lock to the parent, in a forked child. What is still written here goes nowhere.

        Whatever kept the old words raises ValueError when it uses them: it can't reach the parent's file. Channels let
        go of theirs first.
        """
        private = mmap.mmap(-1, self.geometry.size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        private[: self.events_at] = self.memory[: self.events_at]
        self.cells.release()
        self.memory.close()  # its own copy of the descriptor keeps the lock as well
        self.memory = private
        self.cells = memoryview(private).cast("Q")
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _create(path: Path, size: int) -> int:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path.name, flags, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _allocate(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _allocate(descriptor: int, size: int) -> None:
    # A hole in a mapped file that the full disk can't fill ends the process with SIGBUS: take the space now.
    if sys.platform == "darwin":
        os.ftruncate(descriptor, size)
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        os.ftruncate(descriptor, size)


def create(folder: Path, ring_size: int, command: str, kind: str) -> Ring:
    """Make this process's ring file in the folder, which is made and checked first.

    Raises OSError where the folder is refused or has no room.
    """
    directory.prepare(folder)
    path = folder / f"{os.getpid()}-{time.time_ns():x}{directory.SUFFIX}"
    # Under its name it is whole and locked, so that nobody takes it for a damaged file or one of an ended process.
    draft = path.with_suffix(directory.DRAFT_SUFFIX)
    try:
        ring = Ring(draft, ring_size, command, kind)
        ring.path = draft.rename(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    return ring
