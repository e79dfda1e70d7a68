"""Exact replay of recorded requests through a pool of another size.

The pool is first come, first served, as psycopg_pool is. So the next connection to come free belongs to
whoever asked first, and the moment of each checkout is known when it is asked for: the later of that moment
and the earliest entry in a heap of the times at which each connection comes free. No event is needed for a
return.
"""

from __future__ import annotations

import math
from array import array
from copy import copy
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

Ask = tuple[float, int, int]
"""When, which request, and where its step is in the columns."""

_NOBODY = -1


class Request(NamedTuple):
    """One request: ``start``, ``steps`` of (gap, hold), then ``tail`` seconds without a connection."""

    start: float
    steps: tuple[Step, ...]
    tail: float = 0.0


@dataclass(frozen=True)
class Replay:
    """What the requests would have met. Durations and moments are seconds."""

    waits: list[float]
    """The wait of each checkout, in the order in which they were asked for."""
    asked_at: list[float] = field(repr=False)
    """When each of them was asked for."""
    thread_waits: list[float] = field(repr=False)
    """How long each request waited for a thread, in the order in which they began; empty without a limit."""
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
        return order_statistic(self._positive, len(self.waits), share("p", p))

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
    """Requests that are checked and sorted once, to be replayed many times; kept in columns, for there are many."""

    def __init__(self, requests: Iterable[Request] = (), threadless: Collection[int] = ()) -> None:
        """``threadless`` are the positions of requests that run outside the server's threads.

        Raise ValueError for a request with a number that cannot be.
        """
        self.starts, self.tails = array("d"), array("d")
        self.gaps, self.holds = array("d"), array("d")
        self.firsts = array("q", [0])
        """Where the steps of each request begin in the columns of steps; one more says where the last one ends."""
        self.threadless: set[int] = set()
        for position, request in enumerate(requests):
            self.add(request, threaded=position not in threadless)

    @cached_property
    def order(self) -> array[int]:
        """The requests that need a thread, by their start; where that is the same, in the order given."""
        threaded = (index for index in range(len(self.starts)) if index not in self.threadless)
        return array("q", sorted(threaded, key=self.starts.__getitem__))

    def add(self, request: Request, *, threaded: bool = True) -> None:
        """Take ``request`` in, before the first replay; raise ValueError for a number that cannot be."""
        start, steps, tail = request
        # One sum tells whether every number is finite, and min whether one is negative.
        total = start + tail
        least = tail
        for gap, hold in steps:
            total += gap + hold
            least = min(least, gap, hold)
            self.gaps.append(gap)
            self.holds.append(hold)
        if not (least >= 0 and math.isfinite(total)):
            raise ValueError(
                f"Request {len(self.starts)} cannot be replayed: start must be finite, gaps, holds and tail must be "
                f"finite and 0 or more, not {request!r}."
            )
        if not threaded:
            self.threadless.add(len(self.starts))
        self.starts.append(start)
        self.tails.append(tail)
        self.firsts.append(len(self.gaps))

    def __len__(self) -> int:
        return len(self.starts)

    def faster(self, load: float, origin: float) -> Traffic:
        """Return the same requests, arriving ``load`` times as fast from ``origin`` on."""
        other = copy(self)
        other.starts = array("d", [origin + (start - origin) / load for start in self.starts])
        return other

    def replay(self, size: int, threads: int | None = None, timeout: float = math.inf) -> Replay:
        """Do what the function `replay` does, with arguments that are known to be right."""
        starts, tails, gaps, holds, firsts = self.starts, self.tails, self.gaps, self.holds, self.firsts
        limited = threads is not None
        # When each connection comes free, and when each thread does whose request has had its last checkout.
        free, ends = [-math.inf] * size, [-math.inf] * (threads or 0)
        asks = self._first_asks_without_thread()
        waits: list[float] = []
        asked_at: list[float] = []
        thread_waits: list[float] = []
        timeouts = 0
        busy = 0.0
        for arriving in chain(self.order, (_NOBODY,)):
            start = starts[arriving] if arriving != _NOBODY else math.inf
            # A request still asking ends no earlier than it asks: an end before all asks is the next one for sure.
            while asks[0][0] < start or (limited and (not ends or start < ends[0] > asks[0][0])):
                asked, index, step = asks[0]
                granted = free[0] if free[0] > asked else asked  # noqa: FURB136 (max() takes twice as long)
                asked_at.append(asked)
                if granted - asked > timeout:
                    waits.append(timeout)
                    timeouts += 1
                    end = asked + timeout
                else:
                    waits.append(granted - asked)
                    hold = holds[step]
                    busy += hold
                    released = granted + hold
                    heapreplace(free, released)
                    step += 1
                    if step < firsts[index + 1]:
                        heapreplace(asks, (released + gaps[step], index, step))
                        continue
                    end = released + tails[index]
                heappop(asks)
                if limited and index not in self.threadless:
                    heappush(ends, end)
            if arriving == _NOBODY:
                break
            if limited:
                thread_waits.append(max(0.0, ends[0] - start))
                start = max(start, heappop(ends))
            first = firsts[arriving]
            if first < firsts[arriving + 1]:
                heappush(asks, (start + gaps[first], arriving, first))
            elif limited:
                heappush(ends, start + tails[arriving])
        return Replay(waits, asked_at, thread_waits, timeouts, busy)

    def _first_asks_without_thread(self) -> list[Ask]:
        """Return a heap of the first asks of all that need no thread, and of one that never comes."""
        asks = [(math.inf, _NOBODY, 0)]
        for index in self.threadless:
            first = self.firsts[index]
            if first < self.firsts[index + 1]:
                asks.append((self.starts[index] + self.gaps[first], index, first))
        heapify(asks)
        return asks


def order_statistic(positive: Sequence[float], number: int, p: float) -> float:
    """Return the shortest of ``number`` waits that at least the share ``p`` do not exceed.

    ``positive`` are those above zero, sorted.
    """
    # 0.07 * 100 is a little more than 7 in binary: without the subtraction, the rank would be 8.
    rank = math.ceil(p * number - ROUNDING) - (number - len(positive))
    return positive[rank - 1] if rank > 0 else 0.0
