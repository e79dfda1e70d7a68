"""The options of pool_report that say what the advice has to reach."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from pool_doctor.management.commands import pool_report
from pool_doctor.recording.directory import prepare
from tests.report_rings import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def directory(tmp_path: Path, settings: SettingsWrapper) -> Path:
    """A directory in which one worker recorded for two minutes."""
    folder = tmp_path / "recordings"
    prepare(folder)
    settings.POOL_DOCTOR = {"DIRECTORY": str(folder)}
    Worker(folder).traffic(1200)
    return folder


def report(*arguments: str) -> dict[str, Any]:
    output = io.StringIO()
    call_command("pool_report", "--format", "json", "--database", "default", *arguments, stdout=output)
    database: dict[str, Any] = json.loads(output.getvalue())["databases"]["default"]
    return database


def test_the_report_has_advice_unless_it_shall_not(directory: Path) -> None:
    assert set(report()["advice"]) == {"request", "query"}
    assert "advice" not in report("--no-advice")


def test_options_take_the_place_of_settings(directory: Path, settings: SettingsWrapper) -> None:
    def target(*arguments: str) -> str:
        [sentence] = [why for why in report(*arguments)["advice"]["request"]["why"] if "meets the target of" in why]
        return sentence

    settings.POOL_DOCTOR = {**settings.POOL_DOCTOR, "TARGET_WAIT": 0.02, "TARGET_SHARE": 0.95}
    assert "wait longer than 20 ms, which meets the target of at most 5%." in target()
    options = ("--target-wait", "0.03", "--target-share", "0.9")
    assert "wait longer than 30 ms, which meets the target of at most 10%." in target(*options)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target-wait", "-1"], "--target-wait -1 cannot be; use a number of seconds, 0 or more."),
        (["--target-wait", "inf"], "--target-wait inf cannot be; use a number of seconds, 0 or more."),
        (["--target-share", "99"], "--target-share 99 cannot be; use a share between 0 and 1, neither included."),
        (["--target-share", "1"], "--target-share 1 cannot be; use a share between 0 and 1, neither included."),
        (["--threads", "none"], "--threads none cannot be; use a whole number, 1 or more."),
        (["--workers", "0"], "--workers 0 cannot be; use a whole number, 1 or more."),
        (["--hosts", "-2"], "--hosts -2 cannot be; use a whole number, 1 or more."),
        (["--deploy-surge", "a quarter"], "--deploy-surge a quarter cannot be; use a number, 0 or more."),
        (["--request-deadline", "0"], "--request-deadline 0 cannot be; use a number of seconds greater than 0."),
        (["--request-deadline", "nan"], "--request-deadline nan cannot be; use a number of seconds greater than 0."),
    ],
)
def test_bad_values_get_one_sentence(arguments: list[str], sentence: str, directory: Path) -> None:
    with pytest.raises(CommandError) as caught:
        report(*arguments)
    assert str(caught.value) == sentence
    with pytest.raises(CommandError) as caught:
        report("--no-advice", *arguments)
    assert str(caught.value) == sentence


def test_what_is_shown_anew_every_second_has_no_advice(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[str] = []
    monkeypatch.setattr(pool_report, "watch", lambda frame, interval, write: frames.append(frame(100)))
    output = io.StringIO()
    output.isatty = lambda: True  # type: ignore[method-assign]
    call_command("pool_report", "--watch", "--database", "default", stdout=output)
    assert "Demand" in frames[0]
    assert "Advice" not in frames[0]
