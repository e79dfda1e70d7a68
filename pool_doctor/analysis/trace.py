"""The recorded traffic of one database alias, as the analysis reads it. All times are seconds."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from operator import sub
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, overload

from pool_doctor.analysis._checks import number, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Outcome = Literal["ok", "timeout", "error"]
Policy = Literal["request", "query"]
RecordedPolicy = Literal["request", "query", "persistent", "unpooled"]

OUTCOMES: tuple[Outcome, ...] = ("ok", "timeout", "error")
POLICIES: tuple[Policy, ...] = ("request", "query")
RECORDED_POLICIES: tuple[RecordedPolicy, ...] = ("request", "query", "persistent", "unpooled")


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


_as_checkout = partial(tuple.__new__, Checkout)
_as_request = partial(tuple.__new__, TracedRequest)


class Requests(Sequence[TracedRequest]):
    """Recorded requests, kept in columns: an eighth of the memory of the same ones in a list, for they can be many."""

    def __init__(self, requests: Iterable[TracedRequest] = ()) -> None:
        self._labels: dict[str, int] = {}
        self._scopes: list[str] = []
        self._requests: list[array[Any]] = [array("l"), array("q"), array("d"), array("d"), array("d"), array("b")]
        self._checkouts: list[array[Any]] = [array("d"), array("d"), array("d"), array("b")]
        self._needed: list[array[float]] = [array("d"), array("d")]
        # Where the checkouts of each request begin, and the needed segments of each checkout; one more marks the end.
        self._first_checkouts = array("q", [0])
        self._first_needed = array("q", [0])
        for request in requests:
            self.append(request)

    def append(self, request: TracedRequest) -> None:
        """Add ``request`` after the others."""
        scope, process, start, end, checkouts, queued, threaded = request
        if scope not in self._labels:
            self._labels[scope] = len(self._scopes)
            self._scopes.append(scope)
        for asked, wait, hold, needed, outcome in checkouts:
            for segment in needed:
                _append(self._needed, segment)
            self._first_needed.append(len(self._needed[0]))
            _append(self._checkouts, (asked, wait, hold, OUTCOMES.index(outcome)))
        self._first_checkouts.append(len(self._checkouts[0]))
        unknown = math.nan if queued is None else queued
        _append(self._requests, (self._labels[scope], process, start, end, unknown, threaded))

    def __len__(self) -> int:
        return len(self._requests[0])

    @property
    def all_threaded(self) -> bool:
        """Whether each of them took up one of the server's threads."""
        return 0 not in self._requests[5]

    @overload
    def __getitem__(self, position: int) -> TracedRequest: ...
    @overload
    def __getitem__(self, position: slice) -> list[TracedRequest]: ...
    def __getitem__(self, position: int | slice) -> TracedRequest | list[TracedRequest]:
        if isinstance(position, slice):
            return [self._request(index) for index in range(*position.indices(len(self)))]
        return self._request(range(len(self))[position])

    def __iter__(self) -> Iterator[TracedRequest]:
        # Column by column, not by position, and without a call in Python for each: a report waits for this loop.
        labels, processes, starts, ends, queued, threaded = self._requests
        counts = map(sub, self._first_checkouts[1:], self._first_checkouts)
        checkouts = self._all_checkouts()
        own = (tuple(islice(checkouts, count)) for count in counts)
        scopes = map(self._scopes.__getitem__, labels)
        waited = (wait if wait == wait else None for wait in queued)  # noqa: PLR0124 (NaN stands for None)
        return map(_as_request, zip(scopes, processes, starts, ends, own, waited, map(bool, threaded), strict=True))

    def _all_checkouts(self) -> Iterator[Checkout]:
        starts, waits, holds, outcomes = self._checkouts
        segments = zip(*self._needed, strict=True)
        counts = map(sub, self._first_needed[1:], self._first_needed)
        needed = (tuple(islice(segments, count)) for count in counts)
        return map(_as_checkout, zip(starts, waits, holds, needed, map(OUTCOMES.__getitem__, outcomes), strict=True))

    def _request(self, index: int) -> TracedRequest:
        label, process, start, end, queued, threaded = (column[index] for column in self._requests)
        first, last = self._first_checkouts[index], self._first_checkouts[index + 1]
        checkouts = tuple(map(self._checkout, range(first, last)))
        waited = None if math.isnan(queued) else queued
        return TracedRequest(self._scopes[label], process, start, end, checkouts, waited, bool(threaded))

    def _checkout(self, index: int) -> Checkout:
        starts, waits, holds, outcomes = self._checkouts
        needed = slice(self._first_needed[index], self._first_needed[index + 1])
        segments = tuple(zip(self._needed[0][needed], self._needed[1][needed], strict=True))
        return Checkout(starts[index], waits[index], holds[index], segments, OUTCOMES[outcomes[index]])


def _append(columns: list[array[Any]], row: Iterable[float]) -> None:
    for column, value in zip(columns, row, strict=True):
        column.append(value)


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
    """In any order; `Requests` where they are many."""
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
    def all_threaded(self) -> bool:
        """Whether each request took up one of the server's threads."""
        if isinstance(self.requests, Requests):
            return self.requests.all_threaded
        return all(request.threaded for request in self.requests)

    def checkouts(self) -> Iterator[Checkout]:
        """Return all checkouts of all requests, request by request."""
        return (checkout for request in self.requests for checkout in request.checkouts)
