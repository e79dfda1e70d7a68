"""Gaps, lanes, the other policy and the findings, of requests whose times are known."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from pool_doctor.recording import layout
from pool_doctor.toolbar.figures import describe
from pool_doctor.toolbar.gaps import gaps
from tests.panel.requests import MS, Requested

if TYPE_CHECKING:
    from pool_doctor.recording.snapshot import PoolSettings


def _database(request: Requested) -> dict[str, Any]:
    (database,) = describe(request)["databases"]
    return dict(database)


def _findings(request: Requested) -> dict[str, dict[str, str]]:
    return {finding["id"]: finding for finding in _database(request)["findings"]}


def _held_idle(**about: Any) -> Requested:
    """A connection that is held for 100 ms, and needed for 4 and 6 of them."""
    request = Requested(**about)
    held = request.hold(0, 0, 100 * MS, returned=False)
    held.queries += [request.query(1 * MS, 3 * MS), request.query(90 * MS, 93 * MS)]
    held.segments += [(0, 4 * MS), (88 * MS, 94 * MS)]
    return request


def test_gaps_are_cut_where_the_need_begins_and_ends() -> None:
    (held,) = _held_idle().held
    found = [(gap.started // MS, gap.ended // MS, gap.kept_by) for gap in gaps(held)]
    assert found == [
        (0, 1, "cursor"),
        (3, 4, "cursor"),
        (4, 88, "nothing"),
        (88, 90, "cursor"),
        (93, 94, "cursor"),
        (94, 100, "nothing"),
    ]


def test_what_is_stored_is_json_also_where_a_setting_has_no_limit() -> None:
    database = _database(_held_idle())
    assert json.loads(json.dumps(database, allow_nan=False)) == database
    assert database["pool"]["max_idle"] is None


def test_a_query_inside_a_longer_one_makes_no_gap() -> None:
    request = Requested()
    held = request.hold(0, 0, 50 * MS)
    held.queries += [request.query(0, 50 * MS), request.query(10 * MS, 20 * MS)]
    assert list(gaps(held)) == []


def test_an_idle_connection_is_found_with_its_share_and_lines() -> None:
    found = _findings(_held_idle())
    assert set(found) == {"idle-while-held"}
    finding = found["idle-while-held"]
    assert finding["title"] == "Held for 90 ms while nothing needed it"
    assert finding["evidence"] == (
        "The longest gap: 84 ms, after shop/views.py:15 page, before shop/views.py:15 page (2 gaps)."
    )
    assert finding["docs"] == "docs/panel.md#idle-while-held"


@pytest.mark.parametrize(
    ("about", "fix"),
    [
        ({}, 'Set ENGINE "pool_doctor.backends.postgresql"'),
        ({"engine": "django.contrib.gis.db.backends.postgis"}, 'Set ENGINE "pool_doctor.backends.postgis"'),
        ({"engine": "dj_db_conn_pool.backends.postgresql"}, 'Set ENGINE "pool_doctor.backends.dj_db_conn_pool"'),
        ({"engine": "somebody.elses"}, "Call django.db.connection.close()"),
        ({"pool": None, "policy": "unpooled"}, 'Set OPTIONS["pool"] and ENGINE "pool_doctor.backends.postgresql"'),
    ],
)
def test_the_remedy_fits_the_engine(about: dict[str, Any], fix: str) -> None:
    assert _findings(_held_idle(**about))["idle-while-held"]["fix"].startswith(fix)


def test_an_open_cursor_is_found_between_its_queries_and_not_after_the_last() -> None:
    request = Requested()
    held = request.hold(0, 0, 60 * MS)
    held.queries += [request.query(0, MS), request.query(31 * MS, 32 * MS)]
    held.segments.append((0, 60 * MS))
    assert _findings(request)["open-cursor"]["title"] == "A cursor or hold() was open for 30 ms in which no query ran"
    held.queries.pop()
    assert _findings(request) == {}


def test_little_idleness_is_no_finding() -> None:
    request = Requested()
    held = request.hold(0, 0, 6 * MS)
    held.queries.append(request.query(0, 2 * MS))
    held.segments.append((0, 2 * MS))
    assert _findings(request) == {}


def test_the_other_policy_is_computed_from_what_was_needed() -> None:
    other = _database(_held_idle())["other"]
    assert (other["policy"], other["checkouts"], other["bars"]) == ("query", 2, {"own": "100.00", "other": "10.00"})
    assert other["hold"] == pytest.approx(0.010)


def test_the_other_policy_of_a_releasing_engine_holds_from_the_first_checkout_on() -> None:
    request = Requested(policy="query")
    for start in (10 * MS, 60 * MS):
        held = request.hold(start, start + 2 * MS, start + 5 * MS)
        held.segments.append((held.since, held.ended))
    other = _database(request)["other"]
    assert (other["policy"], other["checkouts"]) == ("request", 1)
    # From 12 ms on, less the second wait.
    assert other["hold"] == pytest.approx(0.086)


@pytest.mark.parametrize("pool", [None, Requested().channel.description.pool])
def test_a_wait_is_for_a_connection_of_the_pool_or_for_a_new_one(pool: PoolSettings | None) -> None:
    request = Requested(pool=pool, policy="request" if pool else "unpooled")
    request.hold(0, 6 * MS, 8 * MS)
    title = _findings(request)["waited"]["title"]
    assert title == ("Waited 6 ms for a connection" if pool else "6 ms went into opening connections")


def test_failures_come_first_and_say_what_failed() -> None:
    request = _held_idle()
    request.fail(0, 30 * MS)
    request.fail(0, 20 * MS, layout.ERROR)
    found = _database(request)["findings"]
    assert [finding["id"] for finding in found[:2]] == ["timed-out", "not-connected"]
    assert found[0]["evidence"] == "1 checkout failed, the last after 30 ms at shop/views.py:12 page."
    assert [row["outcome"] for row in _database(request)["checkouts"]["rows"]] == [
        "until the end",
        "timed out",
        "failed",
    ]


@pytest.mark.parametrize(
    ("pin", "fix"),
    [
        ("SET at shop/views.py:3 page", "SET LOCAL"),
        ("set config at shop/views.py:3 page", "third argument"),
        ("advisory lock at shop/views.py:3 page", "pg_advisory_xact_lock()"),
        ("something new", "outlives its transaction"),
    ],
)
def test_a_pin_has_its_remedy(pin: str, fix: str) -> None:
    request = _held_idle(policy="query")
    request.held[0].pins.append(pin)
    assert fix in _findings(request)["pinned"]["fix"]


def test_connections_one_after_the_other_are_one_lane_and_at_once_two() -> None:
    request = Requested()
    request.hold(0, 0, 10 * MS)
    request.hold(10 * MS, 10 * MS, 20 * MS)
    assert len(_database(request)["timeline"]["lanes"]) == 1
    assert "several-at-once" not in _findings(request)
    request.hold(5 * MS, 5 * MS, 15 * MS)
    assert len(_database(request)["timeline"]["lanes"]) == 2
    assert _findings(request)["several-at-once"]["title"] == "2 connections at once for one request"


@pytest.mark.parametrize(
    ("milliseconds", "labels"),
    [
        (100, ["0 s", "20 ms", "40 ms", "60 ms", "80 ms", "100 ms"]),
        (7, ["0 s", "2 ms", "4 ms", "6 ms"]),
        (1300, ["0 s", "500 ms", "1 s"]),
    ],
)
def test_the_axis_has_round_numbers(milliseconds: int, labels: list[str]) -> None:
    request = Requested(milliseconds)
    request.hold(0, 0, MS)
    assert [tick["label"] for tick in _database(request)["timeline"]["ticks"]] == labels
