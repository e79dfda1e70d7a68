"""The size of the pool: the smallest one that meets the target, within what the threads and the server allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pool_doctor.analysis.estimate import Z
from pool_doctor.analysis.queueing import ErlangC
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
    recorded = facts.traffic(policy, goal.checkout_cost)
    now = Sizing(recorded, what_if)
    denser = Sizing(recorded.at_load(goal.headroom), replace(what_if, load=goal.headroom))
    thread_cap = _thread_cap(facts, at_once)
    budget = goal.budget.per_worker if goal.budget is not None else None
    cap = min((limit for limit in (thread_cap, budget) if limit is not None), default=None)
    wanted = smallest(lambda size: meets(denser[size], goal), _first_guess(denser, goal, at_once), cap)
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
    if facts.trace.threads is None or not facts.trace.all_threaded:
        return None
    return facts.trace.threads * at_once


def _first_guess(sizing: Sizing, goal: Goal, at_once: int) -> int:
    """Return where to begin: what Erlang's formula says for the busiest worker."""
    seconds = sizing.traffic.seconds
    busy, holds = max(((sum(worker.holds), len(worker.holds)) for worker in sizing.traffic.workers), default=(0.0, 0))
    if not busy or not seconds:
        return at_once
    size = math.floor(busy / seconds) + 1
    while ErlangC(holds / seconds, busy / holds, size).wait_quantile(goal.target_share) > goal.target_wait:
        size += 1
    return max(at_once, size)


def smallest(fits: Callable[[int], bool], guess: int, cap: int | None) -> int | None:
    """Return the smallest size up to ``cap`` that fits, None if none does: a larger size fits if a smaller one does.

    Every look costs a replay, so it goes from ``guess`` in steps that double, then halves what is left.
    """
    size = guess if cap is None else max(1, min(guess, cap))
    step = 1
    if fits(size):
        too_small = size - 1
        while too_small > 0 and fits(too_small):
            step *= 2
            size, too_small = too_small, max(0, too_small - step)
    else:
        too_small = size
        while size == too_small:
            if size == cap:
                return None
            size = size + step if cap is None else min(size + step, cap)
            step *= 2
            if not fits(size):
                too_small = size
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
