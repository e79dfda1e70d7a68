"""Threads that are switched in the middle of a step of the hot path, at each place where CPython may do so.

CPython switches threads when a Python function begins and when a C function has returned (and at backward jumps). A
profile hook stands at just these places, so that another thread's work can be done there, place after place.
"""

from __future__ import annotations

import functools
import itertools
import sys
from typing import TYPE_CHECKING, Any

import pytest

from pool_doctor.recording import layout
from pool_doctor.recording.image import Image
from pool_doctor.recording.runs import runs
from pool_doctor.recording.scope import Scope, current
from tests.recording.driving import POOL, channel_of, check_out, query, read_one, run, since_the_start, started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
    from pool_doctor.recording.snapshot import PoolSettings

PLACES = 200


def switched(work: Callable[[], Any], other: Callable[[], Any], place: int) -> bool:
    """Do ``work``, with ``other`` done at one place inside it; say whether it has so many places."""
    places = itertools.count()
    done = False

    def hook(frame: Any, event: str, argument: Any) -> None:
        nonlocal done
        if event in ("call", "c_return") and not done and next(places) == place:
            done = True
            sys.setprofile(None)
            scope = current.get()
            current.set(None)
            other()
            current.set(scope)

    sys.setprofile(hook)
    try:
        work()
    finally:
        sys.setprofile(None)
    return done


def at_each_place(directory: Path, prepare: Callable[[Channel], Any], check: Callable[[Channel, Any], None]) -> None:
    """Check a run that another thread's run interrupts, for each place and a new file each."""
    for place in range(PLACES):
        recorder = started(directory / str(place))
        channel = channel_of(recorder)
        prepared = prepare(channel)
        reached = switched(lambda: run(channel, "GET one/"), lambda: run(channel, "GET other/"), place)  # noqa: B023
        check(channel, prepared)
        recorder.stop()
        if not reached:
            assert place > 20
            return
    pytest.fail(f"a run has more than {PLACES} places")


def test_a_run_within_a_run_loses_nothing(rings: Path) -> None:
    def check(channel: Channel, prepared: None) -> None:
        process = read_one(channel.ring.path.parent)
        alias = process.aliases["default"]
        other = int("GET other/" in alias.scopes)
        assert (alias.in_use, alias.waiting, alias.open) == (0, 0, [])
        assert alias.checkouts == alias.hold.count == alias.needed.count == 1 + other
        assert sum(row.checkouts for row in alias.minutes) == 1 + other
        names = ("GET one/", "GET other/")[: 1 + other]
        assert {(name, totals.requests, totals.checkouts) for name, totals in alias.scopes.items()} == {
            (name, 1, 1) for name in names
        }
        window = read_one(channel.ring.path.parent, since_the_start(channel.ring.path.parent))
        assert (window.torn, window.aliases["default"].checkouts) == (0, 1 + other)
        assert len(channel.ring.free_rows) == layout.MAX_OPEN

    at_each_place(rings, lambda channel: None, check)


@pytest.mark.parametrize("pool", [POOL, None], ids=["pooled", "unpooled"])
@pytest.mark.parametrize("what", ["end", "rename"])
def test_another_thread_of_the_scope_ends_or_renames_it(rings: Path, what: str, pool: PoolSettings | None) -> None:
    for place in range(PLACES):
        recorder = started(rings / str(place))
        channel = channel_of(recorder, pool=pool)
        scope = Scope("GET one/", "wsgi")
        current.set(scope)

        def work(channel: Channel = channel) -> None:
            checkout = check_out(channel)
            query(checkout)
            checkout.need_ended()
            checkout.returned()

        others = {"end": lambda: scope.end(channel.ring), "rename": lambda: scope.rename("GET two/")}  # noqa: B023
        reached = switched(work, others[what], place)
        current.set(None)
        scope.end(channel.ring)
        alias = read_one(channel.ring.path.parent).aliases["default"]
        assert (alias.in_use, alias.waiting, alias.open, len(channel.ring.free_rows)) == (0, 0, [], layout.MAX_OPEN)
        assert (alias.checkouts, alias.hold.count, alias.needed.count) == (1, 1, 1)
        assert sum(totals.checkouts for totals in alias.scopes.values()) == 1
        assert sum(totals.queries for totals in alias.scopes.values()) <= 1
        recorder.stop()
        if not reached:
            assert place > 20
            return
    pytest.fail(f"a checkout has more than {PLACES} places")


@pytest.mark.parametrize("checkouts", [1, 2])
def test_another_thread_returns_while_the_scope_ends(rings: Path, checkouts: int) -> None:
    for place in range(PLACES):
        recorder = started(rings / str(place))
        channel = channel_of(recorder)
        scope = Scope("GET one/", "wsgi")
        current.set(scope)
        kept = [check_out(channel) for _ in range(checkouts)]

        def give_back(kept: list[Checkout] = kept) -> None:
            for checkout in kept:
                checkout.returned()

        reached = switched(lambda: scope.end(channel.ring), give_back, place)  # noqa: B023
        give_back()
        current.set(None)
        image = Image(channel.ring.path.read_bytes())
        assert [(len(run.checkouts), run.ended) for run in runs(image, 0)] == [(checkouts, True)]
        assert image.alias(0, alive=True).scopes["GET one/"].checkouts == checkouts
        recorder.stop()
        if not reached:
            assert place > 5
            return
    pytest.fail(f"the end of a scope has more than {PLACES} places")


def test_peaks_never_go_down(rings: Path) -> None:
    kept: list[Checkout] = []
    for place in range(PLACES):
        channel = channel_of(started(rings / str(place)))

        def keep(number: int, channel: Channel = channel) -> None:
            kept.extend(check_out(channel) for _ in range(number))

        reached = switched(functools.partial(keep, 1), functools.partial(keep, 2), place)
        alias = read_one(channel.ring.path.parent).aliases["default"]
        expected = 3 if reached else 1
        assert (alias.in_use, alias.peak_in_use) == (expected, expected)
        assert max(row.peak_in_use for row in alias.minutes) == expected
        if not reached:
            return


def test_the_last_row_of_the_table_goes_to_one(rings: Path) -> None:
    def fill(channel: Channel) -> list[Checkout]:
        return [check_out(channel) for _ in range(layout.MAX_OPEN - 1)]

    def check(channel: Channel, kept: list[Checkout]) -> None:
        for checkout in kept:
            query(checkout)
            checkout.returned()
        assert read_one(channel.ring.path.parent).aliases["default"].in_use == 0
        assert len(set(channel.ring.free_rows)) == layout.MAX_OPEN

    at_each_place(rings, fill, check)


def test_a_name_that_two_threads_write_first_is_one_name(rings: Path) -> None:
    for place in range(PLACES):
        recorder = started(rings / str(place))
        channel = channel_of(recorder)
        reached = switched(
            lambda channel=channel: run(channel, "GET"), lambda channel=channel: run(channel, "GET"), place
        )
        scopes = read_one(rings / str(place)).aliases["default"].scopes
        assert {name: totals.requests for name, totals in scopes.items()} == {"GET": 1 + reached}
        recorder.stop()
        if not reached:
            return
