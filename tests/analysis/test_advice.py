"""The advice: it finds what is known to be right, says why, and says so where it cannot know."""

from __future__ import annotations

import random
import re

import pytest

from pool_doctor.analysis.advice import advise
from pool_doctor.analysis.budget import Budget
from pool_doctor.analysis.goal import Goal
from pool_doctor.analysis.simulate import WhatIf, simulate
from pool_doctor.analysis.trace import Checkout, MinutePeak, TracedRequest

from .traffic import half_idle, plans, recorded, trace

pytestmark = pytest.mark.heavy

SERVER = Budget(100, 3, 0, 10, 1, 4, 0.25)


def steady(seed=1, *, size=8, threads=16, rate=60, hold=0.05, seconds=120.0, needs=half_idle, **changes):
    requests = recorded(plans(seed, rate, hold, seconds), size=size, threads=threads, needs=needs)
    return trace(requests, max_size=size, min_size=size, threads=threads, **changes)


@pytest.fixture(scope="module")
def recording():
    return steady()


@pytest.fixture(scope="module")
def advice(recording):
    return advise(recording, Goal(budget=SERVER, request_deadline=10.0))


def said(advice, words):
    [sentence] = [sentence for sentence in (*advice.why, *advice.caveats) if words in sentence]
    return sentence


def silent(advice, words):
    return not any(words in sentence for sentence in (*advice.why, *advice.caveats))


@pytest.mark.parametrize("policy", ["request", "query"])
def test_the_size_meets_the_target_in_other_traffic_and_one_less_does_not(advice, policy):
    found = advice[policy]
    other = steady(seed=99, seconds=300.0)
    enough, too_few = simulate(other, [found.max_size, found.max_size - 1], WhatIf(policy=policy, load=1.25)).rows[::-1]
    assert enough.too_long.value <= 0.01 < too_few.too_long.value
    assert enough.timeouts == 0
    assert (found.bound_by, found.provisional) == ("target", False)


def test_giving_back_after_each_query_needs_fewer(advice):
    assert advice["query"].max_size < advice["request"].max_size


@pytest.mark.parametrize("policy", ["request", "query"])
def test_the_prediction_is_that_of_the_recorded_load(recording, advice, policy):
    found = advice[policy]
    [row] = simulate(recording, [found.max_size], WhatIf(policy=policy)).rows
    assert found.predicted.p_wait == row.p_wait.value
    assert found.predicted.wait_p99 == row.wait_p99
    assert found.predicted.interval == pytest.approx((row.p_wait.low, row.p_wait.high), rel=0.1)


def test_the_json_has_the_keys_of_the_schema(advice):
    plain = advice["request"].as_dict()
    assert list(plain) == [
        "max_size", "min_size", "timeout", "bound_by", "provisional", "predicted", "why", "caveats", "settings",
    ]  # fmt: skip
    assert list(plain["predicted"]) == ["p_wait", "wait_p99", "interval"]
    assert advise(trace([]))["query"].as_dict()["predicted"] is None


def test_the_reasons_have_the_numbers(advice):
    found = advice["request"]
    assert f"With {found.max_size} connections a worker" in found.why[1]
    assert "which meets the target of at most 1%" in found.why[1]
    assert f"With {found.max_size - 1} and 1.25 times" in found.why[2]
    assert "not good enough" in found.why[2]
    assert "17 for each worker" in said(found, "The server takes 100 connections")
    assert "Self-test passed: replayed with its own 8 connections" in said(found, "Self-test")
    assert "Erlang's formula" in said(found, "Cross-check")
    assert "which meets the target" in said(found, "Backtest")
    assert "min_size" in said(found, "psycopg_pool does")
    assert "within the deadline" in said(found, "timeout ")
    for sentence in (*found.why, *found.caveats):
        assert re.fullmatch(r"[A-Za-z].*\.", sentence)


