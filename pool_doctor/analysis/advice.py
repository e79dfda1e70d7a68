"""Which pool to set, and why: replay, not formulas, and every number with its evidence.

The method: test the replay against the recording; replay the traffic a quarter denser than recorded; take the
smallest size for which the upper bound of the share of too long waits meets the target and nobody gives up; cap it
by what the threads can use and what the server can give. Then the number of connections to keep open, by the growth
of the real pool, and the timeout, from the longest waits and the request's deadline.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pool_doctor.analysis import conditions, explain, tuning
from pool_doctor.analysis.beside import LARGE, UNAVAILABLE, helpers, with_shared
from pool_doctor.analysis.conditions import Facts
from pool_doctor.analysis.goal import Goal
from pool_doctor.analysis.pasted import family, settings_lines
from pool_doctor.analysis.selftest import self_test
from pool_doctor.analysis.sizing import choose, fewest_checkouts, meets, one_step_up
from pool_doctor.analysis.trace import POLICIES
from pool_doctor.analysis.wording import count, duration

if TYPE_CHECKING:
    from pool_doctor.analysis.selftest import SelfTest
    from pool_doctor.analysis.sizing import BoundBy, Choice
    from pool_doctor.analysis.trace import Policy, Trace

SHORTEST_RECORDING = 30.0
"""A shorter one, in seconds, says little about any other half minute."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What to expect of the advised pool at the recorded load."""

    p_wait: float
    """The share of checkouts that wait at all."""
    wait_p99: float
    """In seconds."""
    interval: tuple[float, float]
    """Holds the true ``p_wait`` in 95 of 100 cases."""


@dataclass(frozen=True)
class Advice:
    """The settings for one policy; None where the recording does not tell, which ``why`` then explains."""

    policy: Policy
    max_size: int | None = None
    min_size: int | None = None
    timeout: float | None = None
    """In seconds."""
    bound_by: BoundBy | None = None
    provisional: bool = True
    """Whether to record again before relying on it."""
    predicted: Prediction | None = None
    why: list[str] = field(default_factory=list)
    caveats: list[str] = field(default_factory=list)
    settings: str = ""
    """What to paste into settings.py."""
    choice: Choice | None = field(default=None, repr=False)
    """The replays behind it; None where another process made them."""

    def as_dict(self) -> dict[str, Any]:
        """Return the advice as the report's JSON has it."""
        predicted = None
        if self.predicted is not None:
            predicted = {
                "p_wait": self.predicted.p_wait,
                "wait_p99": self.predicted.wait_p99,
                "interval": list(self.predicted.interval),
            }
        return {
            "max_size": self.max_size,
            "min_size": self.min_size,
            "timeout": self.timeout,
            "bound_by": self.bound_by,
            "provisional": self.provisional,
            "predicted": predicted,
            "why": self.why,
            "caveats": self.caveats,
            "settings": self.settings,
        }


def advise(
    trace: Trace, goal: Goal | None = None, *, facts: Facts | None = None, processes: int = 1
) -> dict[Policy, Advice]:
    """Return the advice for each policy, `request` and `query`.

    ``facts`` are those of the trace, for callers that have use for them. With more than one of ``processes``, long work
    is shared with another one (see `beside`).
    """
    facts = facts or Facts(trace)
    wanted = goal or Goal()
    if not facts.demand.checkouts:
        return {policy: Advice(policy, why=[_NOTHING_RECORDED]) for policy in POLICIES}
    if not any(checkout.outcome == "ok" for checkout in trace.checkouts()):
        return {policy: Advice(policy, why=[_NOTHING_SUCCEEDED]) for policy in POLICIES}
    tested = self_test(facts, wanted)
    shared = processes > 1 and facts.demand.checkouts >= LARGE and (tested is None or tested.passed)
    with helpers(1 if shared else 0, facts) as others:
        here, there = sorted(POLICIES, key=lambda policy: policy != trace.policy)
        running = others.submit(with_shared, _advise_for_another, there, wanted, tested) if others else None
        found = {here: _advise(facts, here, wanted, tested)}
        try:
            found[there] = running.result() if running else _advise(facts, there, wanted, tested)
        except UNAVAILABLE:
            found[there] = _advise(facts, there, wanted, tested)
    return {policy: found[policy] for policy in POLICIES}


