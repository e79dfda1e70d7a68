"""The advice in the report: from ring files, within the project's targets, the same in all formats."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from pool_doctor.adapters.conf import Settings
from pool_doctor.recording.directory import prepare
from pool_doctor.recording.reader import read_directory
from pool_doctor.report.advice import Targets, advice_on
from pool_doctor.report.as_json import render_json
from pool_doctor.report.as_markdown import render_markdown
from pool_doctor.report.as_text import render_text
from pool_doctor.report.build import build_report
from pool_doctor.report.model import DatabaseAdvice, Report, ServerError, ServerFacts
from pool_doctor.report.traces import Traces
from pool_doctor.report.words import width
from tests.report_rings import Worker
from tests.report_samples import CONFIGURATION, NOW, SERVER

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "report-schema.json").read_text())
TARGETS = Targets.of(Settings())


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    prepare(folder)
    return folder


@pytest.fixture
def advised(directory: Path) -> Callable[..., DatabaseAdvice]:
    """A function that records two workers for two minutes, and returns the advice for given targets and server."""
    for worker in (Worker(directory), Worker(directory)):
        worker.traffic(1200)

    def advised(server: ServerFacts | ServerError = SERVER, **targets: Any) -> DatabaseAdvice:
        traces = Traces(read_directory(directory))
        found = advice_on("default", traces, server, replace(TARGETS, **targets))
        assert found is not None
        return found

    return advised


def report(directory: Path, advice: DatabaseAdvice | None) -> Report:
    facts = [(CONFIGURATION, SERVER)]
    return build_report(read_directory(directory), facts, now=NOW, advice={"default": advice})


def test_the_numbers_in_the_text_are_the_numbers_in_the_json(
    directory: Path, advised: Callable[..., DatabaseAdvice]
) -> None:
    found = report(directory, advised())
    document = json.loads(render_json(found))
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
    text, markdown = render_text(found), render_markdown(found)
    for policy, advice in document["databases"]["default"]["advice"].items():
        [row] = [line for line in text.splitlines() if line.split()[:1] == [policy]]
        assert f" {advice['max_size']} " in row
        assert f"{advice['timeout']:g} s" in row
        assert f"\n```python\n{advice['settings']}\n```\n" in markdown
        assert all(f"    {line}\n" in text for line in advice["settings"].splitlines())
        flowing = " ".join(text.split())
        assert all(" ".join(sentence.split()) in flowing for sentence in advice["why"] + advice["caveats"])
    assert text.rstrip().splitlines()[-1].startswith("    ")
    assert text.index("\nServer\n") < text.index("\nAdvice\n")


@pytest.mark.parametrize("columns", [80, 100])
def test_the_advice_fits_its_width(columns: int, directory: Path, advised: Callable[..., DatabaseAdvice]) -> None:
    lines = render_text(report(directory, advised()), columns=columns).splitlines()
    assert max(map(width, lines)) <= columns


def test_without_advice_there_is_no_section_and_no_key(directory: Path, advised: object) -> None:
    found = report(directory, None)
    assert "advice" not in json.loads(render_json(found))["databases"]["default"]
    assert "Advice" not in render_text(found)


def test_with_too_little_there_is_a_sentence_and_no_number(directory: Path) -> None:
    Worker(directory)
    advice = advice_on("default", Traces(read_directory(directory)), SERVER, TARGETS)
    assert advice is not None
    found = report(directory, advice)
    Draft202012Validator(SCHEMA).validate(json.loads(render_json(found)))
    assert "No checkout was recorded, so there is nothing to base advice on" in " ".join(render_text(found).split())


def test_the_advice_is_the_same_from_two_processes(
    directory: Path, advised: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pool_doctor.analysis import advice

    monkeypatch.setattr(advice, "LARGE", 1)
    traces = Traces(read_directory(directory))
    alone, together = (advice_on("default", traces, SERVER, TARGETS, processes=number) for number in (1, 2))
    assert alone is not None
    assert together is not None
    assert {policy: found.as_dict() for policy, found in together.advice.items()} == {
        policy: found.as_dict() for policy, found in alone.advice.items()
    }
    assert [found.choice is None for found in together.advice.values()] == [False, True]


def test_the_servers_limit_is_shared_by_all_workers(advised: Callable[..., DatabaseAdvice]) -> None:
    """100 less 3 reserved less 21 of others, for two workers and a quarter more."""
    assert advised().goal.budget.per_worker == 30
    assert advised(workers=10).goal.budget.per_worker == 6
    assert advised(workers=10, hosts=2, deploy_surge=1.0).goal.budget.per_worker == 1
    small = advised(workers=100)
    assert {found.bound_by for found in small.advice.values()} == {"budget"}
    assert all("No pool fits" in found.why[0] for found in small.advice.values())


def test_a_pooler_in_between_or_a_server_that_does_not_answer_give_no_budget(
    advised: Callable[..., DatabaseAdvice],
) -> None:
    assert advised(replace(SERVER, pooler=True)).goal.budget is None
    silent = advised(ServerError("refused"))
    assert silent.goal.budget is None
    assert silent.notes == (
        "The server could not be asked how many connections it takes, so no budget limits the advice.",
    )


def test_targets_change_the_advice(advised: Callable[..., DatabaseAdvice]) -> None:
    strict = advised(target_wait=0.001, target_share=0.999, request_deadline=2.0)
    assert (strict.goal.target_wait, strict.goal.target_share) == (0.001, 0.999)
    assert any("within the deadline" in sentence for sentence in strict.advice["request"].why)
    assert advised(threads=3).advice["request"].max_size <= 3


def test_settings_stand_in_for_what_is_not_given() -> None:
    settings = Settings(target_wait=0.02, hosts=3)
    assert Targets.of(settings, target_wait=None, workers=4) == replace(TARGETS, target_wait=0.02, hosts=3, workers=4)


def test_how_connections_are_used_is_told_with_the_demand(
    directory: Path, advised: Callable[..., DatabaseAdvice]
) -> None:
    text = " ".join(render_text(report(directory, advised())).split())
    assert "Half of the time a process has at most 1 connection in use, 99 % of the time at most 1." in text
    assert "Checkouts come evenly" in text
