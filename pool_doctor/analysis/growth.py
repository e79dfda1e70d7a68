"""Replay through a pool that opens its connections as psycopg_pool does.

The rules are those of ``psycopg_pool.ConnectionPool`` 3.2 and 3.3: it opens ``min_size`` connections at the first
checkout, three at a time; whoever finds none idle queues and starts the growth unless it is under way; growth opens
one connection after the other for as long as somebody queues; and every ``max_idle`` seconds one connection is
closed, if at least one was idle all that time.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from itertools import chain
from typing import TYPE_CHECKING

from pool_doctor.analysis.replay import Replay

if TYPE_CHECKING:
    from pool_doctor.analysis.replay import Traffic

NUM_WORKERS = 3
"""psycopg_pool's default for the threads that open connections."""

MAX_IDLE = 600.0
"""psycopg_pool's default, in seconds."""

# What happens at a moment, in the order in which it happens there: room is made before anybody asks.
_OPENED, _GROWN, _SHRINK, _RETURN, _GIVE_UP, _END, _BEGIN, _ASK = range(8)

_Event = tuple[float, int, int, int]
"""When, what, which request, which of its steps."""


@dataclass(frozen=True, slots=True)
class PoolRules:
    """The pool's settings; durations are seconds."""

    min_size: int
    max_size: int
    connect_time: float
    timeout: float = math.inf
    max_idle: float = MAX_IDLE


def replay_growth(traffic: Traffic, rules: PoolRules, threads: int | None = None) -> Replay:
    """Run ``traffic`` through a pool that is closed at first and grows by ``rules``."""
    return _Run(traffic, rules, threads).result()


@dataclass(slots=True)
class _Pool:
    """The state of the pool, in psycopg_pool's terms: size counts connections in use, idle and being opened."""

    rules: PoolRules
    size: int = 0
    idle: int = 0
    least_idle: int = 0
    growing: bool = False
    opened: bool = False
    openers: list[float] = field(default_factory=lambda: [-math.inf] * NUM_WORKERS)
    """A heap: when each of the threads that open connections has nothing more to do."""

    def ready_at(self, now: float) -> float:
        """Return when a connection that is ordered now will be open."""
        ready = max(now, self.openers[0]) + self.rules.connect_time
        heapreplace(self.openers, ready)
        return ready


