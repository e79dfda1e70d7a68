"""The other two settings: how many connections to keep open, and how long a checkout may wait."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis.growth import PoolRules, replay_growth
from pool_doctor.analysis.replay import order_statistic
from pool_doctor.analysis.selftest import CONNECT_TIME
from pool_doctor.analysis.wording import duration, percent

if TYPE_CHECKING:
    from pool_doctor.analysis.conditions import Facts
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.sizing import Choice

SHORTEST_TIMEOUT = 1.0
TIMES_THE_LONGEST = 2.0
_READABLE = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)


@dataclass(frozen=True, slots=True)
class MinSize:
    """How many connections to keep open."""

    value: int
    longest_wait: float
    """The longest wait while the pool grows from there, in seconds."""
    sentence: str


@dataclass(frozen=True, slots=True)
class Timeout:
    """How long a checkout may wait, in seconds."""

    value: float
    feasible: bool
    sentence: str


def min_size(facts: Facts, choice: Choice, goal: Goal) -> MinSize:
    """Return the smallest ``min_size`` with which the growth of the real pool still meets the target.

    The replay opens connections one at a time, as psycopg_pool does, for the worker with the most checkouts.
    """
    trace, size = facts.trace, choice.size
    connect = CONNECT_TIME if trace.connect_time is None else trace.connect_time
    busiest = max(choice.now.traffic.workers, key=lambda worker: len(worker.holds))
    found: dict[int, tuple[float, float]] = {}

    def too_long(least: int) -> float:
        if least not in found:
            waits = replay_growth(busiest, PoolRules(least, size, connect), trace.threads).waits
            share = sum(wait > goal.target_wait for wait in waits) / (len(waits) or 1)
            found[least] = share, max(waits, default=0.0)
        return found[least][0]

    low, high = 0, size
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if too_long(middle) <= goal.allowed else (middle, high)
    share = too_long(high)
    opening = f"{duration(connect)} to open a connection" + (
        "" if trace.connect_time is not None else ", an assumption"
    )
    if share <= goal.allowed:
        sentence = (
            f"min_size {high}: growing from there as psycopg_pool does, one connection after the other ({opening}), "
            f"{percent(share)} of the busiest worker's checkouts wait longer than {duration(goal.target_wait)}, its "
            "start included."
        )
    else:
        sentence = (
            f"min_size {high}: all connections are kept open, for the start alone ({opening}) makes {percent(share)} "
            f"of the busiest worker's checkouts wait longer than {duration(goal.target_wait)}."
        )
    return MinSize(high, found[high][1], sentence)


def timeout(facts: Facts, choice: Choice, goal: Goal, growing: MinSize) -> Timeout:
    """Return a timeout beyond the longest wait and, if there is one, within the request's deadline."""
    longest = max(choice.checked.wait_max, growing.longest_wait)
    least = max(SHORTEST_TIMEOUT, TIMES_THE_LONGEST * longest)
    value = next((readable for readable in _READABLE if readable >= least), math.ceil(least / 60) * 60.0)
    reason = (
        f"twice the longest wait of the replay ({duration(longest)})"
        if least > SHORTEST_TIMEOUT
        else f"far beyond the longest wait of the replay ({duration(longest)})"
    )
    if goal.request_deadline is None:
        return Timeout(
            value, True, f"timeout {value:g} s: {reason}, so that only a pool in trouble lets anybody give up."
        )
    works = sorted(
        request.end - request.start - sum(checkout.wait for checkout in request.checkouts)
        for request in facts.trace.requests
        if request.checkouts
    )
    work = order_statistic(works, len(works), 0.99) if works else 0.0
    room = goal.request_deadline - work
    deadline = (
        f"a request has {duration(goal.request_deadline)}, and 99% of them work up to {duration(work)} besides waiting"
    )
    if value <= room:
        return Timeout(value, True, f"timeout {value:g} s: {reason}, and within the deadline ({deadline}).")
    if longest < room:
        tight = math.floor(room * 10) / 10 or room
        return Timeout(tight, True, f"timeout {tight:g} s: what the deadline leaves ({deadline}).")
    return Timeout(
        value,
        False,
        f"No timeout fits the deadline: {deadline}, which leaves less than the longest wait ({duration(longest)}); "
        f"{value:g} s lets those requests finish late instead of failing.",
    )
