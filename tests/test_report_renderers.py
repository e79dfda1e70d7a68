"""The report as text, Markdown and JSON: what it says, what fits, and what the schema allows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from pool_doctor.recording.snapshot import OpenCheckout, PoolSettings, ScopeTotals
from pool_doctor.report.as_json import as_dict, render_json
from pool_doctor.report.as_markdown import render_markdown
from pool_doctor.report.as_text import Palette, render_text
from pool_doctor.report.build import build_report
from pool_doctor.report.headline import Mood, headline, mood
from pool_doctor.report.model import DatabaseReport, Report, ServerError
from pool_doctor.report.words import width
from tests.report_samples import CONFIGURATION, NOW, POOL, SERVER, alias, ended, process, recordings

SCHEMA = json.loads((Path(__file__).parent.parent / "docs" / "report-schema.json").read_text())


def report_of(*processes, configuration=CONFIGURATION, server=SERVER, **options) -> Report:
    return build_report(recordings(*processes), [(configuration, server)], now=NOW, **options)


def default_of(*processes, **options) -> DatabaseReport:
    return report_of(*processes, **options).databases["default"]


def crowded() -> Report:
    """More of everything than a terminal has room for, with names as unkind as they come."""
    route = "GET " + "very/long/route/" * 12 + "<int:pk>/"
    site = "a_rather/deep/path/" * 9 + "views.py:1234567"
    checkouts = [OpenCheckout(route, site, 86_399.0 * i, 86_399.0) for i in range(1, 9)]
    scopes = {f"{route}{i}": ScopeTotals(f"{route}{i}", 10**6 + i, 10**7, 1, 9e5, 9e8, 9e8, 1e5) for i in range(40)}
    workers = [
        process(4_100_000 + i, alias(open=checkouts, scopes=scopes), command="注文" * 60, started_at=NOW - 86_399)
        for i in range(20)
    ]
    server = replace(SERVER, by_application={f"application {'x' * 50} {i}": 1_000 + i for i in range(30)})
    return report_of(*workers, *(ended(4_000_000 + i, alias(scopes={}, open=[])) for i in range(7)), server=server)


def validate(report: Report) -> dict:
    document = json.loads(render_json(report))
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(document)
    return document


@pytest.mark.parametrize("columns", [80, 93, 100, 250])
def test_text_fits_its_width_whatever_it_has_to_say(columns: int) -> None:
    lines = render_text(crowded(), columns=columns).splitlines()

    assert max(map(width, lines)) <= min(columns, 100)


def test_text_says_what_it_leaves_out() -> None:
    text = render_text(crowded())

    assert "4 more live processes and 3 more ended processes not shown; --format json has all." in text
    assert "150 more open checkouts not shown; --format json has all." in text
    assert "28 more scopes not shown; --format json has all." in text
    assert "24 more applications not shown; --format json has all." in text
    assert "not shown" not in render_text(report_of(process(1, alias())))


def test_json_leaves_nothing_out() -> None:
    database = validate(crowded())["databases"]["default"]

    assert len(database["workers"]) == 27
    assert len(database["workers"][0]["open"]) == 8
    assert len(database["scopes"]) == 40
    assert len(database["server"]["by_application"]) == 30


def test_names_from_outside_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2J\x07evil\n"
    report = report_of(
        process(
            1,
            alias(
                open=[OpenCheckout(evil, evil, 1.0, 1.0, evil)], scopes={evil: ScopeTotals(evil, 1, 1, 1, 1, 1, 1, 1)}
            ),
            command=evil,
            kind=evil,
        ),
        server=replace(SERVER, by_application={evil: 1}, by_state={evil: 1}),
    )
    for text in (render_text(report), render_markdown(report)):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "evil" in text


def test_the_sections_come_in_order_in_text_and_in_markdown() -> None:
    report = report_of(process(1, alias()))
    titles = ["Configuration", "Workers (live)", "Demand", "Who holds", "Server"]
    for text in (render_text(report), render_markdown(report)):
        assert sorted(titles, key=text.index) == titles


def test_text_has_the_numbers_of_the_report() -> None:
    text = render_text(report_of(process(41_277, alias())))

    assert "Pool           min_size 2, max_size 4, timeout 10 s\n" in text
    assert "Defaults       max_waiting unlimited, max_lifetime 1 h, max_idle 10 min\n" in text
    assert "  41277  wsgi  up 12 min 4 s     4          0       4        3     4  gunicorn" in text
    assert "  12 min 4 s     3.2 s  41277  nightly import (pinned: SET)  shop/management/commands/nightly.py:31" in text
    assert "      4.2 ms  in query  41277  GET sql/" in text
    assert "1,003 checkouts in 12 min 4 s (1.39 a second), none timed out." in text
    assert "  GET orders/<int:pk>/       600          1  52 ms  2.17 ms     50 ms (96 %)   60 %\n" in text
    assert "21 of 97 connections in use (100 less 3 reserved), 9 idle in transaction, no\n  pooler in between" in text
    assert "  By application  shop 16, psql 3, (none) 2\n" in text


def test_ended_workers_are_shown_as_ended_and_hold_nothing() -> None:
    text = render_text(report_of(ended(40_111)))

    assert "Workers (all ended)" in text
    assert "  40111  wsgi  ended 5 min ago     -          -       -        -     4  gunicorn" in text


def test_markdown_keeps_routes_and_tables_whole() -> None:
    scopes = {"GET a|b/<int:pk>/": ScopeTotals("GET a|b/<int:pk>/", 1, 1, 1, 0, 1, 1, 1)}
    text = render_markdown(report_of(process(1, alias(scopes=scopes, open=[]))))

    assert "| GET a\\|b/\\<int:pk\\>/ |" in text
    assert "max_size 4" in text
    assert text.count("\n## default\n") == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {},
            (
                "default: 4 of 4 connections in use, 3 requests waiting; connections are held 52 ms per request, "
                "96 % of it while no query runs."
            ),
        ),
        (
            {"waiting": 0, "in_use": 1, "timeouts": 12},
            (
                "default: 1 of 4 connections in use, nobody waiting; 12 of 1,003 checkouts timed out; connections are "
                "held 52 ms per request, 96 % of it while no query runs."
            ),
        ),
        (
            {"policy": "query", "waiting": 1},
            (
                "default: 4 of 4 connections in use, 1 request waiting; a request holds one for 52 ms in 1 turn, "
                "96 % of it while no query runs."
            ),
        ),
        (
            {"policy": "persistent", "pool": None, "waiting": 0},
            (
                "default: 4 connections in use by 1 process; threads keep their connections, and a request holds its "
                "thread's for 52 ms, 96 % of it while no query runs."
            ),
        ),
        (
            {"policy": "persistent", "pool": None, "waiting": 0, "in_use": 1, "scopes": {}},
            "default: 1 of 4 open connections in use by 1 process; no request that used it has ended yet.",
        ),
        (
            {"policy": "unpooled", "pool": None, "waiting": 0},
            (
                "default: 4 connections in use by 1 process; each request opens its own in 2.14 ms and holds it "
                "for 52 ms, 96 % of it while no query runs."
            ),
        ),
        (
            {"pool": replace(POOL, max_size=0)},
            (
                "default: 4 connections in use by 1 process, 3 requests waiting; connections are held 52 ms per "
                "request, 96 % of it while no query runs."
            ),
        ),
        (
            {"scopes": {}},
            "default: 4 of 4 connections in use, 3 requests waiting; no request that used it has ended yet.",
        ),
    ],
)
def test_the_headline_says_what_matters_under_each_policy(changes: dict[str, object], sentence: str) -> None:
    assert headline(default_of(process(1, alias(**changes))), NOW) == sentence


def test_the_headline_of_ended_processes_is_in_the_past() -> None:
    sentence = headline(default_of(ended(1)), NOW)

    assert sentence.startswith("default: no process that used it runs any more, the last one recorded until ")
    assert sentence.endswith("; connections were held 52 ms per request, 96 % of it while no query ran.")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, Mood.STUCK),
        ({"waiting": 0}, Mood.BUSY),
        ({"waiting": 0, "in_use": 1, "timeouts": 1}, Mood.BUSY),
        ({"waiting": 0, "in_use": 1}, Mood.CALM),
    ],
)
def test_the_mood_follows_from_who_waits_and_what_is_free(changes: dict[str, object], expected: Mood) -> None:
    assert mood(default_of(process(1, alias(**changes)))) is expected


def test_colours_do_not_change_a_character_of_the_layout() -> None:
    marks = Palette(heading="<h>{}".format, calm="<c>{}".format, busy="<b>{}".format, stuck="<s>{}".format)
    report = report_of(process(1, alias(pool=PoolSettings(2, 8, 10.0))))
    coloured = render_text(report, palette=marks)

    assert "<s>default: 4 of 8 connections" in coloured
    assert "<h>Demand" in coloured
    assert "<b>  PID 1 runs with max_size 8" in coloured
    for mark in ("<h>", "<c>", "<b>", "<s>"):
        coloured = coloured.replace(mark, "")
    assert coloured == render_text(report)


def test_with_nothing_recorded_one_sentence_says_what_to_do_beside_configuration_and_server() -> None:
    for text in (render_text(report_of()), render_markdown(report_of()).replace("\\", "")):
        flowing = " ".join(text.split())
        assert (
            'Nothing is recorded in /recordings yet: add "pool_doctor" to INSTALLED_APPS, restart the workers, and '
            'run pool_report as the same user with the same POOL_DOCTOR["DIRECTORY"].' in flowing
        )
        assert "Configuration" in flowing
        assert "PostgreSQL 17.2" in flowing
        assert "Demand" not in flowing


def test_with_recording_switched_off_it_says_so() -> None:
    assert 'POOL_DOCTOR["ENABLED"] is False' in render_text(report_of(recording=False))


def test_a_server_that_does_not_answer_leaves_the_rest_of_the_report_as_it_is() -> None:
    report = report_of(process(1, alias()), server=ServerError("the server did not answer within 2 s"))

    assert "Not available: the server did not answer within 2 s." in render_text(report)
    assert "3 requests waiting" in render_text(report)
    assert validate(report)["databases"]["default"]["server"] == {"error": "the server did not answer within 2 s"}


@pytest.mark.parametrize(
    "report",
    [
        report_of(),
        report_of(process(1, alias()), ended(2)),
        report_of(process(1, alias(policy="persistent", pool=None)), configuration=replace(CONFIGURATION, pool=None)),
        report_of(configuration=replace(CONFIGURATION, pool=PoolSettings(0, 0, 1.0, max_idle=float("inf")))),
    ],
)
def test_json_is_what_the_schema_says(report: Report) -> None:
    validate(report)


def test_json_has_the_keys_and_values_of_schema_1() -> None:
    document = validate(report_of(process(41_277, alias())))
    database = document["databases"]["default"]

    assert list(document) == ["schema", "generated_at", "window", "databases"]
    assert document["schema"] == 1
    assert document["window"]["seconds"] == 724
    assert (database["engine"], database["policy"]) == ("django.db.backends.postgresql", "request")
    assert database["pool"] == {
        "min_size": 2,
        "max_size": 4,
        "timeout": 10.0,
        "max_waiting": 0,
        "max_lifetime": 3600.0,
        "max_idle": 600.0,
    }
    [worker] = database["workers"]
    assert {name: worker[name] for name in ("pid", "kind", "alive", "size", "in_use", "waiting", "peak_in_use")} == {
        "pid": 41_277,
        "kind": "wsgi",
        "alive": True,
        "size": 4,
        "in_use": 4,
        "waiting": 3,
        "peak_in_use": 4,
    }
    assert worker["open"][1] == {
        "scope": "GET api-call/",
        "held_for": 12.13,
        "idle_for": 12.07,
        "site": "shop/views.py:88",
    }
    assert list(database["demand"]["wait"]) == ["p50", "p95", "p99", "max", "mean"]
    assert database["scopes"][0] == {
        "name": "GET orders/<int:pk>/",
        "requests": 600,
        "checkouts_per_request": 1.0,
        "hold": 0.052,
        "needed": pytest.approx(1.3 / 600),
        "idle_while_held": 0.05,
    }
    assert database["server"]["by_state"] == {"idle in transaction": 9, "idle": 8, "active": 4}


def test_what_has_no_limit_is_null_in_json() -> None:
    pool = PoolSettings(0, 0, 1.0, max_lifetime=float("inf"), max_idle=float("inf"))
    shown = validate(report_of(configuration=replace(CONFIGURATION, pool=pool)))["databases"]["default"]["pool"]

    assert (shown["max_size"], shown["max_lifetime"], shown["max_idle"]) == (None, None, None)


def test_the_schema_closes_every_object_with_named_keys() -> None:
    Draft202012Validator.check_schema(SCHEMA)

    def named(node: object):
        if isinstance(node, dict):
            if "properties" in node and "type" in node:
                yield node
            for child in node.values():
                yield from named(child)

    objects = list(named(SCHEMA))
    assert len(objects) > 10
    assert all(node["additionalProperties"] is False for node in objects)
    document = as_dict(report_of(process(1, alias())))
    document["databases"]["default"]["workers"][0]["surprise"] = 1
    assert not Draft202012Validator(SCHEMA).is_valid(document)
