"""Judges a variant: which tests pass on its baseline and do not pass on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from tests.django_suite.outcomes import NOT_RUN, PASSED, Outcomes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from tests.django_suite.known import KnownDifference

# Beyond this many differences something is broken as a whole, and running them again says nothing new.
MOST_RERUN = 200


class Rerun(Protocol):
    """Runs labels again on the baseline and on the variant, and returns both outcomes."""

    def __call__(self, labels: list[str]) -> tuple[Outcomes, Outcomes]: ...


@dataclass(slots=True)
class Verdict:
    """What became of the tests that passed on the baseline and did not pass on the variant."""

    variant: str
    different: dict[str, str] = field(default_factory=dict)
    """Tests that fail the script, with their outcome on the variant."""
    passed_again: list[str] = field(default_factory=list)
    """Tests that passed on both in each rerun."""
    unsteady: list[str] = field(default_factory=list)
    """Tests that failed on the baseline too, in a rerun."""
    known: dict[str, str] = field(default_factory=dict)
    """Tests that the file of known differences lists, with its reasons."""
    stopped_in: str | None = None
    """For a run that did not reach its end: the test that it was in, or empty outside of one."""

    @property
    def good(self) -> bool:
        """Return whether the variant does what its baseline does."""
        return not self.different and self.stopped_in is None


def suspects(baseline: Outcomes, variant: Outcomes) -> list[str]:
    """Return the tests that passed on the baseline and did not pass, or were skipped or not reached, on the variant."""
    return [test for test, outcome in baseline.by_test.items() if outcome == PASSED and variant.of(test) != PASSED]


def judge(name: str, baseline: Outcomes, variant: Outcomes, known: Iterable[KnownDifference], rerun: Rerun) -> Verdict:
    """Compare two runs; what differs is run again before it counts."""
    verdict = Verdict(name)
    reasons = {entry.test: entry.reason for entry in known if name in entry.variants}
    differing = suspects(baseline, variant)
    verdict.known = {test: reasons[test] for test in differing if test in reasons}
    if not variant.complete:
        verdict.stopped_in = variant.last_started or ""
        # The tests after that one did not differ, they were not reached.
        differing = [test for test in differing if variant.of(test) != NOT_RUN]
    open_tests = [test for test in differing if test not in verdict.known]
    again, too_many = open_tests[:MOST_RERUN], open_tests[MOST_RERUN:]
    confirmed, unsteady = run_again(again, rerun)
    verdict.different = {test: variant.of(test) for test in again if test in confirmed}
    verdict.different |= {test: variant.of(test) for test in too_many}
    verdict.unsteady = [test for test in again if test in unsteady]
    verdict.passed_again = [test for test in again if test not in confirmed | unsteady]
    return verdict


def run_again(tests: list[str], rerun: Rerun) -> tuple[set[str], set[str]]:
    """Return which of the tests fail on the variant only, and which fail on the baseline too.

    Twice apart from all other tests, then within their packages: a test may fail because of what one before it left.
    """
    confirmed: set[str] = set()
    unsteady: set[str] = set()
    for labels_of in (sorted, sorted, packages):
        undecided = set(tests) - confirmed - unsteady
        if not undecided:
            break
        baseline, variant = rerun(labels_of(undecided))
        for test in undecided:
            if baseline.of(test) == NOT_RUN:
                continue
            if baseline.of(test) != PASSED:
                unsteady.add(test)
            elif variant.of(test) != PASSED:
                confirmed.add(test)
    return confirmed, unsteady


def packages(tests: Collection[str]) -> list[str]:
    """Return the top-level packages of tests, as labels."""
    return sorted({test.partition(".")[0] for test in tests})
