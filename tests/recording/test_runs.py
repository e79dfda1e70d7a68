"""The events of a ring put together again, and what the web server told."""

from __future__ import annotations

from time import monotonic_ns
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout
from pool_doctor.recording.reader import read_image
from pool_doctor.recording.runs import runs
from pool_doctor.recording.scope import Scope, current
from pool_doctor.recording.work import begin, end
from tests.recording.driving import channel_of, check_out, query, read_alias, run, since_the_start

if TYPE_CHECKING:
    from pathlib import Path

    from pool_doctor.recording.image import Image
    from pool_doctor.recording.recorder import Recorder


def image(rings: Path) -> Image:
    """Return what the one ring file says."""
    (path,) = rings.glob("*.ring")
    return read_image(path)


def test_a_run_has_its_checkouts_and_when_each_was_needed(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    scope = begin("GET orders/", "wsgi")
    before = monotonic_ns()
    checkout = check_out(channel)
    for _ in range(4):
        checkout.needed_since = monotonic_ns()
        query(checkout)
        checkout.need_ended()
    checkout.returned()
    check_out(channel).returned()
    end(scope)
    [found] = runs(image(rings), 0)
    assert (found.scope, found.ended, found.served, found.queued) == ("GET orders/", True, True, None)
    first, second = found.checkouts
    assert len(first.needed) == 4
    assert before <= first.asked <= first.needed[0][0] < first.needed[3][0] <= first.asked + first.wait + first.hold
    assert second.needed == ((second.asked + second.wait, second.hold),)
    assert found.start <= first.asked
    assert found.end >= second.asked + second.wait + second.hold


@pytest.mark.parametrize("needs", [1, 2, 3, 4, 7])
def test_each_need_of_a_checkout_is_read_as_it_was(needs: int, recorder: Recorder, rings: Path) -> None:
    checkout = check_out(channel_of(recorder))
    noted = []
    for _ in range(needs):
        began = checkout.needed_since = monotonic_ns()
        checkout.need_ended()
        noted.append((began, checkout.segments[-1] if checkout.segments else None))
    checkout.returned()
    found = image(rings)
    [run] = runs(found, 0)
    [read] = run.checkouts
    assert [start for start, _ in read.needed] == [began for began, _ in noted]
    assert all(lasted in (None, duration) for (_, duration), (_, lasted) in zip(read.needed, noted, strict=True))
    assert sum(duration for _, duration in read.needed) == checkout.needed
    kinds = [record[1] for record in found.records()]
    assert kinds.count(layout.SEGMENTS) == (0 if needs == 1 else -(-needs // 3))


@pytest.mark.parametrize("outcome", [layout.OK, layout.TIMEOUT])
def test_a_checkout_outside_all_scopes_is_one_event_and_one_run(outcome: int, recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    if outcome == layout.OK:
        check_out(channel).returned()
    else:
        channel.failed(channel.ask(), 0, outcome)
    found = image(rings)
    (one,) = runs(found, 0)
    assert (found.newest, one.scope, one.ended, one.served, len(one.checkouts)) == (1, "process", True, False, 1)
    (checkout,) = one.checkouts
    assert (checkout.outcome, one.start, one.end) == (
        outcome,
        checkout.asked,
        checkout.asked + checkout.wait + checkout.hold,
    )
    for since in (None, since_the_start(rings)):
        totals = read_alias(rings, since).scopes["process"]
        assert (totals.requests, totals.checkouts) == (1, 1)


def test_what_had_not_ended_is_there_with_what_it_did(recorder: Recorder, rings: Path) -> None:
    scope = begin("GET orders/", "wsgi")
    check_out(channel_of(recorder)).returned()
    [found] = runs(image(rings), 0)
    assert (found.ended, found.served, len(found.checkouts)) == (False, False, 1)
    end(scope)


@pytest.mark.parametrize(("kind", "served"), [("wsgi", True), ("asgi", True), ("block", False), ("command", False)])
def test_requests_are_told_from_other_work(kind: str, served: bool, recorder: Recorder, rings: Path) -> None:
    run(channel_of(recorder), kind=kind)
    [found] = runs(image(rings), 0)
    assert found.served is served


def test_requests_without_this_database_are_there_once(recorder: Recorder, rings: Path) -> None:
    """They take up threads. One that used several databases is one run of each of them, and not one more."""
    first, second, third = (channel_of(recorder, alias) for alias in ("default", "other", "third"))
    for channels in ([first, second], [second, first], [second], [], [third, first, second]):
        scope = begin(f"GET {'-'.join(channel.alias for channel in channels)}", "wsgi")
        for channel in channels:
            check_out(channel).returned()
        end(scope)
    end(begin("not served", "block"))
    found = {
        number: sorted((each.scope, len(each.checkouts)) for each in runs(image(rings), number)) for number in (0, 1)
    }
    everything = ["GET ", "GET default-other", "GET other", "GET other-default", "GET third-default-other"]
    for number, alias in ((0, "default"), (1, "other")):
        assert found[number] == [(name, int(alias in name)) for name in everything]


@pytest.mark.parametrize(("queued", "expected"), [(0, 0), (7, 7_000_000), (layout.UNKNOWN_QUEUED, None)])
def test_the_wait_for_a_thread(queued: int, expected: int | None, recorder: Recorder, rings: Path) -> None:
    scope = begin("GET orders/", "asgi")
    scope.queued = queued
    check_out(channel_of(recorder)).returned()
    end(scope)
    [found] = runs(image(rings), 0)
    assert found.queued == expected


@pytest.mark.parametrize("early", [True, False])
def test_the_number_of_threads_is_in_the_header(early: bool, recorder: Recorder, rings: Path) -> None:
    """Whether it was noted before the file was there or after."""
    if early:
        recorder.note_threads(16)
    run(channel_of(recorder))
    assert image(rings).header.threads == (16 if early else 0)
    recorder.note_threads(4)
    assert image(rings).header.threads == 4


def test_a_lost_beginning_loses_the_run(rings: Path, recorder: Recorder) -> None:
    channel = channel_of(recorder)
    scope = Scope("GET orders/", "wsgi")
    current.set(scope)
    check_out(channel).returned()
    for _ in range(2 * recorder.options.ring_size):
        recorder.ring.record(layout.PIN, 0, layout.OK, 0, 0, 0, 0, 0, 0, monotonic_ns(), 0, 0, 0, 0, 0)
    check_out(channel).returned()
    scope.end(recorder.ring)
    current.set(None)
    assert list(runs(image(rings), 0)) == []
