"""The process's one recorder: opens the ring file at first need, hands out channels, survives forks and failure."""

from __future__ import annotations

import logging
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.recording import directory, layout
from pool_doctor.recording.channel import Channel, Description
from pool_doctor.recording.ring import Ring, create

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("pool_doctor")


@dataclass(frozen=True, slots=True)
class Options:
    """Where and how much to record."""

    directory: Path
    ring_size: int
    """Events that the file has room for."""
    retention: float
    """Seconds that the file of an ended process is kept."""
    command: str
    """What people call this process."""


class Recorder:
    """Owns the ring of this process. Its methods raise nothing."""

    def __init__(self) -> None:
        self.options: Options | None = None
        self.ring: Ring | None = None
        self.problem: str | None = None
        """What is not recorded and why, in one sentence; None while all is well."""
        self.threads: int | None = None
        """How many requests this process serves at once at most, 0 where that is not known; None until noted."""
        self._kind = ""
        self._unsaid: str | None = None
        self._failed = False
        self._channels: dict[Description, Channel] = {}
        self._lock = threading.Lock()

    @property
    def enabled(self) -> bool:
        """Whether anything is recorded."""
        return self.options is not None

    def start(self, options: Options) -> None:
        """Record from now on. The file is made at the first event, so that a process without one leaves none."""
        self.options = options

    def stop(self) -> None:
        """Record no more, and let go of the file, which stays readable."""
        self.options = None
        self.reset()

    def reset(self) -> None:
        """Begin anew: what comes next goes to a new file. What is open is not carried over."""
        if self.ring is not None:
            self.ring.close()
        self._begin_anew()

    def after_fork(self) -> None:
        """Begin anew in a forked child; the file and all that is open are the parent's."""
        if self.ring is not None:
            for channel in self._channels.values():
                channel.detach()
            self.ring.detach()
            for channel in self._channels.values():
                channel.attach()
        self._begin_anew()

    def _begin_anew(self) -> None:
        self._lock = threading.Lock()
        self.ring = None
        self.problem = None
        self.threads = None
        self._kind = ""
        self._channels = {}

    def channel(self, description: Description) -> Channel | None:
        """Return the channel of an alias; None when nothing is recorded or there is no room for another alias."""
        channel = self._channels.get(description)
        if channel is None and self.options is not None:
            with self._lock:
                channel = self._channels.get(description) or self._new_channel(description)
            self._warn()
        return channel

    def _new_channel(self, description: Description) -> Channel | None:
        index = len(self._channels)
        if index >= layout.MAX_ALIASES:
            self._unsaid = f"only the first {layout.MAX_ALIASES} databases are recorded; {description.alias!r} is not."
            return None
        ring = self._open()
        if ring is None:
            return None
        channel = self._channels[description] = Channel(ring, index, description)
        return channel

    def note_kind(self, kind: str) -> None:
        """Note what kind of process this is by the work that it does; of several, the most telling one counts."""
        if kind != self._kind and _RANK.get(kind, 0) > _RANK.get(self._kind, 0):
            self._kind = kind
            if self.ring is not None:
                self.ring.set_kind(kind)

    def note_threads(self, threads: int) -> None:
        """Note how many requests this process serves at once at most; 0 where that is not known."""
        self.threads = threads
        if self.ring is not None:
            self.ring.set_threads(threads)

    def opened_ring(self) -> Ring | None:
        """Return the ring, made now if it was not yet; None when nothing is recorded."""
        if self.ring is None and self.options is not None:
            with self._lock:
                self._open()
            self._warn()
        return self.ring

    def _open(self) -> Ring | None:
        options = self.options
        if self.ring is None and options is not None:
            kind = self._kind or "process"
            try:
                self.ring = create(options.directory, options.ring_size, options.command, kind)
                directory.clear(options.directory, time.time() - options.retention)
            except (OSError, ValueError) as error:
                self._unsaid = f"nothing is recorded for pool_report: {_reason(error, options.directory)}"
                # Plain memory serves what looks at this process from within, such as the toolbar's panel.
                self.ring = Ring(None, options.ring_size, options.command, kind)
            self.ring.set_threads(self.threads or 0)
        return self.ring

    def _warn(self) -> None:
        # Outside the lock: a handler of the log may write to a database, which asks for a channel.
        problem, self._unsaid = self._unsaid, None
        if problem is not None and self.problem is None:
            self.problem = problem
            logger.warning("pool_doctor: %s", problem)

    def failed(self) -> None:
        """Log the exception at hand, once in a process: recording must never fail the work that it records."""
        if not self._failed:
            self._failed = True
            logger.error("pool_doctor: recording failed; more failures are not logged", exc_info=True)  # noqa: LOG014 - called by handlers


def _reason(error: OSError | ValueError, folder: Path) -> str:
    if isinstance(error, directory.DirectoryRefusedError):
        return str(error)
    detail = error.strerror if isinstance(error, OSError) else None
    return f"{folder} can't be used: {detail or error}."


# What a process is called when it does several kinds of work: the highest wins.
_RANK = {"command": 1, "celery": 2, "wsgi": 3, "asgi": 4}

recorder = Recorder()

os.register_at_fork(after_in_child=recorder.after_fork)
