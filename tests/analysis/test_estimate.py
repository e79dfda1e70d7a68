"""Intervals: they must hold as often as they say, for traffic in bunches too."""

from __future__ import annotations

import random

import pytest

from pool_doctor.analysis.counterfactual import Scenario
from pool_doctor.analysis.estimate import block_length, estimate, wilson
from pool_doctor.analysis.queueing import ErlangC
from pool_doctor.analysis.replay import Request, Traffic
from pool_doctor.analysis.simulate import Sizing, WhatIf

from .traffic import plans


def test_wilson_agrees_with_the_published_example():
    # Newcombe, "Two-sided confidence intervals for the single proportion" (1998), table I.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=0.0001)
    assert wilson(0 / 20, 20) == pytest.approx((0.0, 0.1611), abs=0.0001)
    assert wilson(1 / 29, 29) == pytest.approx((0.0061, 0.1718), abs=0.0001)


def test_independent_cells_need_no_blocks():
    rng = random.Random(1)
    totals = [100] * 512
    hits = [sum(rng.random() < 0.1 for _ in range(100)) for _ in totals]
    found = estimate(hits, totals)
    assert block_length(hits) <= 3
    assert found.effect < 1.6
    assert found.low < 0.1 < found.high


def test_bunches_need_long_blocks_and_weigh_less():
    rng = random.Random(2)
    hits = []
    while len(hits) < 512:
        hits += [rng.choice([0, 0, 0, 50])] * 16
    found = estimate(hits[:512], [100] * 512)
    assert found.block >= 8
    assert found.effect > 200


def test_intervals_hold_the_truth_as_often_as_they_say():
    # Erlang's queue at 80 % use: waits come in long bunches, and the true share of them is known.
    truth = ErlangC(16, 0.1, 2).p_wait
    held = naive = 0
    for seed in range(100):
        traffic = Traffic(Request(start, ((gap, hold),), 0.0) for start, gap, hold, _ in plans(seed, 16, 0.1, 600.0))
        outcome = Sizing(Scenario([traffic], 0.0, 600.0, None), WhatIf())[2]
        held += outcome.p_wait.low <= truth <= outcome.p_wait.high
        low, high = wilson(outcome.p_wait.value, outcome.checkouts)
        naive += low <= truth <= high
    assert held >= 88
    assert naive <= 60


def test_none_at_all_is_not_never():
    found = estimate([0] * 512, [1] * 512, effect=4.0)
    assert (found.value, found.low) == (0, 0)
    assert found.high == pytest.approx(wilson(0, 128)[1])


def test_nothing_says_nothing():
    found = estimate([0] * 512, [0] * 512)
    assert (found.low, found.high) == (0, 1)


def test_all_of_them():
    found = estimate([5] * 512, [5] * 512)
    assert (found.value, found.high) == (1, 1)
    assert found.low < 1


def test_short_or_constant_series_have_blocks_of_one():
    assert block_length([1, 2, 3]) == 1
    assert block_length([7.0] * 100) == 1


def test_traffic_that_is_empty_can_be_replayed():
    assert Traffic().replay(1).waits == []