class _Run:
    def __init__(self, traffic: Traffic, rules: PoolRules, threads: int | None) -> None:
        self.traffic = traffic
        self.rules = rules
        self.pool = _Pool(rules)
        self.idle_threads = threads or 0
        self.limited = threads is not None
        self.for_a_thread: deque[int] = deque()
        self.queue: deque[tuple[int, int, int]] = deque()
        """Who waits for a connection: request, step, position among the waits."""
        self.settled: set[int] = set()
        """Positions that were served before they would give up, or gave up before they would be served."""
        self.events: list[_Event] = []
        self.waits: list[float] = []
        self.asked_at: list[float] = []
        self.thread_waits: list[float] = []
        self.timeouts = 0
        self.busy = 0.0
        self.unfinished = 0

    def result(self) -> Replay:
        do = {
            _OPENED: lambda now, *_: self._add(now),
            _GROWN: self._grown,
            _SHRINK: self._shrink,
            _RETURN: self._return,
            _END: self._end,
            _BEGIN: self._arrive,
            _ASK: self._ask,
            _GIVE_UP: self._give_up,
        }
        arrivals = sorted(
            (self.traffic.starts[index], _BEGIN, index, 0)
            for index in chain(self.traffic.order, self.traffic.threadless)
        )
        self.unfinished = len(arrivals)
        arrivals.append((math.inf, _BEGIN, -1, 0))
        for arrival in arrivals:
            while self.events and self.events[0] < arrival:
                now, what, index, step = heappop(self.events)
                do[what](now, index, step)
            if arrival[2] >= 0:
                self._arrive(*arrival[:1], *arrival[2:])
        return Replay(self.waits, self.asked_at, self.thread_waits, self.timeouts, self.busy)

    def _arrive(self, now: float, index: int, _: int) -> None:
        if not self.limited or index in self.traffic.threadless:
            self._begin(now, index)
        elif self.idle_threads:
            self.idle_threads -= 1
            self.thread_waits.append(0.0)
            self._begin(now, index)
        else:
            self.for_a_thread.append(index)

    def _begin(self, now: float, index: int) -> None:
        first, last = self.traffic.firsts[index : index + 2]
        if first == last:
            heappush(self.events, (now + self.traffic.tails[index], _END, index, 0))
        else:
            heappush(self.events, (now + self.traffic.gaps[first], _ASK, index, first))

    def _end(self, now: float, index: int, _: int) -> None:
        self.unfinished -= 1
        if not self.limited or index in self.traffic.threadless:
            return
        if self.for_a_thread:
            following = self.for_a_thread.popleft()
            self.thread_waits.append(now - self.traffic.starts[following])
            self._begin(now, following)
        else:
            self.idle_threads += 1

    def _ask(self, now: float, index: int, step: int) -> None:
        pool = self.pool
        if not pool.opened:
            self._open(now)
        position = len(self.waits)
        self.asked_at.append(now)
        self.waits.append(0.0)
        if pool.idle:
            pool.idle -= 1
            pool.least_idle = min(pool.least_idle, pool.idle)
            self._hold(now, index, step)
            return
        self.queue.append((index, step, position))
        if self.rules.timeout < math.inf:
            heappush(self.events, (now + self.rules.timeout, _GIVE_UP, index, position))
        if pool.size < self.rules.max_size and not pool.growing:
            pool.growing = True
            self._grow(now)

    def _open(self, now: float) -> None:
        pool = self.pool
        pool.opened = True
        pool.size = pool.least_idle = self.rules.min_size
        for _ in range(pool.size):
            ready = pool.ready_at(now)
            # A connection that takes no time is there for whoever opened the pool.
            if ready <= now:
                pool.idle += 1
            else:
                heappush(self.events, (ready, _OPENED, -1, 0))
        heappush(self.events, (now + self.rules.max_idle, _SHRINK, -1, 0))

    def _grow(self, now: float) -> None:
        self.pool.size += 1
        heappush(self.events, (self.pool.ready_at(now), _GROWN, -1, 0))

    def _grown(self, now: float, *_: int) -> None:
        self._add(now)
        pool = self.pool
        if pool.size < pool.rules.min_size or (pool.size < pool.rules.max_size and self.queue):
            self._grow(now)
        else:
            pool.growing = False

    def _add(self, now: float) -> None:
        """Give a connection to whoever waits longest, else keep it."""
        while self.queue:
            index, step, position = self.queue.popleft()
            if position not in self.settled:
                if self.rules.timeout < math.inf:
                    self.settled.add(position)
                self.waits[position] = now - self.asked_at[position]
                self._hold(now, index, step)
                return
            self.settled.discard(position)
        self.pool.idle += 1

    def _hold(self, now: float, index: int, step: int) -> None:
        hold = self.traffic.holds[step]
        self.busy += hold
        heappush(self.events, (now + hold, _RETURN, index, step))

    def _return(self, now: float, index: int, step: int) -> None:
        self._add(now)
        if step + 1 < self.traffic.firsts[index + 1]:
            heappush(self.events, (now + self.traffic.gaps[step + 1], _ASK, index, step + 1))
        else:
            heappush(self.events, (now + self.traffic.tails[index], _END, index, 0))

    def _give_up(self, now: float, index: int, position: int) -> None:
        if position in self.settled:
            self.settled.discard(position)
            return
        self.settled.add(position)
        self.waits[position] = self.rules.timeout
        self.timeouts += 1
        heappush(self.events, (now, _END, index, 0))

    def _shrink(self, now: float, *_: int) -> None:
        pool = self.pool
        least_idle, pool.least_idle = pool.least_idle, pool.idle
        if pool.size > self.rules.min_size and least_idle > 0 and pool.idle:
            pool.size -= 1
            pool.idle -= 1
            pool.least_idle -= 1
        if self.unfinished:
            heappush(self.events, (now + self.rules.max_idle, _SHRINK, -1, 0))