def test_the_settings_can_be_pasted(advice):
    databases = {"default": {"ENGINE": "django.db.backends.postgresql"}}
    exec(advice["request"].settings, {"DATABASES": databases})
    found = advice["request"]
    pool = {"min_size": found.min_size, "max_size": found.max_size, "timeout": found.timeout}
    assert databases["default"] == {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {"pool": pool}}
    exec(advice["query"].settings, {"DATABASES": databases})
    assert databases["default"]["ENGINE"] == "pool_doctor.backends.postgresql"
    assert databases["default"]["OPTIONS"]["pool"]["max_size"] == advice["query"].max_size


@pytest.mark.parametrize(
    ("engine", "request_engine", "query_engine"),
    [
        ("django.contrib.gis.db.backends.postgis", None, "pool_doctor.backends.postgis"),
        ("pool_doctor.backends.postgis", "django.contrib.gis.db.backends.postgis", None),
        ("dj_db_conn_pool.backends.postgresql", None, "pool_doctor.backends.dj_db_conn_pool"),
        ("pool_doctor.backends.postgresql", "django.db.backends.postgresql", None),
        ("myproject.backend", None, "pool_doctor.backends.postgresql"),
    ],
)
def test_the_settings_name_the_engine_where_it_changes(engine, request_engine, query_engine):
    found = advise(steady(seconds=20.0, engine=engine, alias="main"))
    for policy, expected in (("request", request_engine), ("query", query_engine)):
        databases = {"main": {}}
        exec(found[policy].settings, {"DATABASES": databases})
        assert databases["main"].get("ENGINE") == expected
        if "conn_pool" in engine:
            assert databases["main"]["POOL_OPTIONS"]["POOL_SIZE"] == found[policy].max_size
            assert found[policy].min_size is None


def test_a_budget_that_is_too_small_says_what_it_can_do(recording):
    found = advise(recording, Goal(budget=Budget(20, 3, 0, 5, 1, 4, 0.0)))["request"]
    assert (found.max_size, found.bound_by) == (3, "budget")
    assert "What it can do with 3 connections a worker: at the recorded load" in said(found, "cannot meet the target")


def test_a_budget_of_nothing_gets_no_pool(recording):
    found = advise(recording, Goal(budget=Budget(20, 3, 0, 15, 1, 4, 0.0)))["request"]
    assert (found.max_size, found.bound_by, found.settings) == (None, "budget", "")
    assert "No pool fits" in found.why[0]


def test_no_data():
    for found in advise(trace([])).values():
        assert found.why[0].startswith("No checkout was recorded")
        assert (found.max_size, found.provisional, found.predicted) == (None, True, None)


def test_no_checkout_that_succeeded():
    failed = TracedRequest("a", 1, 0.0, 30.0, (Checkout(0.0, 30.0, 0.0, (), "timeout"),))
    assert advise(trace([failed]))["request"].why[0].startswith("No recorded checkout got a connection")


def test_little_data_is_a_guess():
    found = advise(steady(seconds=3.0))["request"]
    assert found.provisional
    assert "this is a guess" in said(found, "Little was recorded")
    assert silent(advise(steady())["request"], "Little was recorded")


def test_a_saturated_pool_gives_a_lower_bound_and_one_step_up():
    found = advise(steady(size=3, rate=70, threads=24))["request"]
    assert (found.bound_by, found.provisional) == ("saturation", True)
    assert found.max_size >= 5
    sentence = said(found, "lower bound")
    assert "saturated" in sentence
    assert f"one step up to {found.max_size} and record again" in sentence


def test_timeouts_mean_saturation(recording):
    gave_up = TracedRequest("GET shop/", 0, 60.0, 90.0, (Checkout(60.0, 30.0, 0.0, (), "timeout"),))
    found = advise(trace([*recording.requests, gave_up], threads=16))["request"]
    assert "1 checkout gave up waiting" in said(found, "saturated")


