"""The ring file: what is written is what is read, under wrap-around, threads, and readers in other processes."""

from __future__ import annotations

import sys
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout
from pool_doctor.recording.checkout import OwnConnection
from pool_doctor.recording.image import Image
from pool_doctor.recording.snapshot import PoolSettings
from tests.recording.driving import (
    POOL,
    RING_SIZE,
    THREADS,
    channel_of,
    check_out,
    in_threads,
    query,
    read_alias,
    read_one,
    run,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pool_doctor.recording.recorder import Recorder
    from tests.recording.programs import Program


def records_of(path: Path) -> tuple[list[tuple[int, ...]], Image]:
    """Return all whole records of a file at rest."""
    image = Image(path.read_bytes())
    return list(image.records()), image


def ring_file(directory: Path) -> Path:
    """Return the one ring file in a directory."""
    (path,) = directory.glob("*.ring")
    return path


def test_what_is_written_is_what_is_read(recorder: Recorder, rings: Path) -> None:
    ring = channel_of(recorder).ring
    fields = [
        (layout.CHECKOUT, 0, layout.TIMEOUT, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11),
        (layout.REQUEST, 7, layout.OK, 255, 255, 1023, 2**32 - 1, 2**32 - 1, 2**32 - 1, *[2**63 - 1] * 6),
        (layout.REQUEST, layout.NO_ALIAS, layout.OK, layout.FIRST, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
    ]
    for event in fields:
        ring.record(*event)
    records, image = records_of(ring_file(rings))
    assert [record[1:16] for record in records] == fields
    assert (image.torn, image.newest) == (0, 3)


@pytest.mark.parametrize("written", [0, 1, RING_SIZE - 1, RING_SIZE, RING_SIZE + 1, 3 * RING_SIZE, 3 * RING_SIZE + 7])
def test_the_newest_events_stay(recorder: Recorder, rings: Path, written: int) -> None:
    ring = channel_of(recorder).ring
    for number in range(written):
        ring.record(layout.REQUEST, 0, 0, 0, 0, 0, 0, 0, 0, number, 0, 0, 0, 0, 0)
    records, image = records_of(ring_file(rings))
    assert [record[10] for record in records] == list(range(max(written - RING_SIZE, 0), written))
    assert (image.torn, image.newest) == (0, written)


@pytest.mark.parametrize("at", [0, 40, layout.EVENT_BYTES - 4], ids=["number", "inside, second copy", "number again"])
def test_torn_records_are_dropped_and_counted(recorder: Recorder, rings: Path, at: int) -> None:
    channel = channel_of(recorder)
    for _ in range(10):
        run(channel)
    data = bytearray(ring_file(rings).read_bytes())
    events = layout.Geometry(RING_SIZE).events
    whole = list(Image(bytes(data)).records())
    torn = bytearray(data)
    torn[events + 5 * layout.EVENT_BYTES + at] ^= 0xFF
    image = Image(bytes(data), bytes(torn[events:])) if at == 40 else Image(bytes(torn))
    assert [record[0] for record in image.records()] == [record[0] for record in whole if record[0] != 5]
    assert image.torn == 1


def test_the_newest_record_being_written_hides_no_other(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    run(channel)
    data = bytearray(ring_file(rings).read_bytes())
    newest = Image(bytes(data)).newest
    at = layout.Geometry(RING_SIZE).events + (newest + 1) * layout.EVENT_BYTES
    data[at : at + 8] = (newest + 1).to_bytes(8, sys.byteorder)
    assert [record[0] for record in Image(bytes(data)).records()] == list(range(1, newest + 1))


def test_a_reader_beside_hammering_writers_sees_whole_records_only(
    program: Callable[..., Program], rings: Path
) -> None:
    assert program("hammer", 4).heard() == "ready"
    path = ring_file(rings)
    events = layout.Geometry(RING_SIZE).events
    seen: set[int] = set()
    while len(seen) < 20_000:
        with path.open("rb") as file:
            data = file.read()
            file.seek(events)
            again = file.read()
        for record in Image(data, again).records():
            start = record[10]
            assert record[10:16] == tuple(start * factor for factor in range(1, 7))
            assert record[5:10] == (start % 7, start % 11, start & 0xFFFF, 5, 6)
            seen.add(record[0])


@pytest.mark.usefixtures("busy_switching")
def test_no_increment_of_sixteen_threads_is_lost(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    each = 400

    def work(index: int) -> None:
        for number in range(each):
            run(channel, f"GET {index % 4}/", checkouts=2)
            if number % 10 == 0:
                channel.failed(channel.ask(), 0, layout.TIMEOUT)
                channel.failed(channel.ask(), 0, layout.ERROR)

    in_threads(work)
    alias = read_alias(rings)
    failures = THREADS * each // 10
    checkouts = THREADS * each * 2
    assert (alias.in_use, alias.waiting, alias.open) == (0, 0, [])
    assert (alias.timeouts, alias.errors) == (failures, failures)
    assert alias.checkouts == alias.wait.count == checkouts + 2 * failures
    assert alias.hold.count == alias.needed.count == checkouts
    named = [alias.scopes[f"GET {number}/"] for number in range(4)]
    assert [(totals.requests, totals.checkouts, totals.queries) for totals in named] == [(1600, 3200, 3200)] * 4
    assert sum(row.checkouts for row in alias.minutes) == checkouts + 2 * failures
    assert len(channel.ring.free_rows) == layout.MAX_OPEN


@pytest.mark.usefixtures("busy_switching")
def test_no_event_of_sixteen_threads_is_lost(rings: Path) -> None:
    recorder = started(rings, ring_size=65_536)
    channel = channel_of(recorder)
    in_threads(lambda index: [run(channel) for _ in range(200)] and None)
    recorder.stop()
    records, image = records_of(ring_file(rings))
    kinds = [record[1] for record in records]
    assert (image.torn, image.newest) == (0, THREADS * 200 * 2)
    assert [kinds.count(kind) for kind in (layout.CHECKOUT, layout.REQUEST)] == [THREADS * 200] * 2


@pytest.mark.usefixtures("busy_switching")
def test_the_peak_is_the_real_one(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    all_out = threading.Barrier(THREADS)

    def work(index: int) -> None:
        for _ in range(20):
            checkout = check_out(channel)
            all_out.wait()
            checkout.returned()
            all_out.wait()

    in_threads(work)
    alias = read_alias(rings)
    assert alias.peak_in_use == THREADS
    assert max(row.peak_in_use for row in alias.minutes) == THREADS
    assert alias.in_use == 0


def test_the_peak_of_waiting_is_the_real_one(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    asked = [channel.ask() for _ in range(5)]
    assert read_alias(rings).waiting == 5
    for since in asked:
        channel.got(since, 0).returned()
    alias = read_alias(rings)
    assert (alias.waiting, alias.peak_waiting, alias.checkouts) == (0, 5, 5)
    assert [row.peak_waiting for row in alias.minutes] == [5]


def test_what_is_there_at_once_was_not_waited_for(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    channel.ask()
    channel.got(monotonic_ns(), 0, at_once=True).returned()
    alias = read_alias(rings)
    assert (alias.waiting, alias.peak_waiting, alias.peak_in_use, alias.hold.count) == (1, 1, 1, 1)


def test_more_connections_out_than_the_table_has_rows_are_counted_all_the_same(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    kept = [check_out(channel) for _ in range(layout.MAX_OPEN + 40)]
    for checkout in kept:
        query(checkout)
    alias = read_alias(rings)
    assert (alias.in_use, len(alias.open), alias.peak_in_use) == (len(kept), layout.MAX_OPEN, len(kept))
    for checkout in kept:
        checkout.returned()
    alias = read_alias(rings)
    assert (alias.in_use, alias.open, alias.hold.count) == (0, [], len(kept))
    assert check_out(channel).row != layout.SCRATCH_ROW


@pytest.mark.usefixtures("busy_switching")
def test_threads_that_find_the_table_full_lose_no_checkout(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    kept = [check_out(channel) for _ in range(layout.MAX_OPEN - 2)]
    in_threads(lambda index: [check_out(channel).returned() for _ in range(500)] and None)
    for checkout in kept:
        checkout.returned()
    assert read_alias(rings).in_use == 0
    assert len(channel.ring.free_rows) == layout.MAX_OPEN


def test_returning_twice_counts_once(recorder: Recorder, rings: Path) -> None:
    checkout = check_out(channel_of(recorder))
    checkout.returned()
    checkout.returned()
    alias = read_alias(rings)
    assert (alias.in_use, alias.hold.count) == (0, 1)


def test_the_table_says_who_holds_since_when_and_how_long_idle(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    idle, working = check_out(channel, "shop/a.py:1 a"), check_out(channel, "shop/b.py:2 b")
    query(idle)
    working.query_started()
    found = {row.site: row for row in read_alias(rings).open}
    assert set(found) == {"shop/a.py:1 a", "shop/b.py:2 b"}
    assert 0 < found["shop/a.py:1 a"].idle_for < found["shop/a.py:1 a"].held_for
    assert found["shop/b.py:2 b"].idle_for == 0
    idle.returned()
    latest = check_out(channel, "shop/c.py:3 c")  # in the row that came free
    assert [row.site for row in read_alias(rings).open] == ["shop/b.py:2 b", "shop/c.py:3 c"]  # longest first
    working.returned()
    latest.returned()


@pytest.mark.parametrize("word", [0, layout.OPEN_WORDS - 1], ids=["since", "since again"])
def test_rows_of_the_table_that_are_being_written_are_left_out(recorder: Recorder, rings: Path, word: int) -> None:
    channel = channel_of(recorder)
    torn, whole = check_out(channel, "shop/a.py:1 a"), check_out(channel, "shop/b.py:2 b")
    channel.cells[torn.row + word] += 10**15
    assert [row.site for row in read_alias(rings).open] == ["shop/b.py:2 b"]
    whole.returned()


def test_the_pool_is_described_as_it_is_set(recorder: Recorder, rings: Path) -> None:
    pool = PoolSettings(0, 7, 2.5, max_waiting=3, max_lifetime=60.0, max_idle=float("inf"))
    channel_of(recorder, "ünïcode", pool)
    channel_of(recorder, "bare", None)
    aliases = read_one(rings).aliases
    assert aliases["ünïcode"].pool == pool
    assert aliases["ünïcode"].policy == "request"
    assert aliases["ünïcode"].engine == "django.db.backends.postgresql"
    assert (aliases["bare"].pool, aliases["bare"].policy) == (None, "unpooled")


def test_the_pool_has_the_size_last_seen(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    channel.sized(4, 3)
    assert (read_alias(rings).size, read_alias(rings).available) == (4, 3)
    kept = [check_out(channel) for _ in range(3)]
    assert (read_alias(rings).size, read_alias(rings).available) == (4, 1)
    channel.sized(6, 2)
    assert (read_alias(rings).size, read_alias(rings).available) == (6, 2)
    assert len(kept) == 3


def test_connections_of_no_pool_count_until_they_are_closed_or_collected(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder, pool=None)
    connections = [OwnConnection(channel) for _ in range(3)]
    checkout = check_out(channel)
    alias = read_alias(rings)
    assert (alias.size, alias.in_use, alias.available) == (3, 1, 2)
    checkout.returned()
    connections.pop()
    assert (read_alias(rings).size, read_alias(rings).available) == (2, 2)


def test_the_table_says_what_pins_a_connection(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    pinned, nowhere, free = (check_out(channel, f"shop/{name}.py:1 view") for name in "abc")
    pinned.pinned("SET", channel.ring.sites.number("shop/tenants.py:7 choose"))
    nowhere.pinned("LISTEN", 0)
    found = {row.site: row.pinned for row in read_alias(rings).open}
    assert found == {
        "shop/a.py:1 view": "SET at shop/tenants.py:7 choose",
        "shop/b.py:1 view": "LISTEN",
        "shop/c.py:1 view": "",
    }
    for checkout in (pinned, nowhere, free):
        checkout.returned()
    records, image = records_of(ring_file(rings))
    assert [image.site(record[6]) for record in records if record[1] == layout.PIN] == [
        "SET at shop/tenants.py:7 choose",
        "LISTEN",
    ]


def test_an_alias_that_is_set_anew_stays_one_alias(recorder: Recorder, rings: Path) -> None:
    for pool in (POOL, PoolSettings(1, 9, 1.0)):
        run(channel_of(recorder, "default", pool), "GET one/")
    alias = read_alias(rings)
    assert (alias.pool, alias.checkouts) == (PoolSettings(1, 9, 1.0), 2)
    totals = alias.scopes["GET one/"]
    assert (totals.requests, totals.checkouts) == (2, 2)
