"""The growing pool against the plain replay, on paper, and against psycopg_pool itself."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool

from pool_doctor.analysis.growth import PoolRules, replay_growth
from pool_doctor.analysis.replay import Request, Traffic

from .test_replay import REQUESTS, SIZES


@given(REQUESTS, SIZES, st.none() | st.integers(1, 4), st.sampled_from([math.inf, 7.5]), st.sets(st.integers(0, 24)))
def test_a_pool_that_opens_at_once_is_the_plain_pool(requests, size, threads, timeout, threadless):
    traffic = Traffic(requests, threadless & set(range(len(requests))))
    plain = traffic.replay(size, threads, timeout)
    grown = replay_growth(traffic, PoolRules(size, size, 0.0, timeout), threads)
    assert sorted(grown.waits) == sorted(plain.waits)
    assert sorted(grown.thread_waits) == sorted(plain.thread_waits)
    assert (grown.timeouts, grown.busy) == (plain.timeouts, plain.busy)


def waits(requests, min_size, max_size, **rules):
    return replay_growth(Traffic(requests), PoolRules(min_size, max_size, 10.0, **rules)).waits


def burst(number, hold, at=0.0):
    return [Request(at, ((0, hold),))] * number


def test_connections_are_opened_one_after_the_other():
    assert waits(burst(4, 1000), 1, 4) == [10, 10, 20, 30]


def test_the_first_ones_are_opened_three_at_a_time():
    assert waits(burst(5, 1000), 5, 5) == [10, 10, 10, 20, 20]


def test_a_connection_that_comes_back_first_goes_to_who_waits_longest():
    assert waits([*burst(2, 4), *burst(1, 1, at=1)], 1, 3) == [10, 10, 13]


def test_growth_stops_when_nobody_waits():
    # The second is served by a return at 11; the third, at 100, finds both connections idle.
    assert waits([*burst(2, 1), *burst(3, 500, at=100)], 1, 2) == [10, 10, 0, 0, 500]


def test_an_empty_pool_grows_on_demand():
    assert waits(burst(2, 1000), 0, 2) == [10, 20]


def test_connections_that_are_never_all_used_are_closed():
    alive = [Request(0.0, ((0, 1.0), (15.0, 1.0), *(((30.0, 1.0),) * 20)))]
    grown = replay_growth(
        Traffic([*burst(4, 20), *alive, *burst(4, 20, at=700.0)]), PoolRules(1, 4, 10.0, max_idle=60.0)
    )
    assert grown.waits[:4] == [10, 10, 20, 30]
    late = [wait for asked, wait in zip(grown.asked_at, grown.waits, strict=True) if asked == 700.0]
    assert sum(wait > 0 for wait in late) == 3
    kept = replay_growth(
        Traffic([*burst(4, 20), *alive, *burst(4, 20, at=700.0)]), PoolRules(4, 4, 10.0, max_idle=60.0)
    )
    assert [wait for asked, wait in zip(kept.asked_at, kept.waits, strict=True) if asked == 700.0] == [0] * 4


def test_connections_that_are_all_used_now_and_then_stay_open():
    bursts = [request for start in range(0, 1000, 50) for request in burst(2, 5, at=start)]
    assert sum(wait > 0 for wait in waits(bursts, 1, 2, max_idle=60.0)) == 2


class Connection:
    """As much of a connection as psycopg_pool looks at; opening one waits for permission."""

    permission = threading.Semaphore(0)
    opening = 0

    def __init__(self):
        self.pgconn = self
        self.transaction_status = TransactionStatus.IDLE
        self._pool = None

    @classmethod
    def connect(cls, *args, **kwargs):
        cls.opening += 1
        assert cls.permission.acquire(timeout=10)
        cls.opening -= 1
        return cls()

    def close(self):
        self.transaction_status = TransactionStatus.UNKNOWN


@pytest.fixture
def real_pool():
    Connection.opening, Connection.permission = 0, threading.Semaphore(0)
    with ConnectionPool(connection_class=Connection, min_size=1, max_size=3, open=True) as pool:
        yield pool
        for _ in range(10):
            Connection.permission.release()


def wait_for(condition):
    ready = threading.Event()
    for _ in range(1000):
        if condition():
            return
        ready.wait(0.01)
    pytest.fail("the condition never came true")


def test_psycopg_pool_opens_one_connection_at_a_time_while_somebody_waits(real_pool):
    got = []
    clients = [threading.Thread(target=lambda: got.append(real_pool.getconn(timeout=10))) for _ in range(4)]
    for client in clients:
        client.start()
    wait_for(lambda: real_pool.get_stats()["requests_waiting"] == 4)
    # The first connection and one more to grow are under way, never two to grow.
    wait_for(lambda: Connection.opening == 2)
    assert real_pool.get_stats()["pool_size"] == 2
    for served in (1, 2, 3):
        Connection.permission.release()
        wait_for(lambda: len(got) == served)  # noqa: B023
    wait_for(lambda: Connection.opening == 0)
    assert real_pool.get_stats()["pool_size"] == 3
    real_pool.putconn(got[0])
    for client in clients:
        client.join(10)
    # The same on paper: the first and the second open side by side, the third after them, the fourth gets a return.
    on_paper = replay_growth(Traffic([*burst(1, 50), *burst(3, 500)]), PoolRules(1, 3, 10.0))
    assert on_paper.waits == [10, 10, 20, 60]
