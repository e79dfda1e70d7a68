"""The recorded traffic of one database alias, as the analysis reads it. All times are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

from pool_doctor.analysis._checks import number, whole

if TYPE_CHECKING:
    from collections.abc import Sequence

Outcome = Literal["ok", "timeout", "error"]
Policy = Literal["request", "query"]
RecordedPolicy = Literal["request", "query", "persistent", "unpooled"]

POLICIES = ("request", "query")
RECORDED_POLICIES = ("request", "query", "persistent", "unpooled")


class Checkout(NamedTuple):
    """One connection that was asked for at ``start``, had after ``wait`` and kept for ``hold``."""

    start: float
    wait: float
    hold: float
    needed: tuple[tuple[float, float], ...] = ()
    """When it was needed: (start, duration), in order and apart from each other."""
    outcome: Outcome = "ok"

    @property
    def end(self) -> float:
        """When the connection went back."""
        return self.start + self.wait + self.hold


class TracedRequest(NamedTuple):
    """One run of a scope: a request, task, command, or a checkout outside any of them. Its checkouts are in order."""

    scope: str
    process: int
    start: float
    """When the application got it, which is after its wait for a thread."""
    end: float
    checkouts: tuple[Checkout, ...]
    queued: float | None = None
    """How long it had waited for a thread before, by the server's queue header; None without one."""
    threaded: bool = True
    """Whether it took up one of the server's threads; False for background work."""


class MinutePeak(NamedTuple):
    """The most connections that one process had in use during the minute from ``start`` on."""

    start: float
    peak: int


@dataclass(frozen=True)
class Trace:
    """What was recorded between ``start`` and ``end``, on one clock for all processes.

    Raise ValueError for a number that cannot be.
    """

    requests: Sequence[TracedRequest]
    start: float
    end: float
    policy: RecordedPolicy
    max_size: int | None
    """The size of each process's pool; None without a pool, or where it has no limit."""
    min_size: int | None = None
    timeout: float | None = None
    """After how long a checkout gives up; None without a pool."""
    threads: int | None = None
    """How many threads serve requests in each process; None: unlimited, or not known."""
    alias: str = "default"
    engine: str = "django.db.backends.postgresql"
    pooler: bool = False
    """Whether a pooler (PgBouncer...) stands between the application and the server."""
    connect_time: float | None = None
    """How long it takes to open a connection; None where that was not measured."""
    minutes: Sequence[MinutePeak] = ()
    """The last day, as far as it was recorded."""

    def __post_init__(self) -> None:
        if self.policy not in RECORDED_POLICIES:
            raise ValueError(f"policy must be one of {', '.join(RECORDED_POLICIES)}, not {self.policy!r}.")
        for name in ("max_size", "threads"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        if self.min_size is not None:
            whole("min_size", self.min_size, 0)
        for name in ("timeout", "connect_time"):
            if getattr(self, name) is not None:
                number(name, getattr(self, name), "seconds")
        number("end - start", self.end - self.start, "seconds")

    @property
    def seconds(self) -> float:
        """How long was recorded."""
        return self.end - self.start

    @cached_property
    def processes(self) -> list[int]:
        """Every process that recorded a request, in order of its id."""
        return sorted({request.process for request in self.requests})

    @cached_property
    def checkouts(self) -> list[Checkout]:
        """All checkouts of all requests."""
        return [checkout for request in self.requests for checkout in request.checkouts]
