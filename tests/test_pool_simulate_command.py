"""manage.py pool_simulate as people use it: another process, and a terminal."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from example_project.servers import ROOT, ServerOptions
from pool_doctor.analysis import simulate
from pool_doctor.analysis.simulate import WhatIf, outcomes
from pool_doctor.management.commands import pool_simulate
from pool_doctor.recording.directory import prepare
from pool_doctor.recording.reader import read_directory
from pool_doctor.report.traces import Traces
from tests.report_rings import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper

DEADLINE = 60.0
MANAGE = [sys.executable, str(ROOT / "example_project" / "manage.py"), "pool_simulate"]
UNUSED = "postgresql://nobody@127.0.0.1:1/nothing"


@pytest.fixture
def directory(tmp_path: Path, settings: SettingsWrapper) -> Path:
    """A directory in which two workers recorded requests that overlap, under the policy `request`."""
    folder = tmp_path / "recordings"
    prepare(folder)
    settings.POOL_DOCTOR = {"DIRECTORY": str(folder)}
    for worker in (Worker(folder, threads=4), Worker(folder, threads=4)):
        for number in range(300):
            start = number * 0.1
            worker.request(start, start + 0.22, (start, 0.0, 0.2), needed=((start, 0.01),))
    return folder


def simulated(*arguments: str, **options: object) -> str:
    output = io.StringIO()
    call_command("pool_simulate", *arguments, database="default", stdout=output, stderr=io.StringIO(), **options)
    return output.getvalue()


def test_the_table_marks_the_knee_and_the_recorded_size(directory: Path) -> None:
    text = simulated("--max-size", "1..5")
    title, rows = text.split("\n\n")[:2]
    assert title == (
        "default: 600 requests, recorded in 30.1 s under policy request.\n"
        "Replayed under policy request on 2 workers with 4 threads each; sizes are connections of one worker."
    )
    cells = {line.split()[0]: line.split()[1:] for line in rows.splitlines()[2:]}
    assert list(cells) == ["1", "2", "3", "4", "5"]
    assert cells["3"][0] == "0%"
    assert cells["2"][-1] == "knee"
    assert cells["4"][-1] == "recorded"
    assert float(cells["1"][0].rstrip("%")) > 90
    assert "█" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_json_and_csv_have_the_same_rows(directory: Path) -> None:
    document = json.loads(simulated("--max-size", "1..3", "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(simulated("--max-size", "1..3", "--format", "csv"))))
    assert [row["max_size"] for row in document["sizes"]] == [1, 2, 3]
    for found, row in zip(document["sizes"], rows, strict=True):
        assert {**{name: str(value) for name, value in found.items()}, "knee": row["knee"]} == row
    assert [row["knee"] for row in rows] == [str(size == document["knee"]) for size in (1, 2, 3)]
    assert document["recorded"] == {
        "policy": "request",
        "max_size": 4,
        "seconds": pytest.approx(30.12, abs=0.1),
        "requests": 600,
        "workers": 2,
    }
    assert document["not_simulated"] == []


def test_what_if(directory: Path) -> None:
    def rows(*arguments: str) -> dict[str, float]:
        [row] = json.loads(simulated("--max-size", "1", "--format", "json", *arguments))["sizes"]
        return row

    assert rows()["p_wait"] > 0.9
    assert rows("--policy", "query")["p_wait"] == 0
    assert rows("--policy", "query", "--load", "30", "--threads", "100")["p_wait"] > 0.5
    assert rows("--threads", "1")["p_wait"] == 0
    assert rows("--threads", "1")["thread_waits"] > 0.9
    assert rows("--workers", "20")["p_wait"] < 0.5
    assert rows("--timeout", "0.5")["timeouts"] > 0
    assert rows("--since", "1d")["checkouts"] == 600


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--max-size", "0..4"], "--max-size 0..4 cannot be; use a size or a range from 1 to 1000, such as 1..16."),
        (["--max-size", "8..4"], "--max-size 8..4 cannot be; use a size or a range from 1 to 1000, such as 1..16."),
        (["--max-size", "many"], "--max-size many cannot be; use a size or a range from 1 to 1000, such as 1..16."),
        (["--policy", "session"], "--policy session is not known; use request or query."),
        (["--load", "0"], "--load 0 cannot be; use a number greater than 0, such as 2.0."),
        (["--load", "nan"], "--load nan cannot be; use a number greater than 0, such as 2.0."),
        (["--threads", "0"], "--threads 0 cannot be; use a whole number, 1 or more."),
        (["--workers", "2.5"], "--workers 2.5 cannot be; use a whole number, 1 or more."),
        (["--timeout", "-1"], "--timeout -1 cannot be; use a number of seconds greater than 0."),
        (["--target-wait", "5ms"], "--target-wait 5ms cannot be; use a number of seconds, 0 or more."),
        (["--since", "x"], "--since x is no span of time; use a number with s, m, h or d, such as 10m."),
        (["--format", "yaml"], "--format yaml is not known; use table, json or csv."),
    ],
)
def test_bad_values_get_one_sentence(arguments: list[str], sentence: str, directory: Path) -> None:
    with pytest.raises(CommandError) as caught:
        simulated(*arguments)
    assert str(caught.value) == sentence


def test_without_recordings_it_says_what_to_do(tmp_path: Path, settings: SettingsWrapper) -> None:
    settings.POOL_DOCTOR = {"DIRECTORY": str(tmp_path)}
    with pytest.raises(CommandError, match=r"No checkout of 'default' is recorded in .*: send traffic"):
        simulated()


def test_of_several_databases_one_has_to_be_named(directory: Path) -> None:
    with pytest.raises(CommandError, match="name one with --database: default, other"):
        call_command("pool_simulate")


def test_without_rich_a_line_says_what_is_missing(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_simulate, "drawing", None)
    text = simulated("--max-size", "2")
    assert text.endswith('\n\nFor a chart and a progress bar: pip install "django-pool-doctor[terminal]".\n')
    assert "█" not in text


def test_two_processes_find_the_same(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traffic = Traces(read_directory(directory)).traffic("default")
    assert traffic is not None
    alone = list(outcomes(traffic.trace, range(1, 8), WhatIf()))
    monkeypatch.setattr(simulate, "LARGE", 1)
    assert list(outcomes(traffic.trace, range(1, 8), WhatIf(), processes=2)) == alone


def test_ctrl_c_prints_what_is_done(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **options: object) -> object:
        yield from list(outcomes(*arguments, **options))[:2]
        raise KeyboardInterrupt

    monkeypatch.setattr(pool_simulate, "outcomes", interrupted)
    output, error = io.StringIO(), io.StringIO()
    call_command("pool_simulate", "--max-size", "1..5", database="default", stdout=output, stderr=error)
    assert [line.split()[0] for line in output.getvalue().split("\n\n")[1].splitlines()[2:]] == ["1", "2"]
    assert error.getvalue() == "Stopped: sizes 3 to 5 were not simulated.\n"


@pytest.mark.heavy
def test_ctrl_c_on_a_terminal(directory: Path) -> None:
    """A real signal, in the middle of long work in two processes: what is done is printed, and the status is 0."""
    for _ in range(3):
        worker = Worker(directory, threads=4, ring_size=65_536)
        for number in range(20_000):
            start = number * 0.1
            worker.request(start, start + 0.22, (start, 0.0, 0.2), needed=((start, 0.01),))
    environment = {**os.environ, **ServerOptions().environment(UNUSED, directory), "TERM": "xterm", "COLUMNS": "100"}
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*MANAGE, "--max-size", "1..400", "--load", "20", "--threads", "400"],
        env=environment,
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        text=True,
    ) as process:
        os.close(slave)
        shown = ""
        # The bar shows that at least one size is done.
        while "%" not in shown or " 0%" in shown.rsplit("Replaying", 1)[-1]:
            shown += os.read(master, 4096).decode()
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=DEADLINE)
    os.close(master)
    assert process.returncode == 0
    assert output.splitlines()[5].split()[0] == "1"
    assert len(output.split("\n\n")[1].splitlines()) < 402
