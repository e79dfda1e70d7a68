"""Runs the variants one after the other and prints how they compare."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import django
import psycopg

from example_project import postgres
from tests.django_suite.compare import judge
from tests.django_suite.errors import SuiteError
from tests.django_suite.execute import Executor
from tests.django_suite.known import read_known_differences
from tests.django_suite.options import Options, parse_options
from tests.django_suite.printing import print_failures, print_run, print_verdict
from tests.django_suite.source import suite_directory
from tests.django_suite.variants import VARIANTS, with_baselines

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.django_suite.known import KnownDifference
    from tests.django_suite.outcomes import Outcomes
    from tests.django_suite.variants import Variant


def main(arguments: list[str]) -> int:
    """Run the script; the exit status is 0 without a difference, 1 with one, 2 where nothing could be compared."""
    options = parse_options(arguments)
    try:
        known = read_known_differences()
        tests = suite_directory(django.__version__, options.cache)
        check_labels(options.labels, tests)
        with _server(options.database_url) as url:
            output = _output(options.output)
            prefix = f"suite_{os.getpid()}"
            executor = Executor(tests, url, prefix, output, options.parallel, options.stall_timeout)
            good = compare_variants(executor, options, known)
    except (SuiteError, postgres.PostgresError) as error:
        print(error, file=sys.stderr)
        return 2
    if good and options.output is None:
        shutil.rmtree(output)
    return 0 if good else 1


def compare_variants(executor: Executor, options: Options, known: list[KnownDifference]) -> bool:
    """Run each variant after its baseline and return whether all of them do what it does."""
    print(f"Django {django.__version__}, {' '.join(options.labels) or 'the whole suite'}", flush=True)
    runs: dict[str, Outcomes] = {}
    good = True
    for variant in with_baselines(options.variants):
        begin = time.monotonic()
        run = runs[variant.name] = executor.run(variant, options.labels, variant.name)
        print_run(variant.name, run, time.monotonic() - begin)
        if not run.complete:
            print(f"  its output ends with: {executor.last_line(variant.name)}", flush=True)
        if variant.baseline is None:
            if not run.complete:
                raise SuiteError(
                    f"The baseline {variant.name} did not reach its end: see {executor.log(variant.name)}."
                )
            print_failures(run)
            continue
        verdict = judge(variant.name, runs[variant.baseline], run, known, _Rerun(executor, variant))
        print_verdict(verdict, run.details, variant.baseline)
        good = good and verdict.good
    if not good:
        print(f"Logs and outcomes are in {executor.output}.")
    return good


class _Rerun:
    """Runs tests again on a variant and its baseline, in one process each, so that their order is one."""

    def __init__(self, executor: Executor, variant: Variant) -> None:
        self._executor = executor
        self._variants = (VARIANTS[str(variant.baseline)], variant)
        self._times = 0

    def __call__(self, labels: list[str]) -> tuple[Outcomes, Outcomes]:
        self._times += 1
        print(f"  running {len(labels)} labels again on both", flush=True)
        name = self._variants[1].name
        baseline, run = (
            self._executor.run(variant, labels, f"{name}-again-{self._times}-{variant.name}", parallel=1)
            for variant in self._variants
        )
        return baseline, run


def check_labels(labels: list[str], tests: Path) -> None:
    """Raise SuiteError at the first label that does not begin with a package of Django's suite."""
    for label in labels:
        package = label.partition(".")[0]
        if package == "gis_tests":
            raise SuiteError("gis_tests needs an engine for PostGIS, and no variant has one.")
        if not package.isidentifier() or not (tests / package / "__init__.py").is_file():
            raise SuiteError(f"{label!r} is no test of Django {django.__version__}: it has no package {package!r}.")


@contextlib.contextmanager
def _server(url: str | None) -> Iterator[str]:
    with contextlib.nullcontext(url) if url else postgres.provide() as found:
        try:
            psycopg.connect(found, connect_timeout=10).close()
        except psycopg.Error as error:
            reason = str(error).strip().splitlines()[0]
            raise SuiteError(f"The PostgreSQL server cannot be reached: {reason}") from None
        yield found


def _output(chosen: Path | None) -> Path:
    """Return the directory for logs, a temporary one where none was chosen."""
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="django-suite-"))
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SuiteError(f"--output {chosen} cannot be made: {error.strerror}.") from None
    return chosen.resolve()


if __name__ == "__main__":
    # As with Ctrl-C: what was started is ended and removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
