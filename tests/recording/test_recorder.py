"""The recorder: it opens its file at first need, and whatever is wrong with the directory fails no work."""

from __future__ import annotations

import gc
import logging
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout, ring
from pool_doctor.recording.reader import read_file
from pool_doctor.recording.recorder import Recorder
from tests.recording.driving import channel_of, check_out, description, read_one, run, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.recording.programs import Program


def works_in_memory(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> str:
    """Work, see that all is counted and one warning given, and return the warning."""
    channel = channel_of(recorder)
    for alias in ("default", "other"):
        run(channel_of(recorder, alias), "GET one/", checkouts=3)
    assert sum(channel.hold) == 3
    assert recorder.ring is not None
    assert recorder.ring.path is None
    assert recorder.opened_ring() is recorder.ring
    (record,) = [record for record in caplog.records if record.name == "pool_doctor"]
    assert (record.levelno, record.getMessage()) == (logging.WARNING, f"pool_doctor: {recorder.problem}")
    assert str(recorder.options.directory) in recorder.problem
    recorder.stop()
    return record.getMessage()


def test_there_is_no_file_before_the_first_event(recorder: Recorder, rings: Path) -> None:
    recorder.note_kind("command")
    assert not rings.exists()
    channel_of(recorder)
    assert len(list(rings.glob("*.ring"))) == 1
    assert read_one(rings).kind == "command"


def test_a_recorder_that_was_not_started_records_nothing(rings: Path) -> None:
    recorder = Recorder()
    assert not recorder.enabled
    assert recorder.channel(description()) is None
    assert recorder.opened_ring() is None


def test_the_file_says_what_process_it_is_of(recorder: Recorder, rings: Path) -> None:
    channel_of(recorder)
    process = read_one(rings)
    assert (process.pid, process.command, process.kind, process.alive) == (os.getpid(), "tests", "process", True)
    for kind, shown in (("command", "command"), ("block", "command"), ("asgi", "asgi"), ("celery", "asgi")):
        recorder.note_kind(kind)
        assert read_one(rings).kind == shown


def test_each_alias_has_one_channel(recorder: Recorder) -> None:
    assert channel_of(recorder) is channel_of(recorder)
    assert channel_of(recorder) is not channel_of(recorder, "other")


def test_a_refused_directory_costs_the_file_only(rings: Path, caplog: pytest.LogCaptureFixture) -> None:
    rings.mkdir()
    rings.chmod(0o755)
    warning = works_in_memory(started(rings), caplog)
    assert warning.endswith(
        f"nothing is recorded for pool_report: {rings} has mode 0755, open to other users; 0700 is needed."
    )
    assert list(rings.iterdir()) == []


def test_an_impossible_path_costs_the_file_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert "null" in works_in_memory(started(tmp_path / "a\0b"), caplog)


def test_a_path_that_cannot_be_made_costs_the_file_only(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    works_in_memory(started(tmp_path / ("long" * 100)), caplog)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one megabyte."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs", str(path)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def test_a_full_disk_costs_the_file_only(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    warning = works_in_memory(started(small_disk), caplog)
    assert f"{small_disk} can't be used: No space left on device." in warning
    assert list(small_disk.iterdir()) == []


def test_a_read_only_disk_costs_the_file_only(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert "Read-only file system" in works_in_memory(started(small_disk), caplog)


def test_a_limit_of_file_sizes_costs_the_file_only(rings: Path, program: Callable[..., Program]) -> None:
    limited = program("limited", 100_000)
    assert limited.heard() == f"nothing is recorded for pool_report: {rings} can't be used: File too large."
    assert limited.heard() == "1"
    assert limited.process.stderr.read().count("pool_doctor: nothing is recorded") == 1
    assert list(rings.iterdir()) == []


def test_memory_that_cannot_be_mapped_leaves_no_file_behind(
    rings: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ring.mmap.mmap
    failing = iter([OSError(12, "Cannot allocate memory")])

    def mmap(*arguments: object, **options: object) -> object:
        for error in failing:
            raise error
        return real(*arguments, **options)

    monkeypatch.setattr(ring.mmap, "mmap", mmap)
    assert "Cannot allocate memory" in works_in_memory(started(rings), caplog)
    assert list(rings.iterdir()) == []


def test_a_log_handler_that_uses_a_database_is_no_deadlock(rings: Path) -> None:
    rings.mkdir()
    rings.chmod(0o755)
    recorder = started(rings)
    used: list[str] = []

    class DatabaseHandler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            run(channel_of(recorder, "logs"))
            used.append(record.getMessage())

    handler = DatabaseHandler()
    logging.getLogger("pool_doctor").addHandler(handler)
    try:
        default = channel_of(recorder)
    finally:
        logging.getLogger("pool_doctor").removeHandler(handler)
    assert len(used) == 1
    assert channel_of(recorder, "logs").index != default.index


def test_the_ninth_alias_is_not_recorded_and_that_is_said_once(
    recorder: Recorder, rings: Path, caplog: pytest.LogCaptureFixture
) -> None:
    channels = [recorder.channel(description(f"db{number}")) for number in range(layout.MAX_ALIASES + 2)]
    assert [channel is None for channel in channels] == [False] * layout.MAX_ALIASES + [True] * 2
    for channel in channels[: layout.MAX_ALIASES]:
        run(channel)
    aliases = read_one(rings).aliases
    assert {name: alias.checkouts for name, alias in aliases.items()} == {f"db{number}": 1 for number in range(8)}
    assert recorder.problem == "only the first 8 databases are recorded; 'db8' is not."
    assert [record.getMessage() for record in caplog.records] == [f"pool_doctor: {recorder.problem}"]


def test_stop_lets_go_of_the_file_which_stays_readable(recorder: Recorder, rings: Path) -> None:
    channel = channel_of(recorder)
    run(channel)
    kept = check_out(channel)  # keeps the ring's memory in use
    recorder.stop()
    process = read_one(rings)
    assert (process.alive, process.aliases["default"].checkouts, process.aliases["default"].open) == (False, 2, [])
    assert not recorder.enabled
    assert recorder.channel(description()) is None
    kept.returned()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs a system that lists open files")
def test_stop_leaves_no_file_open(recorder: Recorder, rings: Path) -> None:
    def open_files() -> list[str]:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return [target for target in map(os.readlink, links) if target.startswith(str(rings))]

    channel = channel_of(recorder)
    assert open_files()
    recorder.stop()
    del channel
    gc.collect()  # a ring and its names know each other
    assert open_files() == []


def test_reset_begins_a_new_file(recorder: Recorder, rings: Path) -> None:
    before = channel_of(recorder)
    kept = check_out(before)
    recorder.reset()
    after = channel_of(recorder)
    assert after is not before
    run(after)
    kept.returned()
    files = sorted(rings.glob("*.ring"))
    assert len(files) == 2
    old, new = sorted((read_file(path) for path in files), key=lambda process: process.alive)
    assert (old.alive, new.alive) == (False, True)
    assert (new.aliases["default"].in_use, new.aliases["default"].checkouts) == (0, 1)


def test_a_failure_is_logged_once_with_its_traceback(recorder: Recorder, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(3):
        try:
            raise RuntimeError("inner cause")
        except RuntimeError:
            recorder.failed()
    (record,) = caplog.records
    assert "recording failed" in record.getMessage()
    assert "inner cause" in caplog.text


def test_the_file_has_the_size_that_the_design_allows(rings: Path) -> None:
    recorder = started(rings, ring_size=65_536)
    channel_of(recorder)
    (path,) = rings.glob("*.ring")
    assert path.stat().st_size <= 16 * 2**20
    assert path.stat().st_blocks * 512 >= path.stat().st_size  # no hole that a full disk could not fill
    recorder.stop()
