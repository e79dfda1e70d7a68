"""The replay against known answers, against a slow and obvious replay, and against theory."""

from __future__ import annotations

import math
import random
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_doctor.analysis.queueing import ErlangC, FiniteSource
from pool_doctor.analysis.replay import Request, Traffic, replay

MILLISECONDS = st.integers(0, 40)
STEPS = st.lists(st.tuples(MILLISECONDS, MILLISECONDS), max_size=3).map(tuple)
REQUESTS = st.lists(st.builds(Request, st.integers(0, 100), STEPS, MILLISECONDS), max_size=25)
OPEN = st.lists(
    st.builds(lambda at, hold: Request(at, ((0, hold),), 0), st.integers(0, 100), MILLISECONDS), max_size=40
)
SIZES = st.integers(1, 6)


def single(arrivals, holds):
    return [Request(arrival, ((0, hold),), 0) for arrival, hold in zip(arrivals, holds, strict=True)]


class SlowReplay:
    """Tick by tick with whole numbers, as one would do it on paper."""

    def __init__(self, requests, max_size, threads=None):
        self.connections = max_size
        self.threads = len(requests) if threads is None else threads
        self.queue = deque()
        self.waits = []
        self.now = 0
        arrivals = deque(sorted(range(len(requests)), key=lambda index: requests[index].start))
        alive = {}  # request -> (until when it does what it does, how it goes on)
        while arrivals or alive or self.queue:
            # What ends at this moment makes room, then requests begin, then one of them asks; until nothing happens.
            going = sorted(
                (what == "gap", index)
                for index, (until, what, _) in alive.items()
                if until is not None and until <= self.now
            )
            if going and not going[0][0]:
                self.proceed(alive, going[0][1])
            elif arrivals and self.threads and requests[arrivals[0]].start <= self.now:
                index = arrivals.popleft()
                self.threads -= 1
                alive[index] = (self.now, "begin", self.life(requests[index], index, alive))
            elif going:
                self.proceed(alive, going[0][1])
            else:
                self.now += 1

    def proceed(self, alive, index):
        life = alive[index][2]
        step = next(life, None)
        if step is None:
            del alive[index]
        else:
            alive[index] = (*step, life)

    def life(self, request, index, alive):
        for gap, hold in request.steps:
            yield self.now + gap, "gap"
            asked, place = self.now, len(self.waits)
            self.waits.append(None)
            if self.connections:
                self.connections -= 1
            else:
                self.queue.append(index)
                yield None, "queues"
            self.waits[place] = self.now - asked
            yield self.now + hold, "hold"
            if self.queue:
                following = self.queue.popleft()
                alive[following] = (self.now, "granted", alive[following][2])
            else:
                self.connections += 1
        yield self.now + request.tail, "tail"
        self.threads += 1


def slow_replay(requests, max_size, threads=None):
    return SlowReplay(requests, max_size, threads).waits


def test_the_known_answers_exactly(oracles):
    for known in oracles["replay"]:
        result = replay(single(known["arrivals"], known["holds"]), known["max_size"])
        assert result.waits == known["waits"]


@given(REQUESTS, SIZES, st.none() | st.integers(1, 5))
def test_a_slow_and_obvious_replay_agrees(requests, size, threads):
    assert sorted(replay(requests, size, threads).waits) == sorted(slow_replay(requests, size, threads))


@given(OPEN, SIZES)
def test_a_slow_and_obvious_replay_agrees_on_each_checkout(requests, size):
    assert replay(requests, size).waits == slow_replay(requests, size)


@given(OPEN, SIZES)
def test_another_connection_never_makes_anyone_wait_longer(requests, size):
    few, many = replay(requests, size).waits, replay(requests, size + 1).waits
    assert all(more <= less for less, more in zip(few, many, strict=True))


@given(OPEN, SIZES)
def test_who_asks_first_is_served_first(requests, size):
    result = replay(requests, size)
    served = [asked + wait for asked, wait in zip(result.asked_at, result.waits, strict=True)]
    assert result.asked_at == sorted(result.asked_at)
    assert served == sorted(served)


@given(REQUESTS, SIZES, st.none() | st.integers(1, 5))
def test_hold_time_is_conserved_and_every_checkout_is_answered(requests, size, threads):
    result = replay(requests, size, threads)
    assert result.busy == sum(hold for request in requests for _, hold in request.steps)
    assert len(result.waits) == sum(len(request.steps) for request in requests)
    assert len(result.thread_waits) == (0 if threads is None else len(requests))
    assert min(result.waits, default=0) >= 0
    assert min(result.thread_waits, default=0) >= 0


