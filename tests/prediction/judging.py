"""What was predicted from a recording, what was measured, and whether that is the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis.replay import order_statistic
from pool_doctor.analysis.simulate import WhatIf, simulate

if TYPE_CHECKING:
    from pool_doctor.analysis.trace import Trace
    from tests.prediction.scenarios import Pool, Scenario

WAITED = 0.001
"""From here on a wait counts as one, in seconds: a pool with idle connections takes some microseconds as well."""

TOLERANCE = 0.05
"""A measured share this far from the predicted one is a hit even outside the interval."""


@dataclass(frozen=True)
class Comparison:
    """One pool, predicted from another one's recording, and run. Waits are seconds."""

    scenario: Scenario
    pool: Pool
    p_wait: float
    interval: tuple[float, float]
    p99: float
    measured_p_wait: float
    measured_p99: float
    checkouts: int

    @property
    def error(self) -> float:
        """How far the predicted share of waits is from the measured one."""
        return self.p_wait - self.measured_p_wait

    @property
    def hit(self) -> bool:
        """Whether the measured share lies in the predicted interval or within the tolerance."""
        low, high = self.interval
        return low <= self.measured_p_wait <= high or abs(self.error) <= TOLERANCE


def compare(scenario: Scenario, pool: Pool, recorded: Trace, measured: Trace) -> Comparison:
    """Predict `pool` from `recorded`, and set it beside what was `measured` on it."""
    what_if = WhatIf(policy="query" if pool.policy == "query" else "request", target_wait=WAITED)
    [row] = simulate(recorded, [pool.size], what_if).rows
    share, p99 = waits(measured)
    return Comparison(
        scenario,
        pool,
        row.too_long.value,
        (row.too_long.low, row.too_long.high),
        row.wait_p99,
        share,
        p99,
        sum(1 for _ in measured.checkouts()),
    )


def waits(trace: Trace) -> tuple[float, float]:
    """Return the share of checkouts that waited, and the wait that 99 % did not exceed."""
    found = sorted(checkout.wait for checkout in trace.checkouts())
    return share_above(found, WAITED), order_statistic(found, len(found), 0.99) if found else 0.0


def share_above(waits: list[float], limit: float) -> float:
    """Return the share of `waits` that are longer."""
    return sum(wait > limit for wait in waits) / (len(waits) or 1)
