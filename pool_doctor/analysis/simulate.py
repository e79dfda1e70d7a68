"""What if: the recorded traffic through pools of other sizes, under another policy, load, or number of threads."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pool_doctor.analysis._checks import number, whole
from pool_doctor.analysis.beside import LARGE, UNAVAILABLE, helpers, with_shared
from pool_doctor.analysis.counterfactual import scenario
from pool_doctor.analysis.estimate import Estimate, estimate
from pool_doctor.analysis.replay import ROUNDING, order_statistic
from pool_doctor.analysis.trace import POLICIES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from pool_doctor.analysis.counterfactual import Scenario
    from pool_doctor.analysis.replay import Replay
    from pool_doctor.analysis.trace import Policy, Trace

CELLS = 512
"""Into so many equal parts the time is cut; blocks for the interval are made of whole parts."""

CHECKOUT_COST = 20e-6
"""What a checkout adds to each hold when connections go back after each query, in seconds (measured on loopback)."""

TARGET_WAIT = 0.005


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What to change in the recorded traffic; None keeps what was recorded. Durations are seconds.

    Raise ValueError for a number that cannot be.
    """

    policy: Policy = "request"
    load: float = 1.0
    threads: int | None = None
    workers: int | None = None
    timeout: float | None = None
    target_wait: float = TARGET_WAIT
    """Waits longer than this count as too long."""
    checkout_cost: float = CHECKOUT_COST

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ValueError(f"policy must be one of {', '.join(POLICIES)}, not {self.policy!r}.")
        number("load", self.load, "times the recorded load", positive=True)
        for name in ("threads", "workers"):
            if getattr(self, name) is not None:
                whole(name, getattr(self, name), 1)
        if self.timeout is not None:
            number("timeout", self.timeout, "seconds", positive=True)
        number("target_wait", self.target_wait, "seconds")
        number("checkout_cost", self.checkout_cost, "seconds")

    def scenario(self, trace: Trace) -> Scenario:
        """Return the traffic of ``trace`` with these changes."""
        return scenario(
            trace,
            self.policy,
            load=self.load,
            threads=self.threads if self.threads is not None else trace.threads,
            workers=self.workers,
            checkout_cost=self.checkout_cost,
        )


@dataclass(frozen=True, slots=True)
class Cells:
    """How many checkouts waited, waited too long, and were there at all, in each part of the time."""

    waiting: list[int]
    too_long: list[int]
    totals: list[int]

    def __getitem__(self, part: slice) -> Cells:
        return Cells(self.waiting[part], self.too_long[part], self.totals[part])

    def estimates(self) -> tuple[Estimate, Estimate]:
        """Return the shares of those who waited, and of those who waited too long."""
        p_wait = estimate(self.waiting, self.totals)
        # Where nobody waited too long, the bunches of all who waited tell how much that is worth.
        return p_wait, estimate(self.too_long, self.totals, p_wait.effect)


