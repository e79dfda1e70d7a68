"""Which differences count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.django_suite.compare import MOST_RERUN, Verdict, judge, packages
from tests.django_suite.known import KnownDifference
from tests.django_suite.outcomes import ERROR, FAILED, PASSED, SKIPPED, Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable


def run(complete: bool = True, last_started: str | None = None, **by_test: str) -> Outcomes:
    return Outcomes({f"app.{name}": outcome for name, outcome in by_test.items()}, {}, complete, last_started)


class Reruns:
    """Answers reruns from a list, and notes what was asked for."""

    def __init__(self, *answers: tuple[Outcomes, Outcomes]) -> None:
        self.answers = list(answers)
        self.asked: list[list[str]] = []

    def __call__(self, labels: list[str]) -> tuple[Outcomes, Outcomes]:
        self.asked.append(labels)
        return self.answers.pop(0)


def verdict_of(
    baseline: Outcomes, variant: Outcomes, *reruns: tuple[Outcomes, Outcomes], known: Iterable[KnownDifference] = ()
) -> Verdict:
    return judge("release", baseline, variant, known, Reruns(*reruns))


def test_equal_runs_are_good_and_nothing_runs_again() -> None:
    verdict = verdict_of(run(a=PASSED, b=SKIPPED, c=FAILED), run(a=PASSED, b=SKIPPED, c=ERROR))
    assert verdict == Verdict("release")
    assert verdict.good


def test_what_is_skipped_or_missing_on_the_variant_differs_as_what_fails() -> None:
    baseline = run(a=PASSED, b=PASSED, c=PASSED)
    variant = run(a=FAILED, b=SKIPPED)
    verdict = verdict_of(baseline, variant, (baseline, variant))
    assert verdict.different == {"app.a": "failed", "app.b": "skipped", "app.c": "not run"}
    assert not verdict.good


def test_a_test_that_passes_in_each_rerun_is_reported_and_does_not_count() -> None:
    baseline = run(a=PASSED)
    verdict = verdict_of(baseline, run(a=FAILED), *[(baseline, run(a=PASSED))] * 3)
    assert verdict.passed_again == ["app.a"]
    assert verdict.good


def test_a_test_that_passes_alone_and_fails_within_its_package_counts() -> None:
    baseline, passing, failing = run(a=PASSED), run(a=PASSED), run(a=FAILED)
    reruns = Reruns((baseline, passing), (baseline, passing), (baseline, failing))
    verdict = judge("release", baseline, failing, [], reruns)
    assert reruns.asked == [["app.a"], ["app.a"], ["app"]]
    assert verdict.different == {"app.a": "failed"}


def test_a_test_that_fails_again_on_the_baseline_too_does_not_count() -> None:
    verdict = verdict_of(run(a=PASSED), run(a=FAILED), (run(a=FAILED), run(a=FAILED)))
    assert verdict.unsteady == ["app.a"]
    assert verdict.good


def test_a_rerun_that_does_not_reach_the_test_on_the_baseline_decides_nothing() -> None:
    baseline, failing = run(a=PASSED), run(a=FAILED)
    nothing = (run(), run())
    verdict = verdict_of(baseline, failing, nothing, nothing, (baseline, failing))
    assert verdict.different == {"app.a": "failed"}


def test_a_known_difference_counts_only_for_its_variants() -> None:
    known = [
        KnownDifference("app.a", ("release",), "because"),
        KnownDifference("app.b", ("pool-observed",), "because"),
    ]
    baseline, variant = run(a=PASSED, b=PASSED), run(a=FAILED, b=FAILED)
    verdict = verdict_of(baseline, variant, (baseline, variant), known=known)
    assert verdict.known == {"app.a": "because"}
    assert verdict.different == {"app.b": "failed"}


def test_a_run_that_stopped_is_no_good_and_what_it_did_not_reach_is_not_run_again() -> None:
    baseline = run(a=PASSED, b=PASSED, c=PASSED)
    verdict = verdict_of(baseline, run(complete=False, last_started="app.b", a=PASSED))
    assert verdict.stopped_in == "app.b"
    assert verdict.different == {}
    assert not verdict.good


def test_beyond_the_most_that_run_again_each_difference_counts() -> None:
    names = [f"t{number}" for number in range(MOST_RERUN + 1)]
    baseline = run(**dict.fromkeys(names, PASSED))
    passing_again = (baseline, run(**dict.fromkeys(names, PASSED)))
    verdict = verdict_of(baseline, run(**dict.fromkeys(names, FAILED)), *[passing_again] * 3)
    assert list(verdict.different) == [f"app.{names[-1]}"]
    assert len(verdict.passed_again) == MOST_RERUN


def test_packages_are_named_once() -> None:
    assert packages(["b.tests.C.x", "a.C.y", "b.other.D.z"]) == ["a", "b"]
