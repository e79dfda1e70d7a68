"""What the recorded traffic advises, within the targets and limits that the project states."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from pool_doctor.analysis.advice import advise
from pool_doctor.analysis.budget import Budget
from pool_doctor.analysis.conditions import Facts
from pool_doctor.analysis.goal import Goal
from pool_doctor.report.model import DatabaseAdvice, ServerError, ServerFacts

if TYPE_CHECKING:
    from pool_doctor.adapters.conf import Settings
    from pool_doctor.report.traces import Traces, Traffic


MOST_EVENTS = 131_072
"""A report has to be there within seconds, and more traffic than this hardly changes what it says."""


@dataclass(frozen=True, slots=True)
class Targets:
    """What the advice has to reach and what the project says of itself: see the settings of the same names."""

    target_wait: float
    target_share: float
    threads: int | None
    workers: int | None
    hosts: int
    deploy_surge: float
    request_deadline: float | None

    @classmethod
    def of(cls, settings: Settings, **given: Any) -> Targets:
        """Read the settings, and put what is ``given`` and not None in their place."""
        own = cls(*(getattr(settings, field.name) for field in fields(cls)))
        return replace(own, **{name: value for name, value in given.items() if value is not None})


def advice_on(
    alias: str, traces: Traces, server: ServerFacts | ServerError, targets: Targets, *, processes: int = 1
) -> DatabaseAdvice | None:
    """Return the advice for an alias; None where nobody has used it.

    ``processes`` may work on it at once.
    """
    known = server if isinstance(server, ServerFacts) else None
    traffic = traces.traffic(
        alias,
        threads=targets.threads,
        connect_time=known.connect_time if known else None,
        pooler=known.pooler if known else False,
        most=MOST_EVENTS,
    )
    if traffic is None:
        return None
    goal = Goal(
        target_wait=targets.target_wait,
        target_share=targets.target_share,
        budget=_budget(alias, traffic, known, targets),
        request_deadline=targets.request_deadline,
    )
    notes = list(traffic.notes)
    if known is None:
        notes.append("The server could not be asked how many connections it takes, so no budget limits the advice.")
    facts = Facts(traffic.trace)
    return DatabaseAdvice(
        advice=advise(traffic.trace, goal, facts=facts, processes=processes),
        goal=goal,
        demand=facts.demand,
        recorded=traffic.trace.policy,
        notes=tuple(notes),
    )


def _budget(alias: str, traffic: Traffic, server: ServerFacts | None, targets: Targets) -> Budget | None:
    """Return what the server can give; None where that is not known, or decided by a pooler in between."""
    if server is None or server.pooler:
        return None
    own = sum(process.aliases[alias].size for process in traffic.workers if process.alive)
    return Budget(
        max_connections=server.max_connections,
        superuser_reserved=server.reserved,
        reserved=0,
        # Other hosts' pools are taken to be as large as this one's.
        others=max(0, server.in_use - own * targets.hosts),
        hosts=targets.hosts,
        workers=targets.workers or traffic.workers_at_once,
        deploy_surge=targets.deploy_surge,
    )
