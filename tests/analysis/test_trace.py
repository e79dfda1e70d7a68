"""The recorded traffic, kept in columns."""

from __future__ import annotations

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool_doctor.analysis.trace import OUTCOMES, Checkout, Requests, TracedRequest

from .traffic import trace

SECONDS = st.floats(0, 1e6)
CHECKOUTS = st.builds(
    Checkout, SECONDS, SECONDS, SECONDS, st.lists(st.tuples(SECONDS, SECONDS), max_size=3).map(tuple),
    st.sampled_from(OUTCOMES),
)  # fmt: skip
REQUESTS = st.lists(
    st.builds(
        TracedRequest, st.sampled_from("abc"), st.integers(1, 2**22), SECONDS, SECONDS,
        st.lists(CHECKOUTS, max_size=3).map(tuple), st.none() | SECONDS, st.booleans(),
    )
)  # fmt: skip


@given(REQUESTS)
def test_columns_give_back_what_they_got(requests):
    columns = Requests(requests)
    assert list(columns) == requests
    assert [columns[index] for index in range(len(columns))] == requests
    assert columns[1:3] == requests[1:3]
    if requests:
        assert columns[-1] == requests[-1]
    with pytest.raises(IndexError):
        columns[len(requests)]


def test_columns_take_a_fraction_of_the_memory():
    requests = Requests()
    for index in range(10_000):
        requests.append(TracedRequest("a", 1, index, index, (Checkout(index, 0.1, 0.2, ((index, 0.1),)),)))
    columns = (*requests._requests, *requests._checkouts, *requests._needed, requests._first_checkouts)
    assert sum(map(sys.getsizeof, columns)) / len(requests) < 150


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"policy": "sometimes"}, r"^policy must be one of request, query, persistent, unpooled, not 'sometimes'\.$"),
        ({"max_size": 0}, "^max_size must be a whole number of at least 1, not 0"),
        ({"min_size": -1}, "^min_size must be a whole number of at least 0, not -1"),
        ({"threads": 0}, "^threads must be a whole number of at least 1, not 0"),
        ({"timeout": -1.0}, "^timeout must be a number of seconds, 0 or more"),
        ({"connect_time": math.nan}, "^connect_time must be a number of seconds, 0 or more, not nan"),
        ({"end": -1.0}, "^end - start must be a number of seconds"),
    ],
)
def test_a_number_that_cannot_be_gets_one_sentence(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        trace([], **changes)
