"""Tests as projects write them pass on the releasing engine as on the stock one, with databases made and cloned."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.conftest import RELEASING, STOCK

ROOT = Path(__file__).parents[2]
CASES = "tests/engine/cases"

both_engines = pytest.mark.parametrize("engine", [pytest.param(STOCK, id="stock"), pytest.param(RELEASING, id="ours")])


def run(engine: str, database_url: str, *arguments: str) -> str:
    """Run a module of Python in the settings of the tests; return all that it says."""
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "tests.engine.settings",
        "POOL_DOCTOR_TEST_ENGINE": engine,
        "POOL_DOCTOR_TEST_MAX_SIZE": "4",
    }
    command = [sys.executable, "-m", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


@both_engines
def test_djangos_test_classes(engine: str, database_url: str) -> None:
    said = run(engine, database_url, "django", "test", CASES, "--pattern", "cases_django.py", "-v2", "--noinput")
    assert "Found 22 test(s)" in said
    assert ("skipped" in said) == (engine == STOCK)


@both_engines
def test_cloned_databases_of_parallel_tests(engine: str, database_url: str) -> None:
    arguments = ["django", "test", CASES, "--pattern", "cases_django.py", "--parallel", "2", "-v2", "--noinput"]
    said = run(engine, database_url, *arguments)
    assert "Cloning test database" in said
    assert "Found 22 test(s)" in said


@both_engines
def test_pytest_django(engine: str, database_url: str) -> None:
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "--ds", "tests.engine.settings"]
    said = run(engine, database_url, "pytest", *options, f"{CASES}/cases_pytest.py")
    assert "7 passed" in said
