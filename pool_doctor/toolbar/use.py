"""How one request used one database: what the panel's figures and findings are computed from. Times are nanoseconds."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from pool_doctor.analysis.counterfactual import scenario
from pool_doctor.analysis.trace import Checkout, Trace, TracedRequest
from pool_doctor.recording import layout
from pool_doctor.toolbar.collector import Failure, Held
from pool_doctor.toolbar.gaps import gaps
from pool_doctor.toolbar.timeline import lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.analysis.trace import Policy, RecordedPolicy
    from pool_doctor.recording.channel import Description
    from pool_doctor.toolbar.gaps import Gap
    from pool_doctor.toolbar.timeline import Lane

_OUTCOMES: dict[int, Literal["timeout", "error"]] = {layout.TIMEOUT: "timeout", layout.ERROR: "error"}


class OtherPolicy(NamedTuple):
    """What the request would have done under the policy that it did not have; ``hold`` in seconds."""

    policy: Policy
    checkouts: int
    hold: float


class DatabaseUse:
    """One alias in one request, which lasted from ``started`` to ``ended``."""

    def __init__(self, entries: Sequence[Held | Failure], started: int, ended: int) -> None:
        self.started = started
        self.ended = ended
        self.channel = entries[-1].channel
        self.held = [entry for entry in entries if isinstance(entry, Held)]
        self.failures = [entry for entry in entries if isinstance(entry, Failure)]

    @property
    def about(self) -> Description:
        """How the alias is configured."""
        return self.channel.description

    @cached_property
    def lanes(self) -> list[Lane]:
        """The checkouts, in a row for each connection that the request had at the same time."""
        return lanes([*self.held, *self.failures])

    @cached_property
    def gaps(self) -> list[Gap]:
        """All times in which a connection was held and no query ran."""
        return [gap for held in self.held for gap in gaps(held)]

    @cached_property
    def wait(self) -> int:
        """How long the request waited for connections, those that did not come included."""
        waited = sum(held.since - held.asked for held in self.held)
        return waited + sum(failure.ended - failure.asked for failure in self.failures)

    @cached_property
    def hold(self) -> int:
        """How long connections were held, in all."""
        return sum(held.ended - held.since for held in self.held)

    @cached_property
    def needed(self) -> int:
        """How much of the hold the connections were needed."""
        return sum(end - start for held in self.held for start, end in held.segments)

    @cached_property
    def query_time(self) -> int:
        """How much of the hold a query ran."""
        return sum(held.query_time for held in self.held)

    @cached_property
    def queries(self) -> int:
        """How many statements ran."""
        return sum(held.count for held in self.held)

    @cached_property
    def transaction_time(self) -> int:
        """How much of the hold a transaction was open."""
        return sum(end - start for held in self.held for start, end in held.transactions)

    @cached_property
    def other(self) -> OtherPolicy:
        """The same request under the other policy."""
        policy: Policy = "request" if self.about.policy == "query" else "query"
        start, end = self.started / 1e9, self.ended / 1e9
        checkouts = sorted([*map(_of_held, self.held), *map(_of_failure, self.failures)])
        request = TracedRequest("", 0, start, end, tuple(checkouts))
        trace = Trace([request], start, end, cast("RecordedPolicy", self.about.policy), max_size=None)
        (traffic,) = scenario(trace, policy).workers
        return OtherPolicy(policy, len(traffic.holds), sum(traffic.holds))


def _of_held(held: Held) -> Checkout:
    needed = tuple((start / 1e9, (end - start) / 1e9) for start, end in held.segments)
    return Checkout(held.asked / 1e9, (held.since - held.asked) / 1e9, (held.ended - held.since) / 1e9, needed)


def _of_failure(failure: Failure) -> Checkout:
    wait = (failure.ended - failure.asked) / 1e9
    return Checkout(failure.asked / 1e9, wait, 0.0, outcome=_OUTCOMES[failure.outcome])
