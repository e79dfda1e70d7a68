"""The size of the pool: the smallest one that meets the target, within what the threads and the server allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pool_doctor.analysis.estimate import Z
from pool_doctor.analysis.replay import ROUNDING
from pool_doctor.analysis.simulate import Sizing, WhatIf

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool_doctor.analysis.conditions import Facts
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.simulate import SizeOutcome
    from pool_doctor.analysis.trace import Policy

BoundBy = Literal["target", "threads", "budget", "request", "saturation"]
"""What decided: the target, the number of threads, the server's budget, what one request holds at once, or that the
recorded pool was too small to see the whole demand."""

DEFAULT_TIMEOUT = 30.0
"""psycopg_pool's, in seconds."""

STEP = 0.5
"""One step up from a saturated pool is this share of its size, rounded up."""


@dataclass(frozen=True)
class Choice:
    """The chosen size, with the replays that led to it."""

    size: int
    bound_by: BoundBy
    wanted: int | None
    """The smallest size that meets the target; None where none within the limits does."""
    thread_cap: int | None
    """The most connections that the threads of a worker can use."""
    now: Sizing
    """The traffic as recorded."""
    denser: Sizing
    """The same with the headroom, which decides."""

    @property
    def predicted(self) -> SizeOutcome:
        """What to expect of the chosen size at the recorded load."""
        return self.now[self.size]

    @property
    def checked(self) -> SizeOutcome:
        """The chosen size at the recorded load times the headroom."""
        return self.denser[self.size]

    @property
    def next_smaller(self) -> SizeOutcome | None:
        """One connection less, at the recorded load times the headroom; None where there is no such size."""
        return self.denser[self.size - 1] if self.size > 1 else None


def meets(outcome: SizeOutcome, goal: Goal) -> bool:
    """Return whether ``outcome`` meets the target for sure: nobody gives up, and the upper bound is low enough."""
    # Where nobody waits at all, no larger pool does better, however little was recorded.
    return not outcome.timeouts and (outcome.too_long.high <= goal.allowed or outcome.wait_max <= ROUNDING)


def choose(facts: Facts, policy: Policy, goal: Goal) -> Choice:
    """Return the size to advise for ``policy``."""
    trace, at_once = facts.trace, max(1, facts.demand.held_at_once)
    what_if = WhatIf(
        policy=policy,
        timeout=trace.timeout or DEFAULT_TIMEOUT,
        target_wait=goal.target_wait,
        checkout_cost=goal.checkout_cost,
    )
    recorded = what_if.scenario(trace)
    now = Sizing(recorded, what_if)
    denser = Sizing(recorded.at_load(goal.headroom), replace(what_if, load=goal.headroom))
    thread_cap = _thread_cap(facts, at_once)
    budget = goal.budget.per_worker if goal.budget is not None else None
    cap = min((limit for limit in (thread_cap, budget) if limit is not None), default=None)
    wanted = smallest(lambda size: meets(denser[size], goal), _first_guess(denser, at_once), cap)
    size, bound_by = _within(facts, policy, wanted, at_once, cap)
    if bound_by == "target" and size == thread_cap:
        bound_by = "threads"
    if cap is not None and size == cap and cap == budget and wanted is None:
        bound_by = "budget"
    return Choice(size, bound_by, wanted, thread_cap, now, denser)


def one_step_up(size: int) -> int:
    """Return the size to try where a pool of ``size`` was saturated."""
    return math.ceil(size * (1 + STEP))


def fewest_checkouts(goal: Goal) -> float:
    """Return how many independent checkouts without a single long wait it takes to show that the target is met."""
    return Z * Z * goal.target_share / goal.allowed


def _thread_cap(facts: Facts, at_once: int) -> int | None:
    if facts.trace.threads is None or not all(request.threaded for request in facts.trace.requests):
        return None
    return facts.trace.threads * at_once


def _first_guess(sizing: Sizing, at_once: int) -> int:
    """Return a size to begin with: what the busiest worker uses on average, for less cannot do."""
    busy = max((sum(worker.holds) for worker in sizing.traffic.workers), default=0.0)
    return max(at_once, math.ceil(busy / sizing.traffic.seconds)) if sizing.traffic.seconds else at_once


def smallest(fits: Callable[[int], bool], guess: int, cap: int | None) -> int | None:
    """Return the smallest size that fits, by doubling and halving: waits only get shorter with size."""
    too_small, size = 0, guess if cap is None else min(guess, max(cap, 1))
    while not fits(size):
        if size == cap:
            return None
        too_small, size = size, 2 * size if cap is None else min(2 * size, cap)
    while size - too_small > 1:
        middle = (too_small + size) // 2
        if fits(middle):
            size = middle
        else:
            too_small = middle
    return size


def _within(facts: Facts, policy: Policy, wanted: int | None, at_once: int, cap: int | None) -> tuple[int, BoundBy]:
    size = wanted if wanted is not None else max(cap or 1, 1)
    bound_by: BoundBy = "target"
    if facts.saturation is not None:
        seen = facts.trace.max_size if policy == facts.trace.policy else size
        step = max(size, one_step_up(seen or size))
        size, bound_by = step if cap is None else min(step, max(cap, 1)), "saturation"
    if size <= at_once and at_once > 1:
        size, bound_by = at_once, "request"
    return size, bound_by