@given(OPEN, SIZES, st.integers(1, 5))
def test_no_more_checkouts_are_in_flight_than_there_are_threads(requests, size, threads):
    requests = sorted(requests)
    result = replay(requests, size, threads)
    released = [
        asked + wait + request.steps[0][1]
        for asked, wait, request in zip(result.asked_at, result.waits, requests, strict=True)
    ]
    for position, asked in enumerate(result.asked_at):
        assert sum(end > asked for end in released[:position]) < threads


@given(REQUESTS, SIZES)
def test_threads_for_all_are_as_good_as_no_limit(requests, size):
    free, limited = replay(requests, size), replay(requests, size, max(1, len(requests)))
    assert free.waits == limited.waits
    assert set(limited.thread_waits) <= {0}


@given(REQUESTS, st.integers(1, 5))
def test_with_a_connection_for_each_thread_nobody_waits_for_a_connection(requests, threads):
    assert set(replay(requests, threads, threads).waits) <= {0}


def test_a_request_waits_for_a_thread_before_it_asks():
    requests = [Request(0, ((1, 4),), 5), Request(2, ((1, 1),), 0)]
    assert replay(requests, 1).waits == [0, 2]
    limited = replay(requests, 1, threads=1)
    assert limited.waits == [0, 0]
    assert limited.thread_waits == [0, 8]
    assert limited.asked_at == [1, 11]


def test_a_delayed_checkout_delays_the_next_one_of_its_request():
    requests = [Request(0, ((0, 10),), 0), Request(4, ((0, 1), (5, 1)), 0)]
    result = replay(requests, 1)
    assert result.asked_at == [0, 4, 16]
    assert result.waits == [0, 6, 0]


def test_requests_without_a_checkout_occupy_their_thread():
    requests = [Request(0, (), 10), Request(1, ((0, 1),), 0)]
    assert replay(requests, 1, threads=1).thread_waits == [0, 9]


def test_background_work_needs_no_thread():
    requests = [Request(0, ((0, 10),), 0), Request(1, ((0, 10), (1, 2)), 0), Request(2, ((0, 1),), 0)]
    result = Traffic(requests, threadless={1}).replay(1, threads=1)
    assert result.asked_at == [0, 1, 10, 21]
    assert result.waits == [0, 9, 10, 0]
    assert result.thread_waits == [0, 8]


def test_background_work_frees_no_thread_when_it_ends():
    requests = [Request(0, ((0, 10),), 0), Request(0, ((0, 1),), 0), Request(2, ((0, 1),), 0)]
    assert Traffic(requests, threadless={1}).replay(2, threads=1).thread_waits == [0, 8]


def test_the_order_given_breaks_ties():
    late_first = [Request(5, ((0, 3),), 0), Request(0, ((5, 4),), 0), Request(0, ((0, 6),), 0)]
    assert replay(late_first, 1).waits == [0, 1, 4]


def test_who_gives_up_takes_no_connection():
    requests = single([0, 1, 2, 3], [10, 5, 5, 5])
    result = replay(requests, 1, timeout=8.5)
    assert result.waits == [0, 8.5, 8, 8.5]
    assert result.timeouts == 2
    assert result.busy == 15


def test_who_gives_up_ends_its_request():
    requests = [Request(0, ((0, 10),), 0), Request(1, ((0, 1), (0, 1)), 100), Request(2, ((0, 1),), 0)]
    result = replay(requests, 1, threads=2, timeout=3)
    assert result.waits == [0, 3, 3]
    assert result.thread_waits == [0, 0, 2]


def test_quantiles_are_order_statistics_with_zeros_included():
    result = replay(single([0] * 10, [0.05] * 10), 2)
    assert result.p_wait == 0.8
    assert result.wait_quantile(0) == 0
    assert result.wait_quantile(0.2) == 0
    assert result.wait_quantile(0.21) == 0.05
    assert result.wait_quantile(0.8) == pytest.approx(0.15)
    assert result.wait_quantile(1) == 0.2
    assert replay([], 1).p_wait == replay([], 1).wait_quantile(0.99) == 0


