"""Names of scopes and lines in the file: capped, clipped, and any text at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool_doctor.recording import layout
from tests.recording.driving import channel_of, check_out, read_alias, read_one, run, since_the_start, started

if TYPE_CHECKING:
    from pathlib import Path

    from pool_doctor.recording.recorder import Recorder

ROOM = 158


def test_scopes_past_the_cap_are_one_other(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for number in range(layout.MAX_SCOPES + 20):
        run(channel, f"GET page-{number}/")
    for since in (None, since_the_start(rings)):
        scopes = read_alias(rings, since).scopes
        assert len(scopes) == layout.MAX_SCOPES
        assert scopes["GET page-254/"].requests == 1
        assert (scopes["(other)"].requests, scopes["(other)"].checkouts) == (21, 21)


def test_lines_past_the_cap_are_one_other(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for number in range(layout.MAX_SITES - 2):
        channel.ring.sites.number(f"shop/views.py:{number} view")
    kept = [check_out(channel, f"shop/late.py:{number} view") for number in range(3)]
    found = sorted(row.site for row in read_alias(rings).open)
    assert found == ["(other)", "(other)", "shop/late.py:0 view"]
    assert len(kept) == 3


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("a" * 158, "a" * 158),
        ("a" * 159, "a" * 158),
        ("é" * 79, "é" * 79),
        ("a" + "é" * 79, "a" + "é" * 78),
        ("€" * 53, "€" * 52),
        ("a" * 156 + "𝄞", "a" * 156),
        ("a\0b", "a\0b"),
        ("\0" * 200, "\0" * 158),
        ("\ud800 lone", "? lone"),
    ],
)
def test_names_are_cut_at_a_characters_border(recorder: Recorder, rings: Path, name: str, kept: str) -> None:
    channel = channel_of(recorder)
    checkout = check_out(channel, name)
    run(channel, name)
    alias = read_alias(rings)
    assert list(alias.scopes) == [kept]
    assert [row.site for row in alias.open] == [kept]
    checkout.returned()


def test_long_names_that_differ_only_past_the_cut_are_counted_together(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for end in "abc":
        run(channel, "x" * ROOM + end)
    for since in (None, since_the_start(rings)):
        totals = read_alias(rings, since).scopes["x" * ROOM]
        assert (totals.requests, totals.checkouts, totals.queries) == (3, 3, 3)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(name=st.text(min_size=1, max_size=300))
def test_any_text_is_read_as_its_beginning(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    rings = tmp_path_factory.mktemp("names") / "rings"
    recorder = started(rings)
    run(channel_of(recorder), name)
    (found,) = read_alias(rings).scopes
    recorder.stop()
    assert name.startswith(found)
    assert len(found.encode()) > ROOM - 4 or found == name


def test_the_command_and_the_kind_are_clipped_too(rings: Path) -> None:
    recorder = started(rings)
    recorder.note_kind("wsgi")
    channel_of(recorder, "d" * 100)
    process = read_one(rings)
    assert (process.kind, process.command) == ("wsgi", "tests")
    assert list(process.aliases) == ["d" * 64]
    recorder.stop()
