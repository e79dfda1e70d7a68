"""The traffic in numbers, against traffic whose numbers are known."""

from __future__ import annotations

import pytest

from pool_doctor.analysis.demand import demand, dispersion, levels, minute_peaks
from pool_doctor.analysis.trace import Checkout, MinutePeak, TracedRequest

from .traffic import plans, recorded, trace


def held(start, hold, process=1, scope="a", queued=None):
    return TracedRequest(scope, process, start, start + hold, (Checkout(start, 0.0, hold),), queued)


def test_levels_add_up_to_the_time():
    found = levels([(1, 4), (2, 3), (3, 6), (-5, 1), (9, 50)], 0, 10)
    assert found.seconds == [3, 5, 2]
    assert found.mean == pytest.approx(0.9)
    assert found.peak == 2
    assert [found.quantile(p) for p in (0, 0.3, 0.31, 0.8, 0.81, 1)] == [0, 0, 1, 1, 2, 2]


def test_what_ends_makes_room_for_what_begins():
    assert levels([(0, 1), (1, 2), (2, 3)], 0, 3).peak == 1


def test_levels_without_spans_or_time():
    assert levels([], 0, 10).seconds == [10]
    assert levels([], 5, 5).mean == 0


def test_littles_law_holds():
    found = demand(trace(recorded(plans(1, 50, 0.05, 100.0), size=8, threads=8), end=100.0))
    assert found.busy_mean == pytest.approx(found.levels.mean, rel=0.001)
    assert found.busy_mean == pytest.approx(found.rate * 0.05, rel=0.05)
    assert found.rate == pytest.approx(50, rel=0.05)


def test_arrivals_at_random_have_a_dispersion_of_one_and_bursts_more():
    random_ones = [start for start, *_ in plans(2, 30, 0.1, 2000.0)]
    bursts = [start for start, *_ in plans(2, 3, 0.1, 2000.0, burst=10)]
    assert dispersion(random_ones, 0, 2000) == pytest.approx(1, abs=0.15)
    assert dispersion(bursts, 0, 2000) == pytest.approx(10, rel=0.15)
    assert dispersion(list(range(1000)), 0, 1000) == 0
    assert dispersion([1, 2], 0, 5) is None
    assert dispersion([], 0, 100) is None


def test_connections_held_at_once_and_by_whom():
    both = TracedRequest("greedy", 1, 0.0, 9.0, (Checkout(1.0, 0.0, 5.0), Checkout(2.0, 0.0, 5.0)))
    found = demand(trace([held(0, 1), both, held(5, 1)]))
    assert (found.held_at_once, found.held_at_once_by) == (2, "greedy")
    assert (found.requests, found.checkouts, found.timeouts) == (3, 4, 0)


def test_waits_for_a_thread_are_a_share_of_the_requests_that_tell():
    found = demand(trace([held(0, 1, queued=0.5), held(1, 1, queued=0.0), held(2, 1)]))
    assert found.thread_waits == 0.5
    assert demand(trace([held(0, 1)])).thread_waits is None


def test_a_trace_of_nothing():
    found = demand(trace([]))
    assert (found.checkouts, found.rate, found.busy_mean, found.held_at_once) == (0, 0, 0, 0)
    assert found.levels.peak == 0


def test_peaks_by_minute_are_those_of_the_busiest_process():
    requests = [held(10, 5), held(12, 5), held(13, 1, process=2), held(70, 130), held(75, 1)]
    known = (MinutePeak(-60.0, 9), MinutePeak(0.0, 1))
    assert minute_peaks(trace(requests, minutes=known)) == [(-60, 9), (0, 2), (60, 2), (120, 1), (180, 1)]
