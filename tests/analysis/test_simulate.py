"""What if: each question changes what it should, and the rows are those of the replay."""

from __future__ import annotations

import pytest

from pool_doctor.analysis.estimate import Estimate
from pool_doctor.analysis.replay import Request, replay
from pool_doctor.analysis.simulate import WhatIf, simulate
from pool_doctor.analysis.trace import Checkout, TracedRequest

from .traffic import half_idle, plans, recorded, trace


@pytest.fixture(scope="module")
def busy():
    return trace(recorded(plans(3, 60, 0.05, 120.0), size=8, threads=8, needs=half_idle))


def test_rows_are_those_of_the_replay(busy):
    [row] = simulate(busy, [4], WhatIf()).rows
    requests = [
        Request(request.start - (request.queued or 0), ((checkout.start - request.start, checkout.hold),), 0.001)
        for request in busy.requests
        for checkout in request.checkouts
    ]
    known = replay(requests, 4, threads=8)
    assert row.p_wait.value == pytest.approx(known.p_wait, abs=0.001)
    assert row.wait_mean == pytest.approx(sum(known.waits) / len(known.waits), rel=0.01)
    for p, found in ((0.5, row.wait_p50), (0.95, row.wait_p95), (0.99, row.wait_p99), (1, row.wait_max)):
        assert found == pytest.approx(known.wait_quantile(p), rel=0.01)
    assert row.utilisation == pytest.approx(known.busy / 4 / busy.seconds, rel=0.01)
    assert row.p_wait.low < row.p_wait.value < row.p_wait.high
    assert row.too_long.value < row.p_wait.value


def test_more_connections_wait_less_until_nobody_waits(busy):
    rows = simulate(busy, range(1, 13), WhatIf()).rows
    assert [row.max_size for row in rows] == list(range(1, 13))
    assert [row.p_wait.value for row in rows] == sorted((row.p_wait.value for row in rows), reverse=True)
    assert rows[7].wait_max == 0
    assert rows[11].utilisation == pytest.approx(rows[7].utilisation * 8 / 12)
    assert {len(row.as_dict()) for row in rows} == {14}


def test_giving_back_after_each_query_takes_fewer_connections(busy):
    request = simulate(busy, range(1, 9), WhatIf(policy="request"))
    query = simulate(busy, range(1, 9), WhatIf(policy="query"))
    assert query.rows[2].p_wait.value < 0.1 < request.rows[2].p_wait.value
    assert query.rows[0].checkouts == 2 * request.rows[0].checkouts
    assert query.knee < request.knee


def test_load_threads_workers_and_timeout_do_what_they_say(busy):
    def waits(**changes):
        [row] = simulate(busy, [4], WhatIf(**changes)).rows
        return row

    assert waits(load=1.5).p_wait.value > waits().p_wait.value + 0.1
    assert waits(load=1.2).utilisation == pytest.approx(1.2 * waits().utilisation, rel=0.05)
    assert waits(threads=4).wait_max == 0
    assert waits(threads=4).thread_waits > waits().thread_waits
    assert waits(workers=2).p_wait.value < waits().p_wait.value / 2
    assert waits().timeouts == 0
    assert waits(timeout=0.01).timeouts > 0
    assert waits(timeout=0.01).wait_max == 0.01


def test_the_target_moves_what_counts_as_too_long(busy):
    [strict] = simulate(busy, [4], WhatIf(target_wait=0.001)).rows
    [lenient] = simulate(busy, [4], WhatIf(target_wait=0.05)).rows
    assert strict.too_long.value > lenient.too_long.value
    assert strict.p_wait.value == lenient.p_wait.value


def test_progress_is_told_after_each_size(busy):
    told = []
    simulate(busy, [3, 1, 3], WhatIf(), lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_the_knee_is_where_more_connections_stop_helping(busy):
    simulation = simulate(busy, range(1, 17), WhatIf())
    waits = {row.max_size: row.wait_mean for row in simulation.rows}
    assert 2 <= simulation.knee <= 6
    assert waits[simulation.knee] < 0.1 * waits[1]
    assert simulate(busy, [8, 9], WhatIf()).knee == 8
    assert simulate(busy, [], WhatIf()).knee is None


def test_a_trace_of_nothing_has_rows_of_zeros():
    [row] = simulate(trace([]), [1], WhatIf()).rows
    assert (row.checkouts, row.wait_p99, row.utilisation, row.thread_waits) == (0, 0, 0, 0)
    assert row.p_wait == Estimate(0.0, 0.0, 1.0, 1.0, 1)


def test_a_trace_of_one_moment_can_be_replayed():
    moment = TracedRequest("a", 1, 0.0, 0.0, (Checkout(0.0, 0.0, 0.0),))
    [row] = simulate(trace([moment], end=0.0), [1], WhatIf()).rows
    assert (row.checkouts, row.utilisation) == (1, 0)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": "never"}, r"^policy must be one of request, query, not 'never'\.$"),
        ({"load": 0}, "^load must be a number of times the recorded load, greater than 0, not 0"),
        ({"threads": 0}, "^threads must be a whole number"),
        ({"workers": 0}, "^workers must be a whole number"),
        ({"timeout": 0}, "^timeout must be a number of seconds, greater than 0"),
        ({"target_wait": -1}, "^target_wait must be"),
        ({"checkout_cost": -1}, "^checkout_cost must be"),
    ],
)
def test_a_question_that_makes_no_sense_gets_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        WhatIf(**changes)


def test_a_size_that_cannot_be_gets_one_sentence(busy):
    with pytest.raises(ValueError, match=r"^max_size must be a whole number of at least 1, not 0\.$"):
        simulate(busy, [1, 0], WhatIf())
