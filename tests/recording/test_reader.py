"""The reader: files of all kinds, each read or skipped with a line that names it; and windows of time."""

from __future__ import annotations

import math
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pool_doctor.recording import channel as channel_module
from pool_doctor.recording import checkout as checkout_module
from pool_doctor.recording import layout, reader
from pool_doctor.recording import scope as scope_module
from pool_doctor.recording.histogram import RELATIVE_ERROR, UNIT
from pool_doctor.recording.reader import read_directory, read_image
from pool_doctor.recording.runs import runs
from pool_doctor.recording.scope import Scope
from tests.recording.driving import (
    RING_SIZE,
    channel_of,
    check_out,
    query,
    read_alias,
    read_one,
    run,
    since_the_start,
    started,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pool_doctor.recording.recorder import Recorder
    from tests.recording.programs import Program


def real_file(rings: Path, runs: int = 5) -> Path:
    """Return the file of an ended process that did some runs, failed twice, and left a connection open."""
    recorder = started(rings)
    channel = channel_of(recorder)
    for number in range(runs):
        run(channel, f"GET page-{number % 3}/")
    channel.failed(channel.ask(), 0, layout.TIMEOUT)
    channel.failed(channel.ask(), 0, layout.ERROR)
    check_out(channel)
    recorder.stop()
    (path,) = rings.glob("*.ring")
    return path


def problem_of(path: Path) -> str:
    """Return what the reader says of the one file that it can't read, with and without a window."""
    lines = [read_directory(path.parent, since).problems for since in (None, 1.0, time.time())]
    assert lines[0] == lines[1] == lines[2]
    (line,) = lines[0]
    assert line.startswith(f"{path.name} was skipped: ")
    assert line.endswith(".")
    return line.removeprefix(f"{path.name} was skipped: ").removesuffix(".")


def patched(path: Path, at: int, content: bytes) -> Path:
    """Overwrite some bytes of a file."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)
    return path


# Files that are not what they should be.


@pytest.mark.parametrize("size", [0, 1, layout.HEADER_BYTES - 1])
def test_a_file_too_short_for_a_header(rings: Path, size: int) -> None:
    path = real_file(rings)
    os.truncate(path, size)
    assert problem_of(path) == "it is too short to be a ring file"


@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_a_file_cut_off(rings: Path, share: float) -> None:
    path = real_file(rings)
    size = path.stat().st_size
    os.truncate(path, int(size * share))
    assert problem_of(path) == f"it is cut off: {int(size * share)} bytes where {size} are expected"


def test_a_foreign_file(rings: Path) -> None:
    rings.mkdir(mode=0o700)
    path = rings / "notes.ring"
    path.write_text("dear diary " * 1000)
    assert problem_of(path) == "it is not a ring file"


def test_random_bytes(rings: Path) -> None:
    rings.mkdir(mode=0o700)
    (rings / "random.ring").write_bytes(os.urandom(100_000))
    assert problem_of(rings / "random.ring") == "it is not a ring file"


def test_a_future_version(rings: Path) -> None:
    path = patched(real_file(rings), 8, struct.pack("=I", 99))
    assert problem_of(path) == f"it has format version 99; this pool_doctor reads version {layout.VERSION}"


@pytest.mark.parametrize(
    ("at", "content"),
    [
        (12, struct.pack("=I", 0)),
        (24, struct.pack("=d", float("nan"))),
        (24, struct.pack("=d", float("inf"))),
        (24, struct.pack("=d", -1.0)),
        (24, struct.pack("=d", 1e300)),
        (32, struct.pack("=q", -5)),
    ],
    ids=["no ring", "start is no number", "start is never", "start before 1970", "start in eternity", "clock below 0"],
)
def test_a_damaged_header(rings: Path, at: int, content: bytes) -> None:
    assert problem_of(patched(real_file(rings), at, content)) == "its header is damaged"


@pytest.mark.parametrize(("field", "number"), [(0, "nan"), (1, "inf"), (0, "-inf"), (2, "nan"), (3, "inf"), (5, "nan")])
def test_a_damaged_description_of_a_pool(rings: Path, field: int, number: str) -> None:
    at = layout.Geometry(RING_SIZE).aliases + 64 + 128 + 16 + 8 * field
    path = patched(real_file(rings), at, struct.pack("=d", float(number)))
    assert problem_of(path) == "its description of a pool is damaged"


def test_a_size_that_the_file_does_not_have(rings: Path) -> None:
    assert problem_of(patched(real_file(rings), 12, b"\xff" * 4)).startswith("it is cut off")


def test_a_file_that_is_far_too_large(rings: Path) -> None:
    path = real_file(rings)
    os.truncate(path, reader.MAX_FILE_BYTES + 1)
    assert problem_of(path) == "it is too large to be a ring file"


def test_a_directory_a_link_a_pipe_and_a_socket(rings: Path) -> None:
    real = real_file(rings)
    (rings / "a.ring").mkdir()
    (rings / "b.ring").symlink_to(real)
    os.mkfifo(rings / "c.ring")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(rings / "d.ring"))
        recordings = read_directory(rings)
    assert len(recordings.processes) == 1
    assert [line.partition(" was skipped: ")[0] for line in recordings.problems] == [f"{name}.ring" for name in "abcd"]


def test_a_file_that_may_not_be_read(rings: Path, program: Callable[..., Program]) -> None:
    path = real_file(rings)
    path.chmod(0)
    if os.geteuid() == 0:
        os.chown(rings, 65534, 65534)
        parent = rings.parent
        while parent.stat().st_mode & 0o001 == 0:
            parent.chmod(parent.stat().st_mode | 0o001)
            parent = parent.parent
    complaints = program("as_nobody")
    assert complaints.heard() == f"{path.name} was skipped: Permission denied."
    assert complaints.heard() == "end"


def test_one_bad_file_costs_no_other(rings: Path) -> None:
    real_file(rings)
    (rings / "bad.ring").write_bytes(b"bad")
    (rings / "no-ring.txt").write_bytes(b"bad")
    recordings = read_directory(rings)
    assert len(recordings.processes) == 1
    assert recordings.problems == ["bad.ring was skipped: it is too short to be a ring file."]


def test_a_file_that_goes_while_the_directory_is_read_is_no_problem(
    rings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = real_file(rings)
    monkeypatch.setattr(reader, "files", lambda directory: [rings / "gone.ring", path])
    recordings = read_directory(rings)
    assert (len(recordings.processes), recordings.problems) == (1, [])


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a real file whose ring has wrapped."""
    return real_file(tmp_path_factory.mktemp("genuine") / "rings", runs=RING_SIZE).read_bytes()


_SIZE = layout.Geometry(RING_SIZE).size
_HOT = st.one_of(st.integers(0, layout.HEADER_BYTES), st.integers(0, _SIZE - 1))
_PATCH = st.tuples(_HOT, st.one_of(st.binary(min_size=1, max_size=64), st.just(b"\xff" * 4096)))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(patches=st.lists(_PATCH, min_size=1, max_size=30), cut=st.one_of(st.none(), st.integers(0, _SIZE)))
def test_whatever_a_damaged_file_says_the_reader_raises_nothing_and_is_fast(
    tmp_path_factory: pytest.TempPathFactory, genuine: bytes, patches: list[tuple[int, bytes]], cut: int | None
) -> None:
    data = bytearray(genuine)
    for at, content in patches:
        data[at : at + len(content)] = content
    directory = tmp_path_factory.mktemp("damaged")
    path = directory / "damaged.ring"
    path.write_bytes(bytes(data[:cut]))
    for since in (None, 1.0, math.nextafter(layout.parse_header(genuine).started_at, math.inf)):
        began = time.process_time()
        recordings = read_directory(directory, since)
        assert time.process_time() - began < 1
        assert len(recordings.processes) + len(recordings.problems) == 1
    path.unlink()


# Windows.


def later(rings: Path) -> float:
    """Return a moment that is certainly past what was recorded, and certainly before what comes next.

    A file's anchor on the wall clock is good to some microseconds.
    """
    margin = 100e-6
    since = read_one(rings).updated_at + margin
    while time.time() < since + margin:
        pass
    return since


def test_a_window_counts_what_ended_in_it(recorder: Recorder, rings: Path) -> None:
    channel, other = channel_of(recorder), channel_of(recorder, "other")
    for _ in range(7):
        run(channel, "GET before/")
    channel.failed(channel.ask(), 0, layout.TIMEOUT)
    across = check_out(channel)
    query(across)
    since = later(rings)
    across.returned()
    for _ in range(3):
        run(channel, "GET after/", checkouts=2)
    run(other, "GET after/")
    channel.failed(channel.ask(), 0, layout.ERROR)
    channel.failed(channel.ask(), 0, layout.TIMEOUT)

    process = read_one(rings, since)
    assert (process.torn, process.truncated, process.covers_from) == (0, False, since)
    alias = process.aliases["default"]
    assert (alias.checkouts, alias.timeouts, alias.errors) == (9, 1, 1)
    assert (alias.wait.count, alias.hold.count, alias.needed.count) == (9, 7, 7)
    after = alias.scopes["GET after/"]
    assert (after.requests, after.checkouts, after.queries) == (4, 6, 6)
    assert "GET before/" not in alias.scopes
    assert process.aliases["other"].checkouts == 1
    whole = read_alias(rings)
    assert (whole.checkouts, whole.timeouts, whole.scopes["GET before/"].requests) == (17, 2, 7)


def test_a_window_over_everything_says_what_the_counters_say(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for number in range(100):
        run(channel, f"GET {number % 5}/", checkouts=number % 3)
    channel.failed(channel.ask(), 0, layout.TIMEOUT)
    whole = read_one(rings)
    since = since_the_start(rings)
    window = read_one(rings, since)
    assert (window.truncated, window.torn, window.covers_from) == (False, 0, since)
    one, two = whole.aliases["default"], window.aliases["default"]
    assert one.scopes == two.scopes
    assert (one.checkouts, one.timeouts, one.errors) == (two.checkouts, two.timeouts, two.errors)
    assert (one.peak_in_use, one.peak_waiting, one.minutes) == (two.peak_in_use, two.peak_waiting, two.minutes)
    for name in ("wait", "hold", "needed"):
        counted, exact = getattr(one, name), getattr(two, name)
        assert list(counted.counts) == list(exact.counts)
        assert counted.total == pytest.approx(exact.total, rel=RELATIVE_ERROR, abs=exact.count * UNIT / 2)
        assert counted.quantile(0.95) == pytest.approx(exact.quantile(0.95), rel=RELATIVE_ERROR, abs=UNIT)


def test_runs_without_a_checkout_count_in_both(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for number in range(10):
        run(channel, "GET cached/", checkouts=number % 2)
    for since in (None, since_the_start(rings)):
        totals = read_alias(rings, since).scopes["GET cached/"]
        assert (totals.requests, totals.checkouts) == (10, 5)


def test_a_run_on_two_aliases_is_one_run_of_each(recorder: Recorder, rings: Path) -> None:
    scope = Scope("GET both/", "wsgi")
    for alias in ("default", "other"):
        channel = channel_of(recorder, alias)
        scope.sums(channel)[0] = 2
    scope.end(recorder.ring)
    for since in (None, since_the_start(rings)):
        aliases = read_one(rings, since).aliases
        assert [aliases[name].scopes["GET both/"].requests for name in ("default", "other")] == [1, 1]


@pytest.mark.parametrize("then", [0, 1])
def test_more_segments_in_an_event_than_fit_are_those_that_fit(recorder: Recorder, rings: Path, then: int) -> None:
    channel = channel_of(recorder)
    channel.ring.record(layout.SEGMENTS, 0, layout.OK, 0, 0, 0, 1, 4, 0, 1, 1, 2, 1, 3, 1)
    for _ in range(then):
        run(channel)
    (path,) = rings.glob("*.ring")
    assert read_one(rings, since_the_start(rings)).aliases["default"].checkouts == then
    assert len(list(runs(read_image(path), 0))) == then


def test_a_window_that_the_ring_does_not_reach_is_truncated(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    for _ in range(RING_SIZE):
        run(channel)
    early = later(rings)
    for _ in range(RING_SIZE):
        run(channel)
    process = read_one(rings, since_the_start(rings))
    assert process.truncated
    assert early < process.covers_from <= time.time()
    assert process.aliases["default"].checkouts == pytest.approx(RING_SIZE / 2, abs=1)
    since = later(rings)
    run(channel)
    process = read_one(rings, since)
    assert (process.truncated, process.covers_from, process.aliases["default"].checkouts) == (False, since, 1)
    assert read_one(rings).truncated is False


def test_a_window_before_the_start_covers_from_the_start(recorder: Recorder, rings: Path) -> None:
    run(channel_of(recorder))
    process = read_one(rings, 1.0)
    assert process.covers_from == process.started_at
    assert process.aliases["default"].checkouts == 1


def test_the_peak_of_a_window_is_that_of_its_minutes(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    run(channel)
    (now,) = read_alias(rings).minutes
    minute = channel.cells[layout.LAST_MINUTE]
    for ago in (3, 2):
        row = channel.base + layout.MINUTE_ROWS + (minute - ago) % layout.MINUTES * layout.MINUTE_WORDS
        for offset, value in enumerate((minute - ago, 9, 1, 77, 88)):
            channel.cells[row + offset] = value
    alias = read_alias(rings)
    assert [round(now.start - row.start) for row in alias.minutes] == [180, 120, 0]
    assert (alias.minutes[1].checkouts, alias.minutes[1].timeouts, alias.minutes[1].peak_waiting) == (9, 1, 88)
    window = read_alias(rings, since_the_start(rings))
    assert (window.peak_in_use, window.peak_waiting, window.minutes) == (1, 1, [now])


def test_the_minute_in_which_the_machine_started(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic_ns", lambda: 5 * 10**9)
    for module in (channel_module, checkout_module, scope_module):
        monkeypatch.setattr(module, "monotonic_ns", time.monotonic_ns)
    recorder = started(rings)
    run(channel_of(recorder))
    (row,) = read_alias(rings).minutes
    assert (row.checkouts, row.peak_in_use) == (1, 1)
    recorder.stop()


def test_what_is_open_now_is_shown_in_each_window(recorder: Recorder, rings: Path) -> None:
    kept = check_out(channel_of(recorder))
    alias = read_alias(rings, time.time())
    assert (alias.in_use, len(alias.open), alias.checkouts) == (1, 1, 0)
    kept.returned()


def test_times_are_on_the_wall_clock(recorder: Recorder, rings: Path) -> None:
    before = time.time()
    channel = channel_of(recorder)
    run(channel)
    after = time.time()
    process = read_one(rings)
    assert before - 1e-3 <= process.started_at <= process.updated_at <= after + 1e-3
    (row,) = process.aliases["default"].minutes
    assert row.start <= after
    assert row.start + 60 >= before
