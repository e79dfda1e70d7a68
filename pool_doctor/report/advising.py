"""The advice as sentences and tables, and what is known of the traffic behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pool_doctor.analysis.wording import duration, percent
from pool_doctor.report.blocks import Block, Code, Column, Points, Section, Table
from pool_doctor.report.words import NOTHING, clean, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.analysis.advice import Advice
    from pool_doctor.analysis.demand import Demand
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.trace import Policy
    from pool_doctor.report.model import DatabaseAdvice

_KEPT = {
    "request": "a connection is held from a request's first query to its end",
    "query": "a connection goes back to the pool after each query or transaction",
}
_BURSTS, _EVEN = 1.5, 0.67
"""Between these, variance over mean of the checkouts per second is what random arrivals have."""


def advice_section(found: DatabaseAdvice) -> Section:
    """Lay out the advice for both policies: the numbers side by side, then each with its settings and reasons."""
    columns = (
        Column("Policy", least=7),
        *(Column(name, right=True) for name in ("max_size", "min_size", "timeout")),
        Column("Wait at all", right=True, least=11),
        Column("p99 wait", right=True),
        Column("Bound by"),
    )
    rows = [_row(advice, found.recorded) for advice in found.advice.values()]
    blocks: list[Block] = [_goal(found.goal), Table(columns, rows)]
    for policy, advice in found.advice.items():
        blocks += _policy(policy, advice)
    return Section("Advice", blocks, tuple(clean(note) for note in found.notes))


def _goal(goal: Goal) -> str:
    return (
        f"So that {percent(goal.target_share)} of all checkouts wait no longer than {duration(goal.target_wait)} and "
        f"none gives up, also when requests come {goal.headroom:g} times as fast as recorded."
    )


def _row(advice: Advice, recorded: str) -> tuple[str, ...]:
    predicted = advice.predicted
    sizes = (advice.max_size, advice.min_size)
    return (
        f"{advice.policy} (recorded)" if advice.policy == recorded else advice.policy,
        *(NOTHING if size is None else str(size) for size in sizes),
        NOTHING if advice.timeout is None else f"{advice.timeout:g} s",
        f"{percent(predicted.p_wait)} ({' to '.join(map(percent, predicted.interval))})" if predicted else NOTHING,
        duration(predicted.wait_p99) if predicted else NOTHING,
        advice.bound_by or NOTHING,
    )


def _policy(policy: Policy, advice: Advice) -> Iterator[Block]:
    guess = " Provisional: record again before you rely on it." if advice.settings and advice.provisional else ""
    yield f"Policy {policy}: {_KEPT[policy]}.{guess}"
    if advice.settings:
        yield Code(advice.settings)
    yield Points("Why", [clean(sentence) for sentence in advice.why])
    if advice.caveats:
        yield Points("Keep in mind", [clean(sentence) for sentence in advice.caveats])


def demand_sentence(demand: Demand) -> str:
    """Say in a few sentences how the traffic uses its pools."""
    half, most = demand.levels.quantile(0.5), demand.levels.quantile(0.99)
    sentences = [
        f"Half of the time a process has at most {plural(half, 'connection')} in use, 99 % of the time at most {most}."
    ]
    if demand.dispersion is not None:
        times = f"{demand.dispersion:.2g} times the mean"
        if demand.dispersion > _BURSTS:
            sentences.append(f"Checkouts come in bursts: their number per second varies by {times}.")
        elif demand.dispersion < _EVEN:
            sentences.append(f"Checkouts come evenly: their number per second varies by {times} only.")
        else:
            sentences.append(f"Checkouts come at random: their number per second varies by {times}.")
    if demand.held_at_once > 1:
        sentences.append(f"{clean(demand.held_at_once_by or '')} holds {demand.held_at_once} connections at once.")
    if demand.thread_waits is not None:
        sentences.append(f"{percent(demand.thread_waits)} of the requests waited for a thread before they began.")
    return " ".join(sentences)