@dataclass(frozen=True, slots=True)
class SizeOutcome:
    """What one size of pool does to the traffic, over all workers. Durations are seconds."""

    max_size: int
    checkouts: int
    p_wait: Estimate
    """The share of checkouts that have to wait."""
    too_long: Estimate
    """The share of checkouts that wait longer than the target."""
    wait_mean: float
    wait_p50: float
    wait_p95: float
    wait_p99: float
    wait_max: float
    timeouts: int
    utilisation: float
    """The share of the time that a connection of the pool is in use."""
    thread_waits: float
    """The share of requests that wait for a thread first."""
    cells: Cells = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain values for JSON and CSV."""
        return {
            "max_size": self.max_size,
            "checkouts": self.checkouts,
            "p_wait": self.p_wait.value,
            "p_wait_low": self.p_wait.low,
            "p_wait_high": self.p_wait.high,
            "too_long": self.too_long.value,
            "wait_mean": self.wait_mean,
            "wait_p50": self.wait_p50,
            "wait_p95": self.wait_p95,
            "wait_p99": self.wait_p99,
            "wait_max": self.wait_max,
            "timeouts": self.timeouts,
            "utilisation": self.utilisation,
            "thread_waits": self.thread_waits,
        }


@dataclass(frozen=True, slots=True)
class Simulation:
    """One row for each size, smallest first."""

    rows: list[SizeOutcome]

    @property
    def knee(self) -> int | None:
        """The size beyond which more connections help little; None without rows."""
        return knee(self.rows)


def simulate(
    trace: Trace,
    sizes: Iterable[int],
    what_if: WhatIf,
    progress: Callable[[int, int], None] | None = None,
    processes: int = 1,
) -> Simulation:
    """Replay ``trace`` with each of ``sizes``; ``progress`` is called with (done, of) after each.

    With more than one of ``processes``, long work is shared with others (see `beside`).

    Raise ValueError for a size that cannot be.
    """
    wanted = sorted({whole("max_size", size, 1) for size in sizes})
    rows = []
    for row in outcomes(trace, wanted, what_if, processes):
        rows.append(row)
        if progress is not None:
            progress(len(rows), len(wanted))
    return Simulation(rows)


def outcomes(trace: Trace, sizes: Iterable[int], what_if: WhatIf, processes: int = 1) -> Iterator[SizeOutcome]:
    """Yield the outcome of each of ``sizes``, smallest first, each as soon as it is known."""
    sizing = Sizing(what_if.scenario(trace), what_if)
    wanted = sorted(set(sizes))
    checkouts = sum(len(worker.holds) for worker in sizing.traffic.workers)
    shared = processes > 1 and len(wanted) > 1 and checkouts >= LARGE
    with helpers(min(processes, len(wanted)) if shared else 0, sizing) as others:
        running: dict[int, Future[SizeOutcome]] = {}
        for position, size in enumerate(wanted):
            # Not all at once: where nobody waits in one size, the larger ones need no replay.
            for ahead in wanted[position : position + processes]:
                if others is not None and ahead not in running and not sizing.nobody_waits:
                    running[ahead] = others.submit(with_shared, Sizing.replay, ahead)
            yield sizing.outcome(size, running.get(size))


class Sizing:
    """The outcome of each size for one scenario, computed when asked for."""

    def __init__(self, traffic: Scenario, what_if: WhatIf) -> None:
        self.traffic = traffic
        self.what_if = what_if
        self.replayed: dict[int, SizeOutcome] = {}

    def __getitem__(self, size: int) -> SizeOutcome:
        return self.outcome(size)

    def outcome(self, size: int, elsewhere: Future[SizeOutcome] | None = None) -> SizeOutcome:
        """Return the outcome of ``size``; ``elsewhere`` is where another process replays it."""
        if size not in self.replayed:
            self.replayed[size] = self._without_waits(size) or self._of(elsewhere) or self.replay(size)
        return self.replayed[size]

    def _of(self, elsewhere: Future[SizeOutcome] | None) -> SizeOutcome | None:
        try:
            return elsewhere.result() if elsewhere is not None else None
        except UNAVAILABLE:
            return None

    @property
    def nobody_waits(self) -> bool:
        """Whether a size is known in which nobody waits."""
        return any(outcome.wait_max <= ROUNDING for outcome in self.replayed.values())

    def _without_waits(self, size: int) -> SizeOutcome | None:
        """Where nobody waits in a smaller pool, a larger one does exactly the same."""
        for smaller, outcome in self.replayed.items():
            if smaller < size and outcome.wait_max <= ROUNDING:
                return replace(outcome, max_size=size, utilisation=outcome.utilisation * smaller / size)
        return None

    def replay(self, size: int) -> SizeOutcome:
        """Replay the traffic with ``size`` connections for each worker."""
        timeout = math.inf if self.what_if.timeout is None else self.what_if.timeout
        results = [worker.replay(size, self.traffic.threads, timeout) for worker in self.traffic.workers]
        return summarise(self.traffic, results, size, self.what_if.target_wait)


def summarise(traffic: Scenario, results: Sequence[Replay], size: int, target_wait: float) -> SizeOutcome:
    """Return what the replays of all workers come to."""
    last = max((result.asked_at[-1] for result in results if result.asked_at), default=traffic.start)
    end = max(last, traffic.start + traffic.seconds)
    cells = _cells(results, target_wait, traffic.start, end)
    p_wait, too_long = cells.estimates()
    positive = sorted(wait for result in results for wait in result.waits if wait > ROUNDING)
    checkouts = sum(len(result.waits) for result in results)
    begun = sum(len(result.thread_waits) for result in results)
    capacity = size * len(results) * (end - traffic.start)
    return SizeOutcome(
        max_size=size,
        checkouts=checkouts,
        p_wait=p_wait,
        too_long=too_long,
        wait_mean=sum(positive) / checkouts if checkouts else 0.0,
        wait_p50=order_statistic(positive, checkouts, 0.50),
        wait_p95=order_statistic(positive, checkouts, 0.95),
        wait_p99=order_statistic(positive, checkouts, 0.99),
        wait_max=positive[-1] if positive else 0.0,
        timeouts=sum(result.timeouts for result in results),
        utilisation=min(1.0, sum(result.busy for result in results) / capacity) if capacity else 0.0,
        thread_waits=sum(wait > ROUNDING for result in results for wait in result.thread_waits) / (begun or 1),
        cells=cells,
    )


def _cells(results: Iterable[Replay], target_wait: float, start: float, end: float) -> Cells:
    found = Cells([0] * CELLS, [0] * CELLS, [0] * CELLS)
    edges = [start + (end - start) * cell / CELLS for cell in range(1, CELLS)]
    for result in results:
        first = 0
        for cell in range(CELLS):
            last = bisect_left(result.asked_at, edges[cell], first) if cell < CELLS - 1 else len(result.asked_at)
            waiting = [wait for wait in result.waits[first:last] if wait > ROUNDING]
            found.waiting[cell] += len(waiting)
            found.too_long[cell] += sum(wait > target_wait for wait in waiting)
            found.totals[cell] += last - first
            first = last
    return found


def knee(rows: Sequence[SizeOutcome]) -> int | None:
    """Return the size at which the mean wait stops falling fast: the point farthest below the chord of the curve.

    Satopaa, Albrecht, Irwin and Raghavan, "Finding a 'Kneedle' in a Haystack" (2011), for the whole curve at once.
    None without rows; the smallest size where nobody waits at all.
    """
    if not rows:
        return None
    first, last = rows[0], rows[-1]
    fall = first.wait_mean - last.wait_mean
    if fall <= ROUNDING:
        return first.max_size
    width = last.max_size - first.max_size

    def below_the_chord(row: SizeOutcome) -> float:
        return (first.wait_mean - row.wait_mean) / fall - (row.max_size - first.max_size) / width

    return max(rows, key=below_the_chord).max_size
