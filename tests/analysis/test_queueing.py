"""Erlang-C and M/M/c//N against known answers, against each other, and at their edges."""

from __future__ import annotations

import math

import pytest

from pool_doctor.analysis.queueing import ErlangC, FiniteSource


def test_erlang_c_agrees_with_the_known_answers(oracles):
    for known in oracles["erlang_c"]:
        queue = ErlangC(known["arrival_rate"], known["service_time"], known["servers"])
        assert queue.p_wait == pytest.approx(known["p_wait"], rel=1e-9)
        assert queue.mean_wait == pytest.approx(known["mean_wait"], rel=1e-9)
        for p, name in ((0.95, "p95"), (0.99, "p99"), (0.999, "p999")):
            assert queue.wait_quantile(p) == pytest.approx(known[name], rel=1e-9)


def test_finite_source_agrees_with_the_known_answers(oracles):
    for known in oracles["finite_source"]:
        queue = FiniteSource(known["population"], known["servers"], known["service_time"], known["think_time"])
        assert queue.throughput == pytest.approx(known["throughput"], rel=1e-9)
        assert queue.p_wait == pytest.approx(known["p_wait"], rel=1e-9)
        assert queue.mean_wait == pytest.approx(known["mean_wait"], rel=1e-9)
        assert queue.wait_quantile(0.95) == pytest.approx(known["p95"], rel=1e-9)
        assert queue.wait_quantile(0.99) == pytest.approx(known["p99"], rel=1e-9)


@pytest.mark.parametrize("servers", [1, 3])
def test_erlang_c_without_room_waits_for_ever(servers):
    for rate in (10 * servers, 11 * servers):
        queue = ErlangC(rate, 0.1, servers)
        assert (queue.p_wait, queue.mean_wait, queue.wait_quantile(0.5)) == (1.0, math.inf, math.inf)
        assert queue.wait_quantile(0) == 0


def test_erlang_c_without_arrivals_has_no_waits():
    queue = ErlangC(0, 0.1, 2)
    assert (queue.p_wait, queue.mean_wait, queue.wait_quantile(0.999)) == (0, 0, 0)


def test_erlang_c_is_stable_for_hundreds_of_servers():
    # One server is the textbook's M/M/1; for many, the square-root rule of Halfin and Whitt (1981) is the witness.
    servers, beta = 900, 1.0
    load = servers - beta * math.sqrt(servers)
    density = math.exp(-(beta**2) / 2) / math.sqrt(2 * math.pi)
    normal = (1 + math.erf(beta / math.sqrt(2))) / 2
    halfin_whitt = 1 / (1 + beta * normal / density)
    assert ErlangC(load, 1.0, servers).p_wait == pytest.approx(halfin_whitt, rel=0.02)
    assert ErlangC(1.0, 1e-6, 900).p_wait == pytest.approx(0, abs=1e-300)


def test_finite_source_approaches_erlang_c_for_many_threads():
    endless = ErlangC(40, 0.05, 3)
    crowd = FiniteSource(5000, 3, 0.05, 5000 / 40 - 0.05)
    assert crowd.p_wait == pytest.approx(endless.p_wait, rel=0.01)
    assert crowd.mean_wait == pytest.approx(endless.mean_wait, rel=0.01)
    assert crowd.wait_quantile(0.99) == pytest.approx(endless.wait_quantile(0.99), rel=0.01)


def test_finite_source_with_a_connection_for_each_thread_never_waits():
    queue = FiniteSource(8, 8, 0.02, 0.06)
    assert (queue.p_wait, queue.mean_wait, queue.wait_quantile(1)) == (0, 0, 0)
    assert queue.throughput == pytest.approx(100)


def test_finite_source_without_think_time_keeps_every_server_busy():
    queue = FiniteSource(5, 2, 0.1, 0)
    assert queue.p_wait == 1
    assert queue.throughput == pytest.approx(20)
    assert queue.mean_wait == pytest.approx(0.15)


def test_finite_source_is_stable_for_hundreds_of_threads():
    queue = FiniteSource(800, 300, 0.1, 0.1)
    assert queue.throughput == pytest.approx(3000)
    assert queue.mean_wait == pytest.approx(800 / 3000 - 0.2)
    assert queue.wait_quantile(0.5) == pytest.approx(queue.mean_wait, rel=0.01)
    assert FiniteSource(2, 1, 1.0, 1e-320).p_wait == pytest.approx(1)


def test_finite_source_quantiles_invert_the_distribution():
    queue = FiniteSource(30, 4, 0.05, 0.3)
    quantiles = [queue.wait_quantile(p) for p in (0.5, 0.9, 0.99, 0.9999)]
    assert quantiles == sorted(quantiles)
    # The mean is the area above the distribution: an independent way to the same number.
    steps = 20_000
    area = sum(queue.wait_quantile((step + 0.5) / steps) for step in range(0, steps, 10)) * 10 / steps
    assert area == pytest.approx(queue.mean_wait, rel=0.01)
    assert queue.wait_quantile(1) == math.inf


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: ErlangC(-1, 0.1, 1), r"^arrival_rate must be a number of checkouts a second, 0 or more, not -1\.$"),
        (lambda: ErlangC(1, 0, 1), r"^service_time must be a number of seconds, greater than 0, not 0\.$"),
        (lambda: ErlangC(1, math.nan, 1), "^service_time must be .* not nan"),
        (lambda: ErlangC(1, 0.1, 0), r"^servers must be a whole number of at least 1, not 0\.$"),
        (lambda: ErlangC(1, 0.1, 1.5), "^servers must be a whole number of at least 1, not 1.5"),
        (lambda: FiniteSource(0, 1, 0.1, 0.1), "^population must be a whole number"),
        (lambda: FiniteSource(1, True, 0.1, 0.1), "^servers must be a whole number of at least 1, not True"),
        (lambda: FiniteSource(1, 1, 0.1, math.inf), "^think_time must be a number of seconds, 0 or more, not inf"),
        (lambda: FiniteSource(2, 1, 0.1, 0.1).wait_quantile(99), "^p must be a share between 0 and 1, not 99"),
        (lambda: ErlangC(1, 0.1, 1).wait_quantile(-0.1), "^p must be a share"),
    ],
)
def test_a_number_that_cannot_be_gets_one_sentence(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()
