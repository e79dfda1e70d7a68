"""What a reader learns of one process: plain values, no file behind them. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool_doctor.recording.histogram import Histogram


@dataclass(frozen=True, slots=True)
class OpenCheckout:
    """A connection that is checked out right now."""

    scope: str
    site: str
    held_for: float
    idle_for: float
    """How long no query has run on it; 0 while one runs."""
    pinned: str = ""
    """Why it can't go back after the next query, where something pins it."""


@dataclass(slots=True)
class ScopeTotals:
    """Sums over all ended runs (requests, tasks, commands...) of one scope name."""

    name: str
    requests: int = 0
    checkouts: int = 0
    queries: int = 0
    wait: float = 0.0
    hold: float = 0.0
    needed: float = 0.0
    query_time: float = 0.0

    def add(self, other: ScopeTotals) -> None:
        """Add the sums of ``other`` to these."""
        self.requests += other.requests
        self.checkouts += other.checkouts
        self.queries += other.queries
        self.wait += other.wait
        self.hold += other.hold
        self.needed += other.needed
        self.query_time += other.query_time


@dataclass(frozen=True, slots=True)
class MinuteRow:
    """The peak demand of one minute. ``start`` is seconds since the epoch."""

    start: float
    checkouts: int
    timeouts: int
    peak_in_use: int
    peak_waiting: int


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """The pool's own settings, as the process has them. ``max_size`` 0 means unlimited."""

    min_size: int
    max_size: int
    timeout: float
    max_waiting: int = 0
    max_lifetime: float = 3600.0
    max_idle: float = 600.0


@dataclass(slots=True)
class AliasSnapshot:
    """One database alias in one process."""

    alias: str
    engine: str
    policy: str
    """'request', 'query', 'persistent' or 'unpooled'."""
    pool: PoolSettings | None
    size: int
    available: int
    in_use: int
    waiting: int
    peak_in_use: int
    peak_waiting: int
    checkouts: int
    """Checkouts that were asked for, whatever became of them."""
    timeouts: int
    errors: int
    wait: Histogram
    hold: Histogram
    needed: Histogram
    open: list[OpenCheckout] = field(default_factory=list)
    scopes: dict[str, ScopeTotals] = field(default_factory=dict)
    minutes: list[MinuteRow] = field(default_factory=list)


@dataclass(slots=True)
class ProcessSnapshot:
    """One process that records, alive or dead. Times are seconds since the epoch."""

    path: str
    pid: int
    kind: str
    """'wsgi', 'asgi', 'command', 'celery', or 'process'."""
    command: str
    started_at: float
    updated_at: float
    """When it last recorded anything."""
    alive: bool
    covers_from: float
    """From when on its numbers count: its start, or the start of the window asked for."""
    truncated: bool
    """True where the window asked for begins before the oldest event that the ring still has."""
    torn: int
    """Records that were dropped because they were being written while they were read."""
    aliases: dict[str, AliasSnapshot] = field(default_factory=dict)


@dataclass(slots=True)
class Recordings:
    """All that a directory holds, and one line for each file that could not be read."""

    directory: str
    processes: list[ProcessSnapshot] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
