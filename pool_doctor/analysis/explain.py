"""The reasons for a size, in sentences whose numbers are those of the replay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool_doctor.analysis.queueing import ErlangC, FiniteSource
from pool_doctor.analysis.simulate import CELLS
from pool_doctor.analysis.sizing import meets, smallest
from pool_doctor.analysis.wording import count, duration, percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.analysis.conditions import Facts
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.simulate import SizeOutcome
    from pool_doctor.analysis.sizing import Choice
    from pool_doctor.analysis.trace import Policy

FEWEST_FOR_BACKTEST = 200
"""Fewer checkouts in a half say nothing about it."""

_HALF = CELLS // 2


def evidence(facts: Facts, policy: Policy, choice: Choice) -> str:
    """Say what was recorded, and what it comes to under ``policy``."""
    workers = choice.now.traffic.workers
    holds = sum(len(worker.holds) for worker in workers)
    busy = sum(sum(worker.holds) for worker in workers)
    rate = holds / facts.trace.seconds if facts.trace.seconds else 0.0
    each = busy / (facts.trace.seconds or 1) / (len(workers) or 1)
    kept = "until the end of the request" if policy == "request" else "for each query or transaction"
    return (
        f"Recorded: {count(facts.demand.checkouts, 'checkout')} in {duration(facts.trace.seconds)} from "
        f"{count(len(workers), 'worker')}. Held {kept}, they are {count(holds, 'checkout')} of "
        f"{duration(busy / (holds or 1))} on average, {rate:.3g} a second, which keeps {each:.3g} connections of each "
        "worker busy."
    )


def size(choice: Choice, goal: Goal) -> Iterator[str]:
    """Say why this size, and why not the next smaller one."""
    chosen, smaller, predicted = choice.checked, choice.next_smaller, choice.predicted
    times = f"{goal.headroom:g} times the recorded load"
    if choice.bound_by == "threads":
        yield f"With {count(choice.size, 'connection')} there is one for everybody in a worker: nobody ever waits."
    else:
        verdict = "which meets" if meets(chosen, goal) else "which does not meet"
        yield (
            f"With {count(choice.size, 'connection')} a worker and {times}, {_too_long(chosen, goal)}, {verdict} the "
            f"target of at most {percent(goal.allowed)}."
        )
    if smaller is not None:
        verdict = "that would do for the target" if meets(smaller, goal) else "not good enough"
        yield f"With {choice.size - 1} and {times}, {_too_long(smaller, goal)}: {verdict}."
    longest = max(outcome.too_long.block for outcome in (chosen, smaller) if outcome is not None)
    yield (
        "The ranges hold in 95 of 100 recordings of this kind; they come from a bootstrap of blocks of "
        f"{duration(longest * choice.denser.traffic.seconds / CELLS)}, as long as waits depend on each other."
    )
    waiting = f"{percent(predicted.p_wait.value)} ({_range(predicted.p_wait.low, predicted.p_wait.high)})"
    longest_of_most = f", 99% of all no longer than {duration(predicted.wait_p99)}" if predicted.wait_p99 else ""
    yield f"Expect at the recorded load: {waiting} of the checkouts wait at all{longest_of_most}."


def bound(facts: Facts, choice: Choice, goal: Goal) -> Iterator[str]:
    """Say what decided, where it was not the target alone."""
    if choice.bound_by == "threads":
        yield (
            f"Threads set the limit: with {count(facts.trace.threads or 0, 'thread')}, a worker can never use more "
            f"than {count(choice.size, 'connection')}."
        )
    elif choice.bound_by == "request":
        yield f"One request holds {count(choice.size, 'connection')} at once: no smaller pool can serve it."
    elif choice.bound_by == "saturation":
        yield (
            f"The recorded pool was saturated ({facts.saturation}), so the demand behind it was not seen whole: "
            f"{choice.wanted or choice.size} is a lower bound. Go one step up to {choice.size} and record again."
        )
    if goal.budget is not None:
        yield goal.budget.sentence
        if choice.bound_by == "budget":
            yield (
                f"The budget cannot meet the target. What it can do with {count(choice.size, 'connection')} a worker: "
                f"at the recorded load, {_too_long(choice.predicted, goal)}."
            )


def assumptions(facts: Facts, policy: Policy, goal: Goal) -> str:
    """Say what the replay takes for granted."""
    longer = ""
    if policy == "query" and facts.trace.policy != "query":
        longer = f", but {duration(goal.checkout_cost)} more for each checkout (measured on one machine)"
    return (
        "The replay assumes that requests come when they came, whatever the pool, and that their work takes as long as "
        f"it took{longer}; whoever asks first is served first."
    )


def cross_checks(facts: Facts, choice: Choice) -> str | None:
    """Set the textbook's answers beside that of the replay; None without checkouts."""
    worker = max(choice.now.traffic.workers, key=lambda traffic: len(traffic.holds), default=None)
    seconds, threads = facts.trace.seconds, facts.trace.threads
    if worker is None or not len(worker.holds) or not seconds or not (busy := sum(worker.holds)):
        return None
    rate, hold = len(worker.holds) / seconds, busy / len(worker.holds)
    erlang = ErlangC(rate, hold, choice.size)
    text = f"Cross-check: for arrivals at random, Erlang's formula has {percent(erlang.p_wait)} of the checkouts wait"
    if threads is not None and threads * seconds > busy:
        think = (threads * seconds - busy) / len(worker.holds)
        finite = FiniteSource(threads, choice.size, hold, think)
        text += f", and {percent(finite.p_wait)} with no more than {count(threads, 'thread')}"
    return f"{text}; the replay, which knows when they came, {percent(choice.predicted.p_wait.value)}."


def backtest(choice: Choice, goal: Goal) -> tuple[bool, str] | None:
    """Choose by the first half alone, and look how that does in the second; None if there is too little for it."""
    totals = choice.checked.cells.totals
    if min(sum(totals[:_HALF]), sum(totals[_HALF:])) < FEWEST_FOR_BACKTEST:
        return None
    chosen = (
        smallest(lambda size: _first_half_meets(choice.denser[size], goal), choice.size, choice.size) or choice.size
    )
    second = choice.now[chosen].cells[_HALF:]
    share = sum(second.too_long) / (sum(second.totals) or 1)
    passed = share <= goal.allowed
    verdict = "which meets the target" if passed else "which misses the target: the traffic changed in between"
    return passed, (
        f"Backtest: the first half of the recording alone leads to {count(chosen, 'connection')}; with that, "
        f"{percent(share)} of the checkouts of the second half wait too long, {verdict}."
    )


def _first_half_meets(outcome: SizeOutcome, goal: Goal) -> bool:
    p_wait, too_long = outcome.cells[:_HALF].estimates()
    return too_long.high <= goal.allowed or not p_wait.value


def _too_long(outcome: SizeOutcome, goal: Goal) -> str:
    found = outcome.too_long
    gave_up = f" and {count(outcome.timeouts, 'checkout')} give up" if outcome.timeouts else ""
    return (
        f"{percent(found.value)} ({_range(found.low, found.high)}) of the checkouts wait longer than "
        f"{duration(goal.target_wait)}{gave_up}"
    )


def _range(low: float, high: float) -> str:
    return f"{percent(low)} to {percent(high)}"
