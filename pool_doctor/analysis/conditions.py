"""What the recording cannot tell, or tells about something else than the pool: each in one sentence, none guessed."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from operator import itemgetter
from typing import TYPE_CHECKING

from pool_doctor.analysis.counterfactual import scenario
from pool_doctor.analysis.demand import demand, levels, minute_peaks
from pool_doctor.analysis.wording import count, duration, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.analysis.counterfactual import Scenario
    from pool_doctor.analysis.demand import Demand
    from pool_doctor.analysis.simulate import SizeOutcome
    from pool_doctor.analysis.trace import Checkout, Policy, Trace

WAITED = 0.001
"""A recorded wait counts as one from here on, in seconds: asking an idle pool takes some microseconds as well."""

SATURATED_USE = 0.9
SATURATED_WAITS = 0.5
THREADS_BUSY = 0.2
THREADS_WAITED = 0.05
NEEDED_SHARE = 0.9
DOMINATING_HOLD = 0.5
DOMINATING_RUNS = 0.05
GROWTH = 1.5
FEWEST_FOR_GROWTH = 150
SAMPLE = 20_000
"""So many checkouts are enough to see whether holds grow with concurrency."""


@dataclass(frozen=True)
class Facts:
    """What is known about a trace before anything is replayed."""

    trace: Trace
    _traffic: dict[tuple[Policy, float], Scenario] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def demand(self) -> Demand:
        """The traffic in numbers."""
        return demand(self.trace)

    def traffic(self, policy: Policy, checkout_cost: float) -> Scenario:
        """Return what the trace would have asked of its pools under ``policy``, rebuilt once."""
        key = policy, checkout_cost
        if key not in self._traffic:
            self._traffic[key] = scenario(self.trace, policy, threads=self.trace.threads, checkout_cost=checkout_cost)
        return self._traffic[key]

    @cached_property
    def waits(self) -> list[float]:
        """All recorded waits, shortest first."""
        return sorted(checkout.wait for checkout in self.trace.checkouts() if checkout.outcome != "error")

    def waited_longer(self, seconds: float) -> float:
        """Return the share of recorded checkouts that waited longer than that."""
        return (len(self.waits) - bisect_right(self.waits, seconds)) / len(self.waits) if self.waits else 0.0

    @cached_property
    def use(self) -> float | None:
        """The share of the time that a connection of the recorded pools was in use; None without pools."""
        capacity = (self.trace.max_size or 0) * len(self.trace.processes)
        return self.demand.busy_mean / capacity if capacity else None

    @cached_property
    def saturation(self) -> str | None:
        """Why the recorded pool hides the demand behind it; None where it does not."""
        if self.trace.max_size is None:
            return None
        if self.demand.timeouts:
            return f"{count(self.demand.timeouts, 'checkout')} gave up waiting"
        if self.use is not None and self.use >= SATURATED_USE:
            return f"its connections were in use {percent(self.use)} of the time"
        waited = self.waited_longer(WAITED)
        return f"{percent(waited)} of the checkouts had to wait" if waited >= SATURATED_WAITS else None

    @cached_property
    def threads_busy(self) -> float:
        """The share of the time in which all threads of a process were busy."""
        if self.trace.threads is None:
            return 0.0
        spans: dict[int, list[tuple[float, float]]] = defaultdict(list)
        for request in self.trace.requests:
            if request.threaded:
                spans[request.process].append((request.start, request.end))
        found = [levels(own, self.trace.start, self.trace.end).seconds for own in spans.values()]
        total = sum(sum(seconds) for seconds in found)
        return sum(sum(seconds[self.trace.threads :]) for seconds in found) / total if total else 0.0

    @cached_property
    def needed_share(self) -> float | None:
        """Which share of the holds the connections were needed; None where each hold is a need by definition."""
        if self.trace.policy == "query":
            return None
        needed = held = 0.0
        for checkout in self.trace.checkouts():
            held += checkout.hold
            needed += sum(time for _, time in checkout.needed)
        return needed / held if held else None

    @cached_property
    def dominating(self) -> tuple[str, float, float] | None:
        """The scope that holds most of the time in few runs, with its share of hold time and its mean hold."""
        holds: dict[str, list[float]] = defaultdict(list)
        for request in self.trace.requests:
            if request.checkouts:
                holds[request.scope].append(sum(checkout.hold for checkout in request.checkouts))
        runs = sum(map(len, holds.values()))
        total = sum(map(sum, holds.values()))
        for scope, own in holds.items():
            if len(holds) > 1 and sum(own) >= DOMINATING_HOLD * total > 0 and len(own) <= DOMINATING_RUNS * runs:
                return scope, sum(own) / total, statistics.fmean(own)
        return None

    @cached_property
    def growth(self) -> float | None:
        """How many times as long queries take when many run at once as when few do; None if too few to tell."""
        segments = list(_segments(self.trace))
        durations: dict[str, list[float]] = defaultdict(list)
        for scope, _, time in segments:
            durations[scope].append(time)
        means = {scope: statistics.fmean(times) for scope, times in durations.items()}
        begins = sorted(start for _, start, _ in segments)
        ends = sorted(start + time for _, start, time in segments)
        step = max(1, len(segments) // SAMPLE)
        points = [
            (bisect_right(begins, start) - bisect_right(ends, start), time / means[scope])
            for scope, start, time in segments[::step]
            if means[scope]
        ]
        # By concurrency alone: among equals, the order of the recording says nothing about how long they took.
        points.sort(key=itemgetter(0))
        third = len(points) // 3
        if len(points) < FEWEST_FOR_GROWTH or points[-third][0] <= points[third][0]:
            return None
        few = statistics.fmean(relative for _, relative in points[:third])
        many = statistics.fmean(relative for _, relative in points[-third:])
        return many / few if few else None

    @cached_property
    def peak_before(self) -> tuple[int, int] | None:
        """The peak of the last day and that of the recording, where the day's is higher."""
        if not self.trace.minutes:
            return None
        day = max(minute.peak for minute in minute_peaks(self.trace))
        return (day, self.demand.levels.peak) if day > self.demand.levels.peak else None


