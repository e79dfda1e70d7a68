"""The search for the smallest size that fits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pool_doctor.analysis.sizing import smallest


@given(st.integers(1, 300), st.integers(1, 300), st.none() | st.integers(1, 300))
def test_it_finds_the_smallest_and_looks_seldom(answer, guess, cap):
    looked = []

    def fits(size):
        assert size >= 1
        assert cap is None or size <= cap
        looked.append(size)
        return size >= answer

    found = smallest(fits, guess, cap)
    assert found == (answer if cap is None or answer <= cap else None)
    assert len(looked) <= 20
    assert len(looked) == len(set(looked))


def test_a_good_guess_takes_two_looks():
    looked = []
    assert smallest(lambda size: looked.append(size) or size >= 12, 12, None) == 12
    assert looked == [12, 11]
