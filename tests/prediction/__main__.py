"""Predict and run all scenarios, and print what came of it as Markdown.

    DATABASE_URL=postgresql://... python -m tests.prediction [--seconds 12] [--seed 1] [--only NAME] [--write]

Each scenario is recorded on one pool, the others are predicted from that, and each is run with the same arrivals. Then,
for some, the size that is advised is run with the headroom's load, and the next smaller one. `--write` puts the tables
into docs/prediction.md. It takes about ten minutes, and a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tabulate import tabulate

from example_project import postgres
from example_project.databases import prepare_database
from pool_doctor.analysis.advice import advise
from pool_doctor.analysis.goal import Goal
from pool_doctor.analysis.wording import duration, percent
from tests.prediction.judging import compare, share_above
from tests.prediction.running import load_average, run
from tests.prediction.scenarios import SCENARIOS, Pool

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pool_doctor.analysis.trace import Trace
    from tests.prediction.judging import Comparison
    from tests.prediction.scenarios import Scenario

PAGE = Path(__file__).resolve().parents[2] / "docs" / "prediction.md"
BEGIN, END = "<!-- results -->\n", "<!-- end of results -->"
ADVISED = {"steady", "bursts of 10", "one slow report"}


def main() -> int:
    """Return the exit status: 1 where fewer than nine in ten predictions of unsaturated recordings were right."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=12.0, help="how long each run is (default: 12)")
    parser.add_argument("--seed", type=int, default=1, help="of the arrivals (default: 1)")
    parser.add_argument("--only", action="append", help="this scenario only; repeatable")
    parser.add_argument("--write", action="store_true", help="put the results into docs/prediction.md")
    options = parser.parse_args()
    chosen = [scenario for scenario in SCENARIOS if not options.only or scenario.name in options.only]
    found: list[Comparison] = []
    advised: list[tuple[str, ...]] = []
    loads = []
    with postgres.provide() as url:
        prepare_database(url)
        for scenario in chosen:
            loads.append(load_average())
            recorded = run(scenario, scenario.recorded, url, seconds=options.seconds, seed=options.seed)
            for pool in scenario.predicted:
                measured = run(scenario, pool, url, seconds=options.seconds, seed=options.seed)
                found.append(compare(scenario, pool, recorded, measured))
                print(*_row(found[-1]), sep=" | ", file=sys.stderr, flush=True)
            if scenario.name in ADVISED:
                for row in _advice(scenario, recorded, url, options.seconds, options.seed):
                    advised.append(row)
                    print(*row, sep=" | ", file=sys.stderr, flush=True)
    text = _page(found, advised, options.seconds, loads)
    print(text)
    if options.write:
        before, _, rest = PAGE.read_text().partition(BEGIN)
        PAGE.write_text(before + BEGIN + text + END + rest.partition(END)[2])
    counted = [comparison.hit for comparison in found if not comparison.scenario.saturated]
    return int(sum(counted) < 0.9 * len(counted))


def _advice(scenario: Scenario, recorded: Trace, url: str, seconds: float, seed: int) -> Iterator[tuple[str, ...]]:
    """Run what is advised with the headroom's load, and one connection less."""
    goal = Goal()
    for policy, advice in advise(recorded, goal).items():
        if advice.max_size is None:
            yield scenario.name, policy, "none", "-", "-", "-"
            continue
        for size in (advice.max_size, advice.max_size - 1):
            if size:
                trace = run(scenario, Pool(policy, size), url, seconds=seconds, seed=seed, load=goal.headroom)
                share = share_above([checkout.wait for checkout in trace.checkouts()], goal.target_wait)
                name = "advised" if size == advice.max_size else "one less"
                met = "yes" if share <= goal.allowed else "no"
                yield scenario.name, policy, f"{size} ({name})", advice.bound_by or "-", percent(share), met


def _row(comparison: Comparison) -> tuple[str, ...]:
    low, high = comparison.interval
    scenario = comparison.scenario
    return (
        scenario.name + (" (saturated)" if scenario.saturated else ""),
        str(scenario.recorded),
        str(comparison.pool),
        f"{comparison.checkouts:,}",
        f"{percent(comparison.p_wait)} ({percent(low)} to {percent(high)})",
        percent(comparison.measured_p_wait),
        f"{100 * comparison.error:+.1f}",
        duration(comparison.p99),
        duration(comparison.measured_p99),
        "yes" if comparison.hit else "no",
    )


def _page(
    found: Sequence[Comparison], advised: Sequence[tuple[str, ...]], seconds: float, loads: Sequence[float]
) -> str:
    counted = [comparison.hit for comparison in found if not comparison.scenario.saturated]
    headers = (
        "Load",
        "Recorded on",
        "Predicted for",
        "Checkouts",
        "P(wait) predicted",
        "measured",
        "error, points",
        "p99 wait predicted",
        "measured",
        "hit",
    )
    summary = (
        f"{seconds:g} s a run; {sum(counted)} of {len(counted)} predictions from unsaturated recordings hit. While "
        f"they ran, {min(loads):.1f} to {max(loads):.1f} processes wanted a processor."
    )
    lines = [
        summary,
        "",
        tabulate([_row(comparison) for comparison in found], headers, "pipe", disable_numparse=True),
        "",
    ]
    if advised:
        headers = ("Load x 1.25", "Policy", "Size", "Bound by", "Wait longer than 5 ms", "Target met")
        lines += [tabulate(advised, headers, "pipe", disable_numparse=True), ""]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