def _advise_for_another(facts: Facts, policy: Policy, goal: Goal, tested: SelfTest | None) -> Advice:
    # The replays are large, and the process that asked has use for the advice only.
    return replace(_advise(facts, policy, goal, tested), choice=None)


_NOTHING_RECORDED = (
    "No checkout was recorded, so there is nothing to base advice on: send the traffic of a busy hour through the "
    "workers and ask again."
)
_NOTHING_SUCCEEDED = (
    "No recorded checkout got a connection, so nobody knows how long one would be held: see to it that the database "
    "answers and ask again."
)


def _advise(facts: Facts, policy: Policy, goal: Goal, tested: SelfTest | None) -> Advice:
    if tested is not None and not tested.passed:
        return _refusal(facts, policy, tested)
    if goal.budget is not None and goal.budget.per_worker < 1:
        impossible = f"{goal.budget.sentence} No pool fits: fewer workers, or a larger max_connections, or a pooler."
        return Advice(policy, bound_by="budget", why=[impossible], caveats=conditions.caveats(facts, policy, None))
    choice = choose(facts, policy, goal)
    growing = tuning.min_size(facts, choice, goal)
    patience = tuning.timeout(facts, choice, goal, growing)
    backtested = explain.backtest(choice, goal)
    weaknesses = _weaknesses(facts, choice, goal)
    if backtested is not None and not backtested[0]:
        weaknesses.append(backtested[1])
    why = [explain.evidence(facts, policy, choice), *explain.size(choice, goal), *explain.bound(facts, choice, goal)]
    why += [sentence for sentence in (tested and tested.sentence, explain.cross_checks(facts, choice)) if sentence]
    why += [backtested[1]] if backtested is not None and backtested[0] else []
    why += [growing.sentence, *([patience.sentence] if patience.feasible else [])]
    weaknesses += [] if patience.feasible else [patience.sentence]
    unsettled = bool(weaknesses) or tested is None or choice.bound_by == "saturation"
    predicted = choice.predicted
    sqlalchemy = family(facts.trace.engine) == "dj_db_conn_pool"
    return Advice(
        policy=policy,
        max_size=choice.size,
        min_size=None if sqlalchemy else growing.value,
        timeout=patience.value,
        bound_by=choice.bound_by,
        provisional=unsettled,
        predicted=Prediction(predicted.p_wait.value, predicted.wait_p99, (predicted.p_wait.low, predicted.p_wait.high)),
        why=why,
        caveats=[
            *weaknesses,
            *conditions.caveats(facts, policy, predicted),
            explain.assumptions(facts, policy, goal),
        ],
        settings=settings_lines(facts.trace, policy, growing.value, choice.size, patience.value),
        choice=choice,
    )


def _refusal(facts: Facts, policy: Policy, tested: SelfTest) -> Advice:
    caveats = conditions.caveats(facts, policy, None)
    if facts.saturation is not None and facts.trace.max_size is not None:
        caveats.insert(
            0,
            f"The recorded pool was saturated ({facts.saturation}): go one step up to "
            f"{one_step_up(facts.trace.max_size)} and record again.",
        )
    return Advice(policy, why=[tested.sentence], caveats=caveats)


def _weaknesses(facts: Facts, choice: Choice, goal: Goal) -> list[str]:
    """Say what makes the advice a guess."""
    found = []
    independent = facts.demand.checkouts / choice.checked.too_long.effect
    needed = fewest_checkouts(goal)
    if independent < needed or facts.trace.seconds < SHORTEST_RECORDING:
        found.append(
            f"Little was recorded: {count(facts.demand.checkouts, 'checkout')}, worth {independent:,.0f} independent "
            f"ones, in {duration(facts.trace.seconds)}. It takes {needed:,.0f} of them and "
            f"{SHORTEST_RECORDING:.0f} s to show that the target is met, so this is a guess."
        )
    if goal.budget is not None and choice.size > goal.budget.per_worker:
        found.append(
            f"One request needs {choice.size} connections at once, but the server can give each worker only "
            f"{goal.budget.per_worker}: during a deployment it may refuse connections."
        )
    if choice.wanted is None and not meets(choice.checked, goal) and choice.bound_by not in {"budget", "saturation"}:
        found.append("No size within the limits meets the target.")
    return found
