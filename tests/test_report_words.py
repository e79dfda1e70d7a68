"""Numbers and names in the words of a report."""

from __future__ import annotations

import pytest

from pool_doctor.report import words


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0 s"),
        (5e-8, "<1 µs"),
        (0.000_040_4, "40.4 µs"),
        (0.000_999_96, "1 ms"),
        (0.0521, "52.1 ms"),
        (0.999_96, "1 s"),
        (3.2, "3.2 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (724, "12 min 4 s"),
        (3_600, "1 h"),
        (11_520, "3 h 12 min"),
        (90_000, "1 d 1 h"),
        (86_400 + 120, "1 d"),
        (float("inf"), "unlimited"),
    ],
)
def test_durations_have_three_significant_digits_or_two_units(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0 s"), (6.19, "6 s"), (59.9, "1 min"), (724.3, "12 min 4 s")])
def test_ages_are_in_whole_seconds(seconds: float, text: str) -> None:
    assert words.age(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "-"), (0, 5, "0 %"), (1, 1_000, "<1 %"), (19, 20, "95 %"), (999, 1_000, ">99 %"), (5, 5, "100 %")],
)
def test_a_share_is_rounded_to_all_or_nothing_only_where_it_is_that(part: int, whole: int, text: str) -> None:
    assert words.share(part, whole) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.000_01, "<0.001"), (0.0123, "0.0123"), (4.153, "4.15"), (99.96, "100"), (12_345.6, "12,346")],
)
def test_rates_are_never_in_scientific_notation(number: float, text: str) -> None:
    assert words.rate(number) == text


def test_a_name_cannot_steer_the_terminal() -> None:
    assert words.clean("evil\x1b[2J\nname\u202e") == "evil?[2J?name?"


@pytest.mark.parametrize(
    ("text", "columns", "keep_end", "shortened"),
    [
        ("short", 5, False, "short"),
        ("shop/views.py:42", 10, False, "shop/view…"),
        ("shop/views.py:42", 10, True, "…ews.py:42"),
        ("注文一覧", 8, False, "注文一覧"),
        ("注文一覧", 6, False, "注文…"),
    ],
)
def test_cutting_counts_the_columns_of_a_terminal(text: str, columns: int, keep_end: bool, shortened: str) -> None:
    assert words.cut(text, columns, keep_end=keep_end) == shortened
    assert words.width(shortened) <= columns


def test_moments_of_another_day_carry_their_date() -> None:
    day = 86_400
    assert words.moment(10 * day, 10 * day) == words.moment(10 * day, 20 * day)[-8:]
    assert len(words.moment(10 * day, 20 * day)) == len("1970-01-11 00:00:00")