def test_rounding_errors_are_no_waits():
    result = replay([Request(0, ((0.1, 0.2),)), Request(0, ((0.3, 0.1),))], 1)
    assert result.waits[1] > 0
    assert result.p_wait == 0


def exponential(rng, rate, number):
    moment = 0.0
    for _ in range(number):
        moment += rng.expovariate(rate)
        yield moment


@pytest.mark.parametrize(("rate", "service", "servers"), [(9, 0.1, 2), (40, 0.05, 3), (100, 0.08, 10)])
def test_random_arrivals_and_exponential_holds_are_erlangs_queue(rate, service, servers):
    rng = random.Random(rate)
    requests = [Request(at, ((0, rng.expovariate(1 / service)),)) for at in exponential(rng, rate, 200_000)]
    result, theory = replay(requests, servers), ErlangC(rate, service, servers)
    assert result.p_wait == pytest.approx(theory.p_wait, abs=0.015)
    assert sum(result.waits) / len(result.waits) == pytest.approx(theory.mean_wait, rel=0.06)
    assert result.wait_quantile(0.95) == pytest.approx(theory.wait_quantile(0.95), rel=0.08)
    assert result.wait_quantile(0.99) == pytest.approx(theory.wait_quantile(0.99), rel=0.10)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_equal_holds_wait_half_as_long(load):
    # M/D/1 by Pollaczek and Khinchine: half the mean wait of M/M/1.
    rng = random.Random(5)
    requests = [Request(at, ((0, 0.1),)) for at in exponential(rng, load * 10, 200_000)]
    result = replay(requests, 1)
    assert result.p_wait == pytest.approx(load, abs=0.01)
    assert sum(result.waits) / len(result.waits) == pytest.approx(0.1 * load / (2 * (1 - load)), rel=0.05)


def test_equal_holds_and_many_servers_agree_with_the_tables():
    # The mean wait of M/D/c against that of M/M/c, by Cosmetatos (1975), which is within 1 % of the tables here.
    servers, use = 4, 0.8
    rng = random.Random(6)
    requests = [Request(at, ((0, 1.0),)) for at in exponential(rng, servers * use, 300_000)]
    result = replay(requests, servers)
    exponential_holds = ErlangC(servers * use, 1.0, servers).mean_wait
    spread = (1 - use) * (servers - 1) * (math.sqrt(4 + 5 * servers) - 2) / (16 * use * servers)
    assert sum(result.waits) / len(result.waits) == pytest.approx(exponential_holds * (1 + spread) / 2, rel=0.05)


@pytest.mark.parametrize(
    ("population", "servers", "service", "think"), [(4, 2, 0.05, 0.15), (8, 4, 0.02, 0.06), (6, 1, 0.01, 0.1)]
)
def test_threads_that_think_are_the_finite_source_queue(population, servers, service, think):
    rng = random.Random(population)
    rounds = 40_000
    requests = [
        Request(0, tuple((rng.expovariate(1 / think), rng.expovariate(1 / service)) for _ in range(rounds)))
        for _ in range(population)
    ]
    result = replay(requests, servers)
    theory = FiniteSource(population, servers, service, think)
    assert result.p_wait == pytest.approx(theory.p_wait, abs=0.01)
    assert sum(result.waits) / len(result.waits) == pytest.approx(theory.mean_wait, rel=0.05)
    assert result.wait_quantile(0.99) == pytest.approx(theory.wait_quantile(0.99), rel=0.08)
    assert len(result.waits) / result.asked_at[-1] == pytest.approx(theory.throughput, rel=0.02)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([], 0), r"^max_size must be a whole number of at least 1, not 0\.$"),
        (([], 1, 0), "^threads must be a whole number of at least 1, not 0"),
        (([Request(0, ((0, -1),))], 1), "^Request 0 cannot be replayed: start must be finite, .* 0 or more"),
        (([Request(0, ()), Request(0, ((-1, 1),))], 1), "^Request 1 cannot be replayed"),
        (([Request(math.nan, ())], 1), "^Request 0 cannot be replayed"),
        (([Request(0, ((0, math.inf),))], 1), "^Request 0 cannot be replayed"),
        (([Request(0, (), -1)], 1), "^Request 0 cannot be replayed"),
    ],
)
def test_a_number_that_cannot_be_gets_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        replay(*arguments)


def test_a_timeout_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^timeout must be a number of seconds, greater than 0, not 0"):
        replay([], 1, timeout=0)
