"""The short form of the soak; `python -m tests.faults.soak` is the long one."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from example_project import postgres


def test_two_thousand_requests_with_random_faults() -> None:
    try:
        postgres.find_binaries()
    except postgres.PostgresError as error:
        pytest.skip(f"there is no PostgreSQL to restart: {error}")
    ended = subprocess.run(
        [sys.executable, "-m", "tests.faults.soak", "--requests", "2000"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
