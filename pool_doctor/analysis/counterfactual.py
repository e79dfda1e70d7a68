"""Recorded requests as they would be under a policy, at a load, on a number of workers: the input of the replay."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis.replay import Request, Step, Traffic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    own: dict[int, tuple[list[Request], list[int]]] = {process: ([], []) for process in trace.processes}
    if workers is not None:
        own = {worker: ([], []) for worker in range(workers)}
    dealer = random.Random(_DEALER)  # noqa: S311 (the same deal each time, so that reports can be compared)
    for traced in trace.requests:
        requests, threadless = own[traced.process if workers is None else dealer.randrange(workers)]
        for lane, (start, steps, tail) in enumerate(rebuild.lanes(traced)):
            if lane or not traced.threaded:
                threadless.append(len(requests))
            requests.append(Request(trace.start + (start - trace.start) / load, steps, tail))
    traffic = [Traffic(requests, threadless) for requests, threadless in own.values()]
    return Scenario(traffic, trace.start, trace.seconds / load, threads)


class _Rebuild:
    """Turns the checkouts of one recorded request into steps."""

    def __init__(self, trace: Trace, policy: Policy, checkout_cost: float) -> None:
        self.policy = policy
        self.recorded_release = trace.policy == "query"
        self.cost = 0.0 if self.recorded_release else checkout_cost
        self.missed = _MissedHolds(trace, policy)

    def lanes(self, traced: TracedRequest) -> Iterator[Request]:
        """Yield a request for each connection that ``traced`` had at the same time, the first with its thread."""
        arrived = traced.start - (traced.queued or 0.0)
        checkouts = [checkout for checkout in traced.checkouts if checkout.outcome != "error"]
        if len(checkouts) <= 1:
            yield self._request(traced, checkouts, arrived, traced.start, traced.end)
            return
        for position, lane in enumerate(_apart(checkouts)):
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
        sums: dict[str | None, list[float]] = defaultdict(lambda: [0.0, 0])
        if any(checkout.outcome == "timeout" for checkout in trace.checkouts):
            for request in trace.requests:
                for checkout in request.checkouts:
                    if checkout.outcome == "ok":
                        need = sum(duration for _, duration in checkout.needed)
                        for key in (request.scope, None):
                            sums[key][0] += need if policy == "query" and trace.policy != "query" else checkout.hold
                            sums[key][1] += 1
        self._means = {scope: total / count for scope, (total, count) in sums.items()}

    def of(self, scope: str) -> float:
        return self._means.get(scope, self._means.get(None, 0.0))


def _apart(checkouts: list[Checkout]) -> list[list[Checkout]]:
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
    checkouts = [checkout for checkout in request.checkouts if checkout.outcome == "ok"]
    return len(checkouts) if len(checkouts) <= 1 else len(_apart(checkouts))
