"""What a recording would have asked of its pools under another policy, load, or number of workers."""

from __future__ import annotations

from itertools import pairwise

import pytest

from pool_doctor.analysis.counterfactual import held_at_once, scenario
from pool_doctor.analysis.trace import Checkout, TracedRequest

from .traffic import trace

# Asked for at 1 after a wait of 2 s for a thread, got at 2, needed twice, held to 10; the request ends at 11.
HELD = TracedRequest("a", 1, 0.5, 11.0, (Checkout(1.0, 1.0, 8.0, ((2.5, 1.0), (6.0, 2.0))),), 2.0)
# Two short checkouts, as the releasing engine makes them; the second one waits.
RELEASED = TracedRequest("a", 1, 0.0, 12.0, (Checkout(1.0, 0.0, 2.0), Checkout(5.0, 3.0, 1.0)))


def rebuilt(requests, policy, recorded="request", **options):
    [traffic] = scenario(trace(requests, policy=recorded, end=20.0), policy, **options).workers
    steps = list(zip(traffic.gaps, traffic.holds, strict=True))
    return [
        (start, steps[first:last], tail)
        for start, (first, last), tail in zip(traffic.starts, pairwise(traffic.firsts), traffic.tails, strict=True)
    ]


def test_policy_request_keeps_the_recorded_hold():
    assert rebuilt([HELD], "request") == [(-1.5, [(0.5, 8.0)], 1.0)]


def test_policy_query_holds_for_what_was_needed_and_for_its_own_cost():
    assert rebuilt([HELD], "query", checkout_cost=0.25) == [(-1.5, [(1.0, 1.25), (2.5, 2.25)], 3.0)]


def test_a_recording_of_the_releasing_engine_stays_as_it_is():
    assert rebuilt([RELEASED], "query", "query", checkout_cost=0.25) == [(0.0, [(1.0, 2.0), (2.0, 1.0)], 3.0)]


def test_under_policy_request_it_would_hold_throughout_and_wait_once():
    assert rebuilt([RELEASED], "request", "query") == [(0.0, [(1.0, 8.0)], 0.0)]


def test_a_connection_that_was_never_needed_is_taken_for_a_moment():
    unused = TracedRequest("a", 1, 0.0, 5.0, (Checkout(1.0, 0.0, 3.0),))
    assert rebuilt([unused], "query", checkout_cost=0.5) == [(0.0, [(1.0, 0.5)], 4.0)]


def test_requests_without_a_checkout_keep_their_thread():
    assert rebuilt([TracedRequest("a", 1, 1.0, 5.0, ())], "request") == [(1.0, [], 4.0)]


def test_failed_connects_are_left_out():
    failed = TracedRequest("a", 1, 1.0, 5.0, (Checkout(2.0, 1.0, 0.0, (), "error"),))
    assert rebuilt([failed], "request") == [(1.0, [], 4.0)]


def test_who_gave_up_would_have_held_like_others_of_its_scope():
    gave_up = TracedRequest("a", 1, 0.0, 30.0, (Checkout(0.0, 30.0, 0.0, (), "timeout"),))
    other = TracedRequest("b", 1, 0.0, 2.0, (Checkout(0.0, 0.0, 2.0, ((0.0, 1.0),)),))
    same = TracedRequest("a", 1, 0.0, 6.0, (Checkout(0.0, 0.0, 6.0, ((0.0, 4.0),)),))
    assert rebuilt([gave_up, other, same], "request")[0] == (0.0, [(0.0, 6.0)], 0.0)
    assert rebuilt([gave_up, other, same], "query")[0] == (0.0, [(0.0, 4.0)], 0.0)
    assert rebuilt([gave_up, other], "request")[0] == (0.0, [(0.0, 2.0)], 0.0)
    assert rebuilt([gave_up], "request")[0] == (0.0, [(0.0, 0.0)], 0.0)


def test_connections_held_at_once_ask_side_by_side():
    both = TracedRequest("a", 1, 0.0, 9.0, (Checkout(1.0, 0.0, 5.0), Checkout(2.0, 0.0, 2.0), Checkout(7.0, 0.0, 1.0)))
    assert held_at_once(both) == 2
    assert held_at_once(HELD) == 1
    assert rebuilt([both], "request") == [(0.0, [(1.0, 5.0), (1.0, 1.0)], 1.0), (2.0, [(0.0, 2.0)], 0.0)]
    [traffic] = scenario(trace([both]), "request").workers
    assert traffic.threadless == {1}


def test_background_work_takes_no_thread():
    [traffic] = scenario(trace([HELD, HELD._replace(threaded=False)]), "request").workers
    assert traffic.threadless == {1}


def test_load_brings_arrivals_together_and_leaves_requests_alone():
    late = HELD._replace(start=10.5, end=21.0, queued=None)
    assert rebuilt([late], "request", load=2.0)[0][0] == 5.25
    dense = scenario(trace([late], end=20.0), "request", load=2.0)
    assert dense.seconds == 10.0
    assert list(dense.workers[0].holds) == [8.0]


def test_workers_keep_their_requests_or_share_all_of_them():
    requests = [HELD._replace(process=process) for process in (7, 7, 9)] * 100
    assert [len(worker) for worker in scenario(trace(requests), "request").workers] == [200, 100]
    dealt = [len(worker) for worker in scenario(trace(requests), "request", workers=3).workers]
    assert sum(dealt) == 300
    assert dealt == pytest.approx([100] * 3, abs=30)
    assert dealt == [len(worker) for worker in scenario(trace(requests), "request", workers=3).workers]
