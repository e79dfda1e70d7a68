"""What the advice has to reach, and within which limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis._checks import number, share
from pool_doctor.analysis.simulate import CHECKOUT_COST, TARGET_WAIT

if TYPE_CHECKING:
    from pool_doctor.analysis.budget import Budget

HEADROOM = 1.25


@dataclass(frozen=True, slots=True)
class Goal:
    """The target and the limits; durations are seconds. Raise ValueError for a number that cannot be."""

    target_wait: float = TARGET_WAIT
    target_share: float = 0.99
    """This share of all checkouts shall wait no longer than ``target_wait``."""
    budget: Budget | None = None
    """What the server can give; None where that is not known."""
    request_deadline: float | None = None
    """After how long nobody waits for the answer to a request any more."""
    headroom: float = HEADROOM
    """The target shall still be met when requests come this many times as fast."""
    checkout_cost: float = CHECKOUT_COST

    def __post_init__(self) -> None:
        number("target_wait", self.target_wait, "seconds")
        if not 0 < share("target_share", self.target_share) < 1:
            raise ValueError(
                f"target_share must be between 0 and 1, neither of them included, not {self.target_share!r}."
            )
        if self.request_deadline is not None:
            number("request_deadline", self.request_deadline, "seconds", positive=True)
        if number("headroom", self.headroom, "times the recorded load", positive=True) < 1:
            raise ValueError(f"headroom must be 1 or more, not {self.headroom!r}.")
        number("checkout_cost", self.checkout_cost, "seconds")

    @property
    def allowed(self) -> float:
        """Which share of the checkouts may wait longer."""
        # 1 - 0.99 is a little more than 0.01 in binary, which would be printed.
        return round(1 - self.target_share, 12)
