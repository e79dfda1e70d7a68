"""The test runner inside Django's suite: writes each test's outcome, and makes pool_doctor's app ready if asked to."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from typing import Any, cast

from django.apps import AppConfig
from django.db import connections
from django.test.runner import DiscoverRunner, ParallelTestSuite, RemoteTestResult, RemoteTestRunner

from pool_doctor.adapters.lifecycle import LifecycleMixin
from tests.django_suite.outcomes import ERROR, EXPECTED_FAILURE, FAILED, PASSED, SKIPPED, UNEXPECTED_SUCCESS
from tests.django_suite.plan import current_plan

_DETAIL_CHARACTERS = 8_000


class RecordingResult(unittest.TextTestResult):
    """Adds one JSON line for the start of each test, and one for its outcome."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Written line by line: what a process had finished when it was killed can be read.
        self._lines = Path(current_plan().outcomes).open("a", buffering=1)  # noqa: SIM115
        self._current: str | None = None

    def finish(self) -> None:
        """Say that all tests were reached."""
        self._write(complete=True)
        self._lines.close()

    def _write(self, **line: Any) -> None:
        self._lines.write(json.dumps(line) + "\n")

    def _record(self, test: Any, outcome: str, detail: str = "") -> None:
        # Failures of subtests count for their test; those outside of tests, as in setUpClass, have names of their own.
        name = self._current or test.id()
        self._write(test=name, outcome=outcome, detail=detail[-_DETAIL_CHARACTERS:])

    def startTest(self, test: Any) -> None:  # noqa: N802
        super().startTest(test)
        self._current = test.id()
        self._write(started=self._current)

    def stopTest(self, test: Any) -> None:  # noqa: N802
        super().stopTest(test)
        self._current = None

    def addSuccess(self, test: Any) -> None:  # noqa: N802
        super().addSuccess(test)
        self._record(test, PASSED)

    def addFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        self._record(test, FAILED, self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        self._record(test, ERROR, self.errors[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            failed = issubclass(err[0], test.failureException)
            self._record(test, FAILED if failed else ERROR, (self.failures if failed else self.errors)[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        self._record(test, SKIPPED, reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:  # noqa: N802
        super().addExpectedFailure(test, err)
        self._record(test, EXPECTED_FAILURE)

    def addUnexpectedSuccess(self, test: Any) -> None:  # noqa: N802
        super().addUnexpectedSuccess(test)
        self._record(test, UNEXPECTED_SUCCESS)


class RemoteResult(RemoteTestResult):
    """Says in a process of a parallel run which test begins; its outcomes reach the file class by class."""

    def startTest(self, test: Any) -> None:  # noqa: N802
        super().startTest(test)
        with Path(current_plan().outcomes).open("a") as lines:
            lines.write(json.dumps({"started": test.id()}) + "\n")


class RemoteRunner(RemoteTestRunner):
    """Runs the tests of a class in a process of a parallel run."""

    resultclass = RemoteResult


class ForkingSuite(ParallelTestSuite):
    """Starts the processes of a parallel run without open pools.

    A pool's threads do not exist in a forked process, so that there Django's own engine would wait for ever for a
    connection of the pool that its system checks have opened before.
    """

    runner_class = RemoteRunner

    def run(self, result: Any, *args: Any) -> Any:
        """Run the suite."""
        for connection in connections.all(initialized_only=True):
            connection.close()
            connection.close_pool()  # type: ignore[attr-defined]
        return super().run(result, *args)


class RecordingRunner(DiscoverRunner):
    """Django's runner, with outcomes as JSON lines."""

    parallel_test_suite = ForkingSuite

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if current_plan().installed:
            make_app_ready()

    def get_resultclass(self) -> type[RecordingResult]:
        """Return the class of results."""
        return RecordingResult

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        """Run the tests and say that all of them were reached."""
        result = cast("RecordingResult", super().run_suite(suite, **kwargs))
        result.finish()
        return result


def make_app_ready() -> None:
    """Do what INSTALLED_APPS would do with "pool_doctor" in it.

    Not by an entry there: tests that set INSTALLED_APPS, or that look at what is installed, are Django's own.
    """
    AppConfig.create("pool_doctor").ready()
    stock = [alias for alias in connections if not is_followed(alias)]
    if stock:
        raise RuntimeError(f"pool_doctor does not follow the connections of {', '.join(stock)}.")


def is_followed(alias: str) -> bool:
    """Return whether a connection of the alias is followed; its type tells, its __class__ is the engine's."""
    return issubclass(type(connections[alias]), LifecycleMixin)
