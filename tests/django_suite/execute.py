"""Runs Django's runtests.py on a variant, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql

from tests.django_suite.outcomes import Outcomes, read_outcomes
from tests.django_suite.plan import Plan

if TYPE_CHECKING:
    from tests.django_suite.variants import Variant

ROOT = Path(__file__).resolve().parents[2]
_LOOK_EVERY = 1.0
_STACKS_DEADLINE = 10.0


@dataclass(frozen=True, slots=True)
class Executor:
    """How to run the suite."""

    tests: Path
    """Django's `tests` directory."""
    url: str
    """A database on the server; test databases are made beside it."""
    prefix: str
    """What the names of all databases of this script begin with, after Django's test_."""
    output: Path
    parallel: int
    stall_timeout: float
    """Seconds in which no test begins or ends, after which a run is killed."""

    def run(self, variant: Variant, labels: list[str], name: str, *, parallel: int | None = None) -> Outcomes:
        """Run the labels on a variant; output and outcomes are kept as NAME.log and NAME.jsonl."""
        outcomes = self.output / f"{name}.jsonl"
        outcomes.unlink(missing_ok=True)
        plan = Plan(variant.databases(self.url, self.prefix), str(outcomes), variant.installed)
        command = [sys.executable, "runtests.py", "--settings=tests.django_suite.settings", "--noinput"]
        with self.log(name).open("wb") as log:
            process = subprocess.Popen(
                [*command, f"--parallel={parallel or self.parallel}", *labels],
                cwd=self.tests,
                env=_environment(plan),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                self._watch(process, outcomes)
            finally:
                # Tests start processes too, and the group outlives its leader.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self.drop_databases()
        return read_outcomes(outcomes)

    def log(self, name: str) -> Path:
        """Return the file with the output of a run."""
        return self.output / f"{name}.log"

    def last_line(self, name: str) -> str:
        """Return the last line that a run has printed."""
        lines = self.log(name).read_text(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "nothing"

    def _watch(self, process: subprocess.Popen[bytes], outcomes: Path) -> None:
        """Wait for the end, or for a time in which nothing is written."""
        size, changed = -1, time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_EVERY)
                return
            if (now_size := outcomes.stat().st_size if outcomes.exists() else 0) != size:
                size, changed = now_size, time.monotonic()
            elif time.monotonic() - changed > self.stall_timeout:
                # Django's runner has faulthandler on: the log gets the stack of each thread.
                process.send_signal(signal.SIGABRT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_STACKS_DEADLINE)
                return

    def drop_databases(self) -> None:
        """Remove what a run that was killed has left on the server."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            names = connection.execute(
                "SELECT datname FROM pg_database WHERE starts_with(datname, %s)", [f"test_{self.prefix}_"]
            ).fetchall()
            for (name,) in names:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _environment(plan: Plan) -> dict[str, str]:
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**inherited, "PYTHONPATH": os.pathsep.join(path), **plan.environment()}
