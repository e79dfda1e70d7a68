"""Runs in processes of their own: what they write, how they end, and what they leave."""

from __future__ import annotations

import io
import json
import os
import tarfile
import unittest
from typing import TYPE_CHECKING

import psycopg
import pytest

from example_project.postgres import create_database
from tests.django_suite import source
from tests.django_suite.errors import SuiteError
from tests.django_suite.execute import Executor
from tests.django_suite.outcomes import read_outcomes
from tests.django_suite.plan import Plan
from tests.django_suite.runner import RecordingResult
from tests.django_suite.variants import VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.heavy

PREFIX = f"suite_test_{os.getpid()}"

# A suite that starts a process, says that it is in a test, and never ends.
HANGING = """
import json, os, subprocess, sys, threading
lasting = "import threading; kept = open('fifo', 'w'); threading.Event().wait(60)"
child = subprocess.Popen([sys.executable, "-c", lasting])
open("fifo").close()
plan = json.loads(os.environ["DJANGO_SUITE_PLAN"])
with open(plan["outcomes"], "w") as lines:
    lines.write(json.dumps({"started": "app.a"}) + "\\n")
    lines.write(json.dumps({"test": "app.a", "outcome": "passed", "detail": ""}) + "\\n")
    lines.write(json.dumps({"started": "app.b"}) + "\\n" + '{"test": "app.b", "out')
print(plan["databases"]["default"]["NAME"], *sys.argv[1:], flush=True)
threading.Event().wait()
"""


def executor(tmp_path: Path, url: str) -> Executor:
    return Executor(tmp_path, url, PREFIX, tmp_path, parallel=3, stall_timeout=0.5)


def test_a_run_that_hangs_is_ended_with_its_children_and_its_databases(tmp_path: Path, postgres_url: str) -> None:
    (tmp_path / "runtests.py").write_text(HANGING)
    os.mkfifo(tmp_path / "fifo")
    create_database(postgres_url, f"test_{PREFIX}_pool_default")
    outcomes = executor(tmp_path, postgres_url).run(VARIANTS["pool"], ["app"], "pool")
    assert outcomes.by_test == {"app.a": "passed"}
    assert outcomes.last_started == "app.b"
    assert not outcomes.complete
    log = (tmp_path / "pool.log").read_text()
    assert f"{PREFIX}_pool_default --settings=tests.django_suite.settings --noinput --parallel=3 app\n" in log
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert os.read(reader, 1) == b""  # with a writer alive it would raise BlockingIOError
    finally:
        os.close(reader)
    with psycopg.connect(postgres_url) as connection:
        left = connection.execute("SELECT datname FROM pg_database WHERE datname ~ %s", [PREFIX]).fetchall()
    assert left == []


class Sample(unittest.TestCase):
    __test__ = False

    def passes(self) -> None:
        pass

    def fails(self) -> None:
        self.fail("as it should")

    def breaks(self) -> None:
        raise KeyError("gone")

    def skips(self) -> None:
        self.skipTest("not today")

    def fails_in_part(self) -> None:
        for part in range(3):
            with self.subTest(part=part):
                self.assertNotEqual(part, 1)  # noqa: PT009

    def skips_in_part(self) -> None:
        with self.subTest(part=1):
            self.skipTest("this part")


class BrokenClass(unittest.TestCase):
    __test__ = False

    @classmethod
    def setUpClass(cls) -> None:
        raise ValueError("no fixture")

    def passes(self) -> None:
        pass


def test_each_outcome_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "outcomes.jsonl"
    for name, value in Plan({}, str(path), installed=False).environment().items():
        monkeypatch.setenv(name, value)
    names = ("passes", "fails", "breaks", "skips", "fails_in_part", "skips_in_part")
    suite = unittest.TestSuite([*(Sample(name) for name in names), BrokenClass("passes")])
    result = unittest.TextTestRunner(stream=io.StringIO(), resultclass=RecordingResult).run(suite)
    result.finish()  # type: ignore[attr-defined]
    outcomes = read_outcomes(path)
    sample = f"{__name__}.Sample."
    assert outcomes.by_test == {
        f"{sample}passes": "passed",
        f"{sample}fails": "failed",
        f"{sample}breaks": "error",
        f"{sample}skips": "skipped",
        f"{sample}fails_in_part": "failed",
        f"{sample}skips_in_part": "skipped",
        f"setUpClass ({__name__}.BrokenClass)": "error",
    }
    assert outcomes.complete
    assert "as it should" in outcomes.details[f"{sample}fails"]
    assert "no fixture" in outcomes.details[f"setUpClass ({__name__}.BrokenClass)"]


def test_a_clean_up_that_fails_after_its_test_passed_counts(tmp_path: Path) -> None:
    path = tmp_path / "outcomes.jsonl"
    lines = [("a", "passed", ""), ("a", "error", "late"), ("b", "error", "early"), ("b", "passed", "")]
    path.write_text("".join(json.dumps({"test": t, "outcome": o, "detail": d}) + "\n" for t, o, d in lines))
    outcomes = read_outcomes(path)
    assert outcomes.by_test == {"a": "error", "b": "error"}
    assert outcomes.details == {"a": "late", "b": "early"}


def fake_download(names: list[str]) -> object:
    def download(version: str, directory: Path) -> Path:
        archive = directory / f"django-{version}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(f"django-{version}/{name}"), io.BytesIO())
        return archive

    return download


def test_the_tests_are_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["django/__init__.py", "tests/runtests.py", "tests/basic/__init__.py"]
    monkeypatch.setattr(source, "_download", fake_download(names))
    tests = source.suite_directory("9.9", tmp_path)
    assert sorted(str(path.relative_to(tests)) for path in tests.rglob("*.py")) == [
        "basic/__init__.py",
        "runtests.py",
    ]
    assert list(tmp_path.iterdir()) == [tests]
    monkeypatch.delattr(source, "_download")
    assert source.suite_directory("9.9", tmp_path) == tests


def test_a_distribution_without_tests_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_download", fake_download(["django/__init__.py"]))
    with pytest.raises(SuiteError, match=r"django-9\.9\.tar\.gz holds no tests/runtests\.py\."):
        source.suite_directory("9.9", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_gets_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SuiteError, match=r"cannot be kept in .*: Not a directory\."):
        source.suite_directory("9.9", tmp_path / "file" / "below")
