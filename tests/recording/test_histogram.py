"""Histograms: buckets, the stated error, and merging."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_doctor.recording.histogram import (
    BUCKET_TABLE,
    BUCKETS,
    RELATIVE_ERROR,
    TABLED,
    UNIT,
    UNIT_BITS,
    Histogram,
    bounds,
    bucket_of,
)

LONGEST = math.floor(bounds(BUCKETS - 1)[1] * 1e9) - 1
durations = st.integers(0, LONGEST)
shares = st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0])


@given(durations)
def test_a_duration_lies_within_the_bounds_of_its_bucket(nanoseconds: int) -> None:
    low, high = bounds(bucket_of(nanoseconds))
    assert round(low * 1e9) <= nanoseconds < round(high * 1e9)


def test_buckets_follow_each_other_without_a_gap() -> None:
    edges = [bounds(bucket) for bucket in range(BUCKETS)]
    assert edges[0][0] == 0.0
    assert all(before[1] == after[0] for before, after in itertools.pairwise(edges))


def test_both_ends_of_a_bucket_are_in_it() -> None:
    for bucket in range(BUCKETS):
        low, high = (round(bound / UNIT) << UNIT_BITS for bound in bounds(bucket))
        assert bucket_of(low) == bucket == bucket_of(high - 1)


def test_longer_durations_than_are_told_apart_count_as_the_longest() -> None:
    assert bucket_of(LONGEST) == bucket_of(LONGEST * 1000) == bucket_of(2**63 - 1) == BUCKETS - 1
    assert bounds(BUCKETS - 1)[1] > 19 * 3600


@given(st.integers(max_value=-1))
def test_negative_durations_count_as_zero(nanoseconds: int) -> None:
    assert bucket_of(nanoseconds) == 0


def test_the_table_of_short_durations_says_what_bucket_of_says() -> None:
    assert len(BUCKET_TABLE) == TABLED
    for units, bucket in enumerate(BUCKET_TABLE):
        assert bucket == bucket_of(units << UNIT_BITS) == bucket_of(((units + 1) << UNIT_BITS) - 1)


@given(st.lists(durations, min_size=1, max_size=200), shares)
def test_quantiles_are_off_by_at_most_the_stated_error(values: list[int], share: float) -> None:
    exact = sorted(values)[max(math.ceil(share * len(values)) - 1, 0)] / 1e9
    found = Histogram.of(value / 1e9 for value in values).quantile(share)
    assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.000_001, abs=UNIT / 2 + 1e-9)


@given(st.lists(durations, min_size=1, max_size=200))
def test_sum_mean_and_maximum_of_single_durations_are_exact(values: list[int]) -> None:
    histogram = Histogram.of(value / 1e9 for value in values)
    assert histogram.count == len(values)
    assert histogram.total == pytest.approx(sum(values) / 1e9)
    assert histogram.mean == pytest.approx(sum(values) / len(values) / 1e9)
    assert histogram.maximum == max(values) / 1e9
    assert histogram.quantile(1.0) <= histogram.maximum


@given(st.lists(durations, min_size=1, max_size=200))
def test_sum_and_maximum_of_counts_are_as_good_as_the_buckets(values: list[int]) -> None:
    histogram = Histogram.counted(Histogram.of(value / 1e9 for value in values).counts)
    exact = sum(values) / 1e9
    assert abs(histogram.total - exact) <= RELATIVE_ERROR * exact + len(values) * UNIT / 2 + 1e-9
    exact = max(values) / 1e9
    assert abs(histogram.maximum - exact) <= RELATIVE_ERROR * exact + UNIT / 2 + 1e-9


@given(st.lists(durations, max_size=50), st.lists(durations, max_size=50))
def test_merging_is_counting_together(some: list[int], others: list[int]) -> None:
    one, two = (Histogram.of(value / 1e9 for value in values) for values in (some, others))
    both = Histogram.of(value / 1e9 for value in some + others)
    merged = one + two
    assert list(merged.counts) == list(both.counts)
    assert merged.total == pytest.approx(both.total)
    assert merged.maximum == both.maximum


def test_an_empty_histogram_has_no_quantile_mean_or_share() -> None:
    empty = Histogram()
    assert (empty.count, empty.mean, empty.quantile(0.5), empty.share_above(1.0)) == (0, None, None, None)


def test_the_share_above_leaves_out_the_bucket_of_the_duration_itself() -> None:
    histogram = Histogram.of([0.001, 0.010, 0.100, 1.0])
    assert histogram.share_above(0.0) == 1.0
    assert histogram.share_above(0.010) == 0.5
    assert histogram.share_above(2.0) == 0.0
