"""Recorded requests as they would be under a policy, at a load, on a number of workers: the input of the replay."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pool_doctor.analysis.replay import Request, Step, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pool_doctor.analysis.trace import Checkout, Policy, Trace, TracedRequest

TOUCHING = 1e-6
"""Checkouts of one thread may overlap by this much, in seconds: two clock readings are not one."""

_DEALER = 20_011


@dataclass(frozen=True, slots=True)
class Scenario:
    """The traffic of each worker, ready to be replayed."""

    workers: list[Traffic]
    start: float
    seconds: float
    threads: int | None

    def at_load(self, load: float) -> Scenario:
        """Return the same requests, arriving ``load`` times as fast."""
        workers = [worker.faster(load, self.start) for worker in self.workers]
        return Scenario(workers, self.start, self.seconds / load, self.threads)


def scenario(
    trace: Trace,
    policy: Policy,
    *,
    load: float = 1.0,
    threads: int | None = None,
    workers: int | None = None,
    checkout_cost: float = 0.0,
) -> Scenario:
    """Return what ``trace`` would have asked of its pools under ``policy``.

    ``load`` brings the arrivals closer together by that factor and leaves each request as it is. ``workers`` deals all
    requests out to that many processes at random, as the kernel does; by default each stays where it was.
    ``checkout_cost`` (seconds) lengthens each hold under the policy `query`, where the recording has another one.
    """
    rebuild = _Rebuild(trace, policy, checkout_cost)
    dealer = random.Random(_DEALER)  # noqa: S311 (the same deal each time, so that reports can be compared)
    own = {worker: Traffic() for worker in (trace.processes if workers is None else range(workers))}
    for traced in trace.requests:
        worker = own[traced.process if workers is None else dealer.randrange(workers)]
        for lane, request in enumerate(rebuild.lanes(traced)):
            worker.add(request, threaded=traced.threaded and not lane)
    recorded = Scenario(list(own.values()), trace.start, trace.seconds, threads)
    return recorded if load == 1 else recorded.at_load(load)


class _Rebuild:
    """Turns the checkouts of one recorded request into steps."""

    def __init__(self, trace: Trace, policy: Policy, checkout_cost: float) -> None:
        self.policy = policy
        self.recorded_release = trace.policy == "query"
        self.cost = 0.0 if self.recorded_release else checkout_cost
        self.missed = _MissedHolds(trace, policy)

    def lanes(self, traced: TracedRequest) -> Iterator[Request]:
        """Yield a request for each connection that ``traced`` had at the same time, the first with its thread."""
        _, _, start, end, checkouts, queued, _ = traced
        arrived = start - queued if queued else start
        if any(checkout.outcome == "error" for checkout in checkouts):
            checkouts = tuple(checkout for checkout in checkouts if checkout.outcome != "error")
        if len(checkouts) <= 1:
            yield self._request(traced, checkouts, arrived, start, end)
            return
        for position, lane in enumerate(apart(checkouts)):
            start = lane[0].start
            if position:
                yield self._request(traced, lane, start, start, lane[-1].end)
            else:
                yield self._request(traced, lane, arrived, traced.start, traced.end)

    def _request(
        self, traced: TracedRequest, lane: Sequence[Checkout], arrived: float, start: float, end: float
    ) -> Request:
        if not lane:
            return Request(arrived, (), max(0.0, end - start))
        if self.policy == "request" and self.recorded_release:
            steps, released = self._held_throughout(traced, lane, start, end)
        else:
            steps, released = self._each_checkout(traced, lane, start)
        return Request(arrived, tuple(steps), max(0.0, end - released))

    def _held_throughout(
        self, traced: TracedRequest, lane: Sequence[Checkout], start: float, end: float
    ) -> tuple[list[Step], float]:
        first = lane[0]
        waits_inside = sum(checkout.wait for checkout in lane[1:])
        missed = sum(self.missed.of(traced.scope) for checkout in lane if checkout.outcome == "timeout")
        hold = max(0.0, end - first.start - first.wait - waits_inside) + missed
        return [(max(0.0, first.start - start), hold)], end

    def _each_checkout(self, traced: TracedRequest, lane: Sequence[Checkout], start: float) -> tuple[list[Step], float]:
        steps: list[Step] = []
        released = start
        # Time that passes inside a hold and after its last need counts as gap under the policy that gives back early.
        for checkout in lane:
            gap = max(0.0, checkout.start - released)
            if checkout.outcome == "timeout":
                steps.append((gap, self.missed.of(traced.scope)))
                released = checkout.start + checkout.wait
            elif self.policy == "query" and not self.recorded_release:
                released = self._needed(checkout, gap, steps)
            else:
                steps.append((gap, checkout.hold))
                released = checkout.end
        return steps, released

    def _needed(self, checkout: Checkout, gap: float, steps: list[Step]) -> float:
        released = checkout.start + checkout.wait
        for start, duration in checkout.needed or ((released, 0.0),):
            steps.append((gap + max(0.0, start - released), duration + self.cost))
            released = start + duration
            gap = 0.0
        return released


class _MissedHolds:
    """How long a checkout that gave up would have held: the mean of its scope, else that of all."""

    def __init__(self, trace: Trace, policy: Policy) -> None:
        self.trace = trace
        self.by_need = policy == "query" and trace.policy != "query"

    def of(self, scope: str) -> float:
        """Return the hold, in seconds; 0 where no checkout succeeded."""
        return self._means.get(scope, self._means.get(None, 0.0))

    @cached_property
    def _means(self) -> dict[str | None, float]:
        found: dict[str | None, list[float]] = defaultdict(lambda: [0.0, 0])
        for request in self.trace.requests:
            for checkout in request.checkouts:
                if checkout.outcome == "ok":
                    hold = sum(time for _, time in checkout.needed) if self.by_need else checkout.hold
                    for key in (request.scope, None):
                        found[key][0] += hold
                        found[key][1] += 1
        return {scope: total / count for scope, (total, count) in found.items()}


def apart(checkouts: Iterable[Checkout]) -> list[list[Checkout]]:
    """Split checkouts into as few rows as possible in which none overlaps the next."""
    lanes: list[list[Checkout]] = []
    for checkout in sorted(checkouts):
        for lane in lanes:
            if lane[-1].end <= checkout.start + TOUCHING:
                lane.append(checkout)
                break
        else:
            lanes.append([checkout])
    return lanes


def held_at_once(request: TracedRequest) -> int:
    """Return how many connections ``request`` had at the same time."""
    return len(apart(checkout for checkout in request.checkouts if checkout.outcome == "ok"))