def test_waits_that_the_replay_cannot_explain_refuse_the_advice(recording):
    haunted = [
        request._replace(
            end=request.end + 0.2, checkouts=tuple(checkout._replace(wait=0.2) for checkout in request.checkouts)
        )
        for request in recording.requests
    ]
    for found in advise(trace(haunted, threads=None)).values():
        assert found.max_size is None
        assert found.why[0].startswith("No advice, because the self-test failed: replayed with its own 8 connections")
        assert "100%" in found.why[0]
        assert "go one step up to 12 and record again" in found.caveats[0]


def test_the_self_test_knows_that_a_pool_grows():
    from pool_doctor.analysis.growth import PoolRules, replay_growth
    from pool_doctor.analysis.replay import Request, Traffic

    planned = list(plans(5, 40, 0.05, 2.5))
    traffic = Traffic([Request(start, ((gap, hold),), tail) for start, gap, hold, tail in planned])
    grown = replay_growth(traffic, PoolRules(1, 20, 0.5))
    waits = dict(zip(grown.asked_at, grown.waits, strict=True))
    requests = [
        TracedRequest("a", 1, start, start + gap + waits[start + gap] + hold + tail,
                      (Checkout(start + gap, waits[start + gap], hold),))
        for start, gap, hold, tail in planned
    ]  # fmt: skip
    growing = {"max_size": 20, "connect_time": 0.5, "threads": None}
    assert advise(trace(requests, min_size=1, **growing))["request"].max_size is not None
    assert advise(trace(requests, min_size=20, **growing))["request"].max_size is None


def test_one_thread_needs_one_connection():
    found = advise(steady(size=4, threads=1, rate=8))["request"]
    assert (found.max_size, found.min_size, found.bound_by) == (1, 1, "threads")
    assert "one thread never uses more than one connection" in said(found, "one thread never")


def test_threads_limit_the_size():
    found = advise(steady(size=8, threads=4, rate=40))["request"]
    assert (found.max_size, found.bound_by) == (4, "threads")
    assert "with 4 threads, a worker can never use more than 4 connections" in said(found, "Threads set the limit")


def test_threads_as_the_bottleneck_by_the_servers_queue():
    found = advise(steady(size=8, threads=2, rate=34))["request"]
    assert "still wait for one of the 2 threads" in said(found, "Threads are the bottleneck")


def test_threads_as_the_bottleneck_without_the_servers_queue():
    busy = steady(size=8, threads=2, rate=34)
    found = advise(trace([request._replace(queued=None) for request in busy.requests], threads=2))["request"]
    assert re.search("all 2 threads of a worker were busy [0-9]+% of the time", said(found, "Threads are the"))


def test_unlimited_threads():
    found = advise(trace(steady().requests, threads=None))["request"]
    assert "unlimited or not known (as under ASGI)" in said(found, "How many requests can run at once")


def test_work_that_is_all_in_transactions():
    found = advise(steady(needs=lambda hold: ((0.0, hold),)))
    assert "frees next to nothing" in said(found["query"], "Nearly all work is in transactions")
    assert silent(found["request"], "Nearly all work is in transactions")
    assert silent(advise(steady())["query"], "Nearly all work is in transactions")


def test_one_long_report_that_dominates():
    shop = list(plans(1, 20, 0.02, 300.0))
    report = [(start, 0.0, 20.0, 0.0) for start in range(5, 280, 25)]
    long_ones = {index for index, plan in enumerate(sorted(shop + report)) if plan[2] == 20.0}
    requests = recorded(
        shop + report, size=8, threads=8,
        scope=lambda index: "GET report/" if index in long_ones else "GET shop/",
    )  # fmt: skip
    found = advise(trace(requests))["request"]
    assert "20 s a run" in said(found, "GET report/ holds connections")


def test_queries_that_get_slower_together():
    rng = random.Random(4)
    requests, ends = [], []
    moment = 0.0
    for _ in range(3000):
        moment += rng.expovariate(75)
        ends = [end for end in ends if end > moment]
        hold = 0.01 * (1 + len(ends)) * rng.uniform(0.9, 1.1)
        ends.append(moment + hold)
        requests.append(TracedRequest("a", 1, moment, moment + hold, (Checkout(moment, 0.0, hold, ((moment, hold),)),)))
    found = advise(trace(requests, max_size=20, threads=20))["request"]
    assert "the database (or the CPU) is the bottleneck" in said(found, "Queries take")
    assert silent(advise(steady())["request"], "Queries take")


