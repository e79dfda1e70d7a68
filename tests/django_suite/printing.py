"""What the script prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.django_suite.outcomes import ERROR, EXPECTED_FAILURE, FAILED, PASSED, SKIPPED, UNEXPECTED_SUCCESS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.django_suite.compare import Verdict
    from tests.django_suite.outcomes import Outcomes

_MOST_LISTED = 40


def print_run(name: str, outcomes: Outcomes, seconds: float) -> None:
    """Print one line about a run."""
    counts = outcomes.counts()
    order = (PASSED, SKIPPED, EXPECTED_FAILURE, UNEXPECTED_SUCCESS, FAILED, ERROR)
    numbers = ", ".join(f"{counts[outcome]} {outcome}" for outcome in order if counts[outcome])
    end = "" if outcomes.complete else "; it did not reach its end"
    print(f"{name:<16}{len(outcomes.by_test)} tests in {seconds:.0f} s: {numbers or 'none'}{end}", flush=True)


def print_failures(outcomes: Outcomes) -> None:
    """List what fails without pool_doctor: it is not judged."""
    _print_list("  not passing without pool_doctor, so not judged:", _failing(outcomes))


def _failing(outcomes: Outcomes) -> list[str]:
    return [
        f"{test} ({outcome})"
        for test, outcome in outcomes.by_test.items()
        if outcome in {FAILED, ERROR, UNEXPECTED_SUCCESS}
    ]


def print_verdict(verdict: Verdict, details: dict[str, str], baseline: str) -> None:
    """Print what differs and what was run again."""
    if verdict.stopped_in is not None:
        print(f"  STOPPED in {verdict.stopped_in or 'no test'}")
    _print_list(
        f"  DIFFERENT, {baseline} passes and {verdict.variant} does not:",
        [f"{test} ({outcome}) {_last_line(details.get(test, ''))}" for test, outcome in verdict.different.items()],
    )
    _print_list("  known differences:", [f"{test}: {reason}" for test, reason in verdict.known.items()])
    _print_list("  failed once, passed on both each time they were run again:", verdict.passed_again)
    _print_list(f"  failed on {baseline} too when run again:", verdict.unsteady)
    if verdict.good:
        print(f"  no difference from {baseline}", flush=True)


def _last_line(detail: str) -> str:
    lines = detail.strip().splitlines()
    return lines[-1].strip() if lines else ""


def _print_list(title: str, entries: Iterable[str]) -> None:
    entries = list(entries)
    if entries:
        print(title)
        for entry in entries[:_MOST_LISTED]:
            print(f"    {entry}")
        if len(entries) > _MOST_LISTED:
            print(f"    and {len(entries) - _MOST_LISTED} more", flush=True)
