"""Outcomes of tests, as written by a run and read by the comparison."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PASSED = "passed"
SKIPPED = "skipped"
EXPECTED_FAILURE = "expected failure"
UNEXPECTED_SUCCESS = "unexpected success"
FAILED = "failed"
ERROR = "error"
NOT_RUN = "not run"
# The later counts where a test has several, as one with failing subtests or a failing clean-up.
_BY_WEIGHT = (PASSED, SKIPPED, EXPECTED_FAILURE, UNEXPECTED_SUCCESS, FAILED, ERROR)


@dataclass(slots=True)
class Outcomes:
    """What came out of one run."""

    by_test: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    """Tracebacks and reasons, for tests that did not pass."""
    complete: bool = False
    """Whether the run reached its end."""
    last_started: str | None = None
    """Of the tests that began and have no outcome, the one that began last."""

    def of(self, test: str) -> str:
        """Return the outcome of a test, `not run` for one that was not reached."""
        return self.by_test.get(test, NOT_RUN)

    def add(self, test: str, outcome: str, detail: str) -> None:
        """Note an outcome; the worst of a test's counts."""
        if _BY_WEIGHT.index(outcome) >= _BY_WEIGHT.index(self.by_test.get(test, PASSED)):
            self.by_test[test] = outcome
            if detail:
                self.details[test] = detail

    def counts(self) -> Counter[str]:
        """Return how many tests had each outcome."""
        return Counter(self.by_test.values())


def read_outcomes(path: Path) -> Outcomes:
    """Read what a run wrote; a line that a killed process left unfinished is passed over."""
    outcomes = Outcomes()
    if not path.exists():
        return outcomes
    begun: dict[str, None] = {}
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                break
            entry = json.loads(line)
            if "outcome" in entry:
                outcomes.add(entry["test"], entry["outcome"], entry["detail"])
                begun.pop(entry["test"], None)
            elif "started" in entry:
                begun[entry["started"]] = None
            else:
                outcomes.complete = True
    outcomes.last_started = next(reversed(begun), None)
    return outcomes