def test_a_pooler_in_between():
    assert "its own limits" in said(advise(steady(pooler=True))["request"], "A pooler stands between")


def test_a_request_that_holds_several_at_once():
    twice = [
        TracedRequest(
            "GET twice/", 1, start, start + 0.02, (Checkout(start, 0.0, 0.02), Checkout(start + 0.001, 0.0, 0.01))
        )
        for start in range(600)
    ]
    found = advise(trace(twice, end=600.0))["request"]
    assert (found.max_size, found.bound_by) == (2, "request")
    assert "Only 9 or more rule a deadlock out" in said(found, "GET twice/ holds 2 connections at once")
    squeezed = advise(trace(twice, end=600.0), Goal(budget=Budget(4, 0, 0, 0, 1, 4, 0)))["request"]
    assert squeezed.max_size == 2
    assert "can give each worker only 1" in said(squeezed, "One request needs 2 connections at once")


def test_a_recording_without_a_pool_cannot_be_tested_against():
    found = advise(trace(steady().requests, policy="persistent", max_size=None))
    assert found["request"].provisional
    assert "no waits to test the replay against" in said(found["request"], "without a pool")
    assert silent(found["request"], "Self-test")
    assert '["CONN_MAX_AGE"] = 0' in found["request"].settings


def test_a_busier_day_than_the_recording():
    found = advise(steady(minutes=(MinutePeak(-3600.0, 8),), size=12, rate=20))["request"]
    assert "ask again with a recording of the busiest time" in said(found, "The busiest minute of the last day had 8")


def test_traffic_that_changes_fails_the_backtest():
    calm, storm = plans(1, 20, 0.05, 100.0), ((start + 100.0, *rest) for start, *rest in plans(2, 80, 0.05, 100.0))
    found = advise(trace(recorded([*calm, *storm], size=16, threads=24), max_size=16, threads=24))["request"]
    assert found.provisional
    assert "misses the target: the traffic changed" in said(found, "Backtest")


def test_a_deadline_that_leaves_no_time_to_wait(recording):
    found = advise(recording, Goal(request_deadline=0.1, budget=Budget(20, 3, 0, 5, 1, 4, 0.0)))["request"]
    assert found.provisional
    assert "leaves less than the longest wait" in said(found, "No timeout fits the deadline")


def test_a_deadline_that_shortens_the_timeout(recording):
    found = advise(recording, Goal(request_deadline=0.8))["request"]
    assert found.timeout == 0.5
    assert "what the deadline leaves" in said(found, "timeout 0.5 s")


def test_slow_connecting_keeps_more_open():
    quick, slow = (advise(steady(seconds=60.0, connect_time=time))["request"] for time in (0.001, 2.0))
    assert quick.min_size < slow.min_size
    assert slow.min_size <= slow.max_size
    assert slow.timeout >= 4
    assert "twice the longest wait" in said(slow, "timeout ")


def test_headroom_makes_room(recording):
    tight = advise(recording, Goal(headroom=1.0))["request"].max_size
    assert tight < advise(recording, Goal(headroom=2.0))["request"].max_size


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"target_wait": -1}, "^target_wait must be a number of seconds, 0 or more, not -1"),
        ({"target_share": 99}, "^target_share must be a share between 0 and 1, not 99"),
        ({"target_share": 1}, "^target_share must be between 0 and 1, neither of them included, not 1"),
        ({"request_deadline": 0}, "^request_deadline must be a number of seconds, greater than 0"),
        ({"headroom": 0.5}, "^headroom must be 1 or more, not 0.5"),
        ({"checkout_cost": "x"}, "^checkout_cost must be a number of seconds"),
    ],
)
def test_a_goal_that_cannot_be_gets_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        Goal(**changes)
