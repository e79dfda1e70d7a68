"""Recordings of several processes become the numbers of one report."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pool_doctor.recording.histogram import RELATIVE_ERROR, Histogram
from pool_doctor.recording.snapshot import OpenCheckout, PoolSettings, ScopeTotals
from pool_doctor.report.build import build_report
from pool_doctor.report.model import Configuration, DatabaseReport, Report, ServerError
from tests.report_samples import CONFIGURATION, NOW, POOL, SERVER, alias, ended, process, recordings


def report_of(*processes, configuration: Configuration = CONFIGURATION, since: float | None = None) -> Report:
    return build_report(recordings(*processes), [(configuration, SERVER)], now=NOW, since=since)


def default_of(*processes, **options) -> DatabaseReport:
    return report_of(*processes, **options).databases["default"]


def test_demand_is_summed_over_processes_and_its_quantiles_are_of_all_checkouts_together() -> None:
    slow = alias(
        checkouts=1_000, timeouts=2, errors=1, hold=Histogram.of([0.2] * 1_000), open=[], peak_in_use=3, peak_waiting=9
    )
    demand = default_of(process(1, alias(open=[])), process(2, slow)).demand

    assert (demand.checkouts, demand.timeouts, demand.errors) == (2_003, 2, 1)
    assert demand.rate == pytest.approx(2_003 / 724)
    assert (demand.peak_in_use, demand.peak_waiting) == (4, 9)
    assert demand.hold.p50 == pytest.approx(0.052, rel=RELATIVE_ERROR)
    assert demand.hold.p99 == pytest.approx(0.2, rel=RELATIVE_ERROR)
    assert demand.hold.max == 0.2
    assert demand.hold.mean == pytest.approx(0.126)
    assert demand.busy_mean == pytest.approx((52 + 200) / 724)


def test_connections_that_are_still_held_count_as_busy_for_as_long_as_the_window() -> None:
    leaked = OpenCheckout("thread worker", "shop/leak.py:3", held_for=9_999.0, idle_for=9_998.0)
    demand = default_of(process(1, alias(open=[leaked, leaked], hold=Histogram()))).demand

    assert demand.busy_mean == pytest.approx(2.0)


def test_nothing_recorded_is_zero_counts_and_absent_durations() -> None:
    report = report_of()
    database = report.databases["default"]

    assert (report.recorded, report.window.seconds) == (False, 0.0)
    assert database.workers == database.scopes == ()
    assert (database.demand.checkouts, database.demand.rate, database.demand.busy_mean) == (0, 0.0, 0.0)
    for distribution in (database.demand.wait, database.demand.hold, database.demand.needed):
        assert (distribution.p50, distribution.max, distribution.mean) == (None, None, None)


def test_scopes_are_means_per_request_over_all_processes_and_the_largest_holder_comes_first() -> None:
    first = alias(scopes={"a": ScopeTotals("a", 10, 10, 20, 0.1, 1.0, 0.2, 0.25)})
    second = alias(
        scopes={
            "a": ScopeTotals("a", 30, 90, 90, 0.1, 3.0, 0.6, 0.75),
            "b": ScopeTotals("b", 1, 1, 1, 0.0, 5.0, 5.0, 5.1),
            "unfinished": ScopeTotals("unfinished", 0, 4, 4, 0.0, 0.0, 0.0, 0.0),
        }
    )
    b, a, unfinished = default_of(process(1, first), process(2, second)).scopes

    assert (a.name, a.requests, a.checkouts_per_request) == ("a", 40, 2.5)
    assert (a.hold, a.needed, a.idle_while_held) == pytest.approx((0.1, 0.02, 0.075))
    assert (b.name, b.idle_while_held) == ("b", 0.0)
    assert (unfinished.checkouts_per_request, unfinished.hold) == (None, None)


def test_workers_are_live_ones_first_each_with_its_longest_held_checkout_first() -> None:
    workers = default_of(ended(1), process(2, alias(), started_at=NOW - 5), process(3, alias())).workers

    assert [worker.pid for worker in workers] == [3, 2, 1]
    assert [round(checkout.held_for, 4) for checkout in workers[0].open] == [724.2, 12.13, 0.0311, 0.0042]


def test_the_window_begins_with_the_earliest_recording_and_ends_now_or_with_the_last_record() -> None:
    live, dead = process(1, alias(), covers_from=NOW - 50), ended(2)

    assert report_of(live, dead).window.start == dead.covers_from
    assert report_of(live, dead).window.end == NOW
    assert report_of(dead).window.end == dead.updated_at
    assert report_of(since=NOW - 600).window.seconds == 600


def test_a_window_asked_for_leaves_out_who_ended_before_it_and_starts_no_earlier_than_it() -> None:
    report = report_of(process(1, alias(), covers_from=NOW - 60), ended(2), since=NOW - 120)

    assert [worker.pid for worker in report.databases["default"].workers] == [1]
    assert report.window.seconds == 60


def test_processes_that_used_none_of_the_databases_have_no_part_in_the_window() -> None:
    other = process(1, alias(alias="other"), covers_from=NOW - 9_999)
    this = process(2, alias(), aliases={})
    report = report_of(other, this, ended(3))

    assert [worker.pid for worker in report.databases["default"].workers] == [3]
    assert report.window.end == NOW - 300


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pool": replace(POOL, max_size=8)}, "max_size 8"),
        ({"pool": replace(POOL, timeout=2.5, max_idle=60.0)}, "timeout 2.5, max_idle 60"),
        ({"policy": "query"}, "policy query"),
        ({"engine": "pool_doctor.backends.postgresql", "policy": "query"}, "engine pool_doctor.backends.postgresql"),
        ({"pool": None, "policy": "unpooled"}, "policy unpooled"),
    ],
)
def test_live_workers_that_run_with_other_settings_are_named(changes: dict[str, object], said: str) -> None:
    [note] = [
        note
        for note in default_of(process(71, alias(**changes)), process(72, alias(**changes))).notes
        if "settings.py" in note
    ]
    assert note == f"PIDs 71, 72 run with {said}, other than settings.py says now: restart them."


def test_workers_that_agree_with_settings_and_ended_ones_are_not_named() -> None:
    assert default_of(process(1, alias())).notes == ()
    assert default_of(ended(1, alias(pool=PoolSettings(1, 1, 1.0)))).notes == ()


def test_notes_say_when_policies_are_mixed_when_events_are_lost_and_when_records_were_torn() -> None:
    before = ended(1, alias(policy="query"))
    mixed, truncated, torn = default_of(before, process(2, alias(), truncated=True, torn=1), process(3, alias())).notes

    assert "1 under policy query and 2 under policy request" in mixed
    assert "oldest event still recorded by 2:" in truncated
    assert torn == "1 record left out that changed while being read."


def test_the_policy_of_the_numbers_is_that_of_the_newest_process() -> None:
    old = ended(1, alias(policy="request"))
    new = process(2, alias(policy="query"), started_at=NOW - 10)

    assert default_of(old, new).policy == "query"
    assert default_of(old).policy == "request"
    assert default_of(configuration=replace(CONFIGURATION, policy="unpooled")).policy == "unpooled"


def test_every_alias_has_its_own_numbers() -> None:
    other = replace(CONFIGURATION, alias="other", pool=None, policy="persistent")
    both = process(1, alias())
    both.aliases["other"] = alias(alias="other", checkouts=7, in_use=1)
    error = ServerError("it is down")
    report = build_report(recordings(both), [(CONFIGURATION, SERVER), (other, error)], now=NOW)

    assert [database.demand.checkouts for database in report.databases.values()] == [1_003, 7]
    assert report.databases["other"].server is error
