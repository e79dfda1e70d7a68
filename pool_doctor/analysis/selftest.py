"""The gate before any advice: replayed as it was recorded, the traffic must wait as it was recorded to wait."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis.growth import PoolRules, replay_growth
from pool_doctor.analysis.simulate import summarise
from pool_doctor.analysis.wording import count, duration, percent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.analysis.conditions import Facts
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.replay import Replay

TOLERANCE = 0.05
"""The shares of too long waits, recorded and replayed, may differ by this much and the replay's own uncertainty."""

CONNECT_TIME = 0.02
"""What opening a connection is taken to cost where nobody measured it, in seconds."""

_STEPS = (1.0, 4.0, 16.0, 64.0)
"""The distributions are compared at these multiples of the target, and beyond it only: below, clocks and the
interpreter's switching of threads make waits that are none of the pool's."""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """Whether the replay can be trusted with this recording."""

    passed: bool
    sentence: str
    recorded: float
    """The share of recorded checkouts that waited longer than the target."""
    replayed: float


def self_test(facts: Facts, goal: Goal) -> SelfTest | None:
    """Replay the recording at its own size and policy; None where it had no pool with a limit."""
    trace = facts.trace
    if trace.max_size is None or trace.policy not in {"request", "query"}:
        return None
    scenario = facts.traffic("query" if trace.policy == "query" else "request", goal.checkout_cost)
    limit = math.inf if trace.timeout is None else trace.timeout
    flat = [worker.replay(trace.max_size, trace.threads, limit) for worker in scenario.workers]
    share = summarise(scenario, flat, trace.max_size, goal.target_wait).too_long
    tolerance = TOLERANCE + (share.high - share.low) / 2
    test = _compare(facts, flat, goal.target_wait, tolerance)
    if test.passed or trace.min_size is None or trace.min_size >= trace.max_size:
        return test
    # The pool may have been growing while it was recorded; where it had grown before, the first comparison holds.
    rules = PoolRules(trace.min_size, trace.max_size, trace.connect_time or CONNECT_TIME, limit)
    grown = [replay_growth(worker, rules, trace.threads) for worker in scenario.workers]
    return _compare(facts, grown, goal.target_wait, tolerance)


def _compare(facts: Facts, results: Sequence[Replay], target_wait: float, tolerance: float) -> SelfTest:
    waits = sorted(wait for result in results for wait in result.waits)
    distance = 0.0
    for times in _STEPS:
        replayed = (len(waits) - bisect_right(waits, times * target_wait)) / (len(waits) or 1)
        distance = max(distance, abs(replayed - facts.waited_longer(times * target_wait)))
    replayed = (len(waits) - bisect_right(waits, target_wait)) / (len(waits) or 1)
    recorded = facts.waited_longer(target_wait)
    size = count(facts.trace.max_size or 0, "connection")
    evidence = (
        f"replayed with its own {size}, {percent(replayed)} of the checkouts wait longer than {duration(target_wait)}; "
        f"recorded were {percent(recorded)}"
    )
    if distance <= tolerance:
        return SelfTest(True, f"Self-test passed: {evidence}.", recorded, replayed)
    return SelfTest(
        False,
        f"No advice, because the self-test failed: {evidence}. Something that was not recorded takes part in the waits "
        "(connections that never come back, another user of the pool, a machine without a free CPU).",
        recorded,
        replayed,
    )
