"""Exact replay of recorded requests through a pool of another size.

The pool is first come, first served, as psycopg_pool is. So the next connection to come free belongs to
whoever asked first, and the moment of each checkout is known when it is asked for: the later of that moment
and the earliest entry in a heap of the times at which each connection comes free. No event is needed for a
return.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from heapq import heapify, heappop, heappush, heapreplace
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from pool_doctor.analysis._checks import number, share, whole

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

Step = tuple[float, float]
"""A gap without a connection, then a hold; both in seconds."""

ROUNDING = 1e-9
"""Waits up to a nanosecond are rounding errors, and no waits, where waits are counted."""

Event = tuple[float, int, int]
"""When, which request (or _END), which of its steps."""

_END = -1
"""Marks the end of a request among the events: at one and the same moment, ends come before asks."""


class Request(NamedTuple):
    """One request: ``start``, ``steps`` of (gap, hold), then ``tail`` seconds without a connection."""

    start: float
    steps: tuple[Step, ...]
    tail: float = 0.0


_LAST = Request(math.inf, ())


@dataclass(frozen=True)
class Replay:
    """What the requests would have met. Durations and moments are seconds."""

    waits: list[float]
    """The wait of each checkout, in the order in which they were asked for."""
    asked_at: list[float] = field(repr=False)
    """When each of them was asked for."""
    thread_waits: list[float] = field(repr=False)
    """How long each request waited for a thread, in the order in which they began."""
    timeouts: int
    """How many checkouts gave up."""
    busy: float
    """The sum of all holds."""

    @property
    def p_wait(self) -> float:
        """The share of checkouts that had to wait; 0 when there was none."""
        return len(self._positive) / len(self.waits) if self.waits else 0.0

    def wait_quantile(self, p: float) -> float:
        """Return the shortest wait that at least the share ``p`` do not exceed; 0 without any."""
        # 0.07 * 100 is a little more than 7 in binary: without the subtraction, the rank would be 8.
        within = math.ceil(share("p", p) * len(self.waits) - ROUNDING)
        rank = within - (len(self.waits) - len(self._positive))
        return self._positive[rank - 1] if rank > 0 else 0.0

    @cached_property
    def _positive(self) -> list[float]:
        return sorted(wait for wait in self.waits if wait > ROUNDING)


def replay(
    requests: Iterable[Request], max_size: int, threads: int | None = None, *, timeout: float | None = None
) -> Replay:
    """Run ``requests`` through a pool of ``max_size`` connections and, if given, through ``threads`` threads.

    Requests may come in any order; who starts or asks at the same moment is served in the order given. With
    ``threads``, a request first waits for a thread, first come, first served, and keeps it to the end of its
    tail. With ``timeout``, a checkout that would wait longer gives up after that many seconds, and its
    request ends there. Raise ValueError for a number that cannot be.
    """
    whole("max_size", max_size, 1)
    if threads is not None:
        whole("threads", threads, 1)
    limit = math.inf if timeout is None else number("timeout", timeout, "seconds", positive=True)
    return Traffic(requests).replay(max_size, threads, limit)


class Traffic:
    """Requests that are checked and sorted once, to be replayed many times."""

    def __init__(self, requests: Iterable[Request], threadless: Collection[int] = ()) -> None:
        """``threadless`` are the positions of requests that run outside the server's threads.

        Raise ValueError for a request with a number that cannot be.
        """
        self.requests: Sequence[Request] = requests if isinstance(requests, (list, tuple)) else list(requests)
        _check(self.requests)
        self.threadless = frozenset(threadless)
        starts = [request[0] for request in self.requests]
        threaded = (index for index in range(len(starts)) if index not in self.threadless)
        self.order: list[int] = sorted(threaded, key=starts.__getitem__)
        """The requests that need a thread, by their start; where that is the same, in the order given."""

    def first_events(self) -> list[Event]:
        """Return a heap of the first asks of the requests that need no thread, and of the end of time."""
        events: list[Event] = [(math.inf, _END, 0)]
        for index in self.threadless:
            start, steps, _ = self.requests[index]
            if steps:
                events.append((start + steps[0][0], index, 0))
        heapify(events)
        return events

    def replay(self, size: int, threads: int | None = None, timeout: float = math.inf) -> Replay:
        """Do what the function `replay` does, with arguments that are known to be right."""
        requests = self.requests
        # Ends matter to those who wait for a thread only.
        endless = range(len(requests)) if threads is None else self.threadless
        idle = len(requests) + 1 if threads is None else threads
        freed_at = -math.inf
        free = [-math.inf] * size
        events = self.first_events()
        waits: list[float] = []
        asked_at: list[float] = []
        thread_waits: list[float] = []
        timeouts = 0
        busy = 0.0
        for arriving in chain(self.order, (_END,)):
            start, steps, tail = requests[arriving] if arriving != _END else _LAST
            while events[0][0] < start or not idle:
                asked, index, step = events[0]
                if index == _END:
                    heappop(events)
                    idle += 1
                    freed_at = asked
                    continue
                granted = free[0] if free[0] > asked else asked  # noqa: FURB136 (max() takes twice as long)
                asked_at.append(asked)
                own = requests[index]
                if granted - asked > timeout:
                    waits.append(timeout)
                    timeouts += 1
                    next_event = (asked + timeout, _END, 0)
                else:
                    waits.append(granted - asked)
                    hold = own[1][step][1]
                    busy += hold
                    released = granted + hold
                    heapreplace(free, released)
                    step += 1
                    if step < len(own[1]):
                        heapreplace(events, (released + own[1][step][0], index, step))
                        continue
                    next_event = (released + own[2], _END, 0)
                if index in endless:
                    heappop(events)
                else:
                    heapreplace(events, next_event)
            begin = max(start, freed_at)
            if arriving != _END:
                thread_waits.append(begin - start)
                idle -= 1
                if steps:
                    heappush(events, (begin + steps[0][0], arriving, 0))
                elif threads is not None:
                    heappush(events, (begin + tail, _END, 0))
        return Replay(waits, asked_at, thread_waits, timeouts, busy)


def _check(requests: Sequence[Request]) -> None:
    for position, (start, steps, tail) in enumerate(requests):
        # One sum tells whether every number is finite, and min whether one is negative: the common case in
        # one go.
        total = start + tail
        least = tail
        for gap, hold in steps:
            total += gap + hold
            least = min(least, gap, hold)
        if least < 0 or not math.isfinite(total):
            raise ValueError(
                f"Request {position} cannot be replayed: start must be finite, gaps, holds and tail "
                f"must be finite and 0 or more, not {requests[position]!r}."
            )