def _segments(trace: Trace) -> Iterator[tuple[str, float, float]]:
    for request in trace.requests:
        for checkout in request.checkouts:
            for start, time in checkout.needed or _whole(checkout):
                yield request.scope, start, time


def _whole(checkout: Checkout) -> tuple[tuple[float, float], ...]:
    return ((checkout.start + checkout.wait, checkout.hold),) if checkout.outcome == "ok" else ()


def caveats(facts: Facts, policy: Policy, expected: SizeOutcome | None) -> list[str]:
    """Return what to keep in mind with the advice for ``policy``, one sentence each.

    ``expected`` is what the advised size does to the recorded traffic; None where there is no advice.
    """
    found = (
        *_about_threads(facts, expected),
        *_about_scopes(facts, policy),
        *_about_the_database(facts),
        *_about_the_recording(facts),
    )
    return list(found)


def _about_threads(facts: Facts, expected: SizeOutcome | None) -> Iterator[str]:
    threads = facts.trace.threads
    if threads is None:
        yield (
            "How many requests can run at once in a worker is unlimited or not known (as under ASGI), so only the "
            "recorded traffic limits how many connections it can want."
        )
    elif threads == 1:
        yield "A worker with one thread never uses more than one connection at a time: more would only sit idle."
    if expected is not None and expected.thread_waits >= THREADS_WAITED:
        evidence = f"{percent(expected.thread_waits)} of the requests still wait for one of the {threads} threads"
    elif facts.threads_busy >= THREADS_BUSY and facts.waited_longer(WAITED) < THREADS_WAITED:
        evidence = f"all {threads} threads of a worker were busy {percent(facts.threads_busy)} of the time"
    else:
        return
    yield f"Threads are the bottleneck, not connections: {evidence}. More connections will not shorten that queue."


def _about_scopes(facts: Facts, policy: Policy) -> Iterator[str]:
    needed, at_once = facts.needed_share, facts.demand.held_at_once
    if policy == "query" and needed is not None and needed >= NEEDED_SHARE:
        yield (
            f"Nearly all work is in transactions or in queries: connections are needed {percent(needed)} of the time "
            "they are held, so giving them back after each query frees next to nothing."
        )
    if facts.dominating is not None:
        scope, part, hold = facts.dominating
        yield (
            f"{scope} holds connections {percent(part)} of all hold time, {duration(hold)} a run, and decides the size "
            "for everybody: give it a pool, a worker, or a database alias of its own and ask again."
        )
    if at_once > 1:
        threads = facts.trace.threads
        safe = f" Only {threads * (at_once - 1) + 1} or more rule a deadlock out." if threads and threads > 1 else ""
        yield (
            f"{facts.demand.held_at_once_by} holds {at_once} connections at once; with fewer in the pool it would wait "
            f"for itself until the timeout.{safe}"
        )


def _about_the_database(facts: Facts) -> Iterator[str]:
    if facts.growth is not None and facts.growth >= GROWTH:
        yield (
            f"Queries take {facts.growth:.1f} times as long when many run at once as when few do: the database (or "
            "the CPU) is the bottleneck. The replay keeps the recorded times, so more connections will help less than "
            "it says."
        )
    if facts.trace.pooler:
        yield (
            "A pooler stands between the application and the server: its own limits decide how many connections the "
            "server sees, and a wait inside it looks like a slow query here."
        )


def _about_the_recording(facts: Facts) -> Iterator[str]:
    if facts.peak_before is not None:
        day, now = facts.peak_before
        yield (
            f"The busiest minute of the last day had {day} connections of one worker in use, this recording at most "
            f"{now}: ask again with a recording of the busiest time."
        )
    if facts.trace.policy in {"persistent", "unpooled"} or facts.trace.max_size is None:
        yield (
            "The recording was made without a pool that has a limit, so there are no waits to test the replay against."
        )
