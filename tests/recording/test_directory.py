"""The directory of ring files: private or refused, and cleared of what is past its time."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import directory, layout
from pool_doctor.recording.directory import DirectoryRefusedError, clear, default_directory, prepare, refusal
from pool_doctor.recording.reader import read_directory
from tests.recording.driving import channel_of, run, started

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.recording.programs import Program

IS_ROOT = os.geteuid() == 0
NOBODY = 65534
LONG_AGO = 1_000_000_000.0
LAST_MINUTE = slice(layout.LAST_MINUTE * layout.WORD, (layout.LAST_MINUTE + 1) * layout.WORD)


def mode(path: Path) -> int:
    """Return a path's permissions."""
    return stat.S_IMODE(path.stat().st_mode)


def someone_elses(tmp_path: Path) -> Path:
    """Return a directory that belongs to another user."""
    if not IS_ROOT:
        return Path("/usr")
    found = tmp_path / "theirs"
    found.mkdir(mode=0o700)
    os.chown(found, NOBODY, NOBODY)
    return found


def ended_file(rings: Path, changed: float | None = None) -> Path:
    """Return the ring file of an ended process that was last changed at that time."""
    before = set(rings.glob("*.ring")) if rings.exists() else set()
    recorder = started(rings, retention=1e10)
    run(channel_of(recorder))
    recorder.stop()
    (path,) = set(rings.glob("*.ring")) - before
    if changed is not None:
        data = bytearray(path.read_bytes())
        header = layout.parse_header(bytes(data))
        layout.HEADER.pack_into(
            data,
            0,
            layout.MAGIC,
            layout.VERSION,
            header.ring_size,
            header.pid,
            0,
            changed,
            header.started,
            b"",
            b"",
            b"",
        )
        data[layout.LAST_MINUTE * layout.WORD :][: layout.WORD] = bytes(layout.WORD)
        path.write_bytes(bytes(data))
        os.utime(path, (changed, changed))
    return path


def test_each_directory_that_is_made_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        prepare(tmp_path / "a" / "b" / "rings")
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/rings")] == [0o700] * 3


def test_the_file_is_private_whatever_the_umask(rings: Path) -> None:
    before = os.umask(0)
    try:
        path = ended_file(rings)
    finally:
        os.umask(before)
    assert mode(path) == 0o600


def test_a_directory_that_is_there_is_used_as_it_is(rings: Path) -> None:
    rings.mkdir(mode=0o700)
    prepare(rings)
    prepare(rings)
    assert refusal(rings) is None


@pytest.mark.parametrize("permissions", [0o710, 0o701, 0o770, 0o755, 0o777, 0o1777])
def test_a_directory_open_to_others_is_refused(rings: Path, permissions: int) -> None:
    rings.mkdir()
    rings.chmod(permissions)
    with pytest.raises(DirectoryRefusedError, match=rf"{rings} has mode 0?{permissions:o}, open to other users"):
        prepare(rings)
    assert mode(rings) == permissions


def test_a_link_is_refused(rings: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    rings.symlink_to(tmp_path / "real")
    with pytest.raises(DirectoryRefusedError, match=f"{rings} is a link"):
        prepare(rings)
    (reason,) = read_directory(rings).problems
    assert "is a link" in reason


def test_a_dangling_link_is_refused(rings: Path, tmp_path: Path) -> None:
    rings.symlink_to(tmp_path / "nowhere")
    with pytest.raises(DirectoryRefusedError, match="is a link"):
        prepare(rings)
    assert not (tmp_path / "nowhere").exists()


def test_a_file_is_refused(rings: Path) -> None:
    rings.touch(mode=0o600)
    with pytest.raises(DirectoryRefusedError, match=f"{rings} is not a directory"):
        prepare(rings)


def test_a_path_below_a_file_is_refused(rings: Path) -> None:
    rings.touch(mode=0o600)
    with pytest.raises(DirectoryRefusedError, match="can't be made: Not a directory"):
        prepare(rings / "below")


def test_someone_elses_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DirectoryRefusedError, match=r"belongs to user id \d+, not to this process's user"):
        prepare(someone_elses(tmp_path))


def test_the_superuser_reads_someone_elses_directory_and_nobody_else_does(tmp_path: Path) -> None:
    reason = refusal(someone_elses(tmp_path))
    assert reason is None if IS_ROOT else "belongs to user id" in reason


def test_a_planted_parent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    tmp_path.chmod(0o1777)
    rings = default_directory("/srv/shop")
    if IS_ROOT:
        rings.parent.mkdir(mode=0o700)
        os.chown(rings.parent, NOBODY, NOBODY)
    else:
        rings.parent.symlink_to("/usr")
    with pytest.raises(DirectoryRefusedError, match=r"belongs to user id|is a link"):
        prepare(rings)
    assert not (rings.parent / rings.name).exists()


def test_an_open_parent_of_our_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rings = default_directory("/srv/shop")
    rings.parent.mkdir()
    rings.parent.chmod(0o777)
    with pytest.raises(DirectoryRefusedError, match="open to other users"):
        prepare(rings)


def test_projects_and_users_have_directories_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [default_directory(project) for project in ("/srv/shop", "/home/me/shop", "/srv/shöp ../x", "")]
    assert len(set(paths)) == 4
    for path in paths:
        assert path.parent == Path(tempfile.gettempdir()) / f"pool_doctor-{os.getuid()}"
        assert path.name.isascii()
        assert "/" not in path.name
    monkeypatch.setattr(os, "getuid", lambda: 4711)
    assert default_directory("/srv/shop").parent.name == "pool_doctor-4711"


@pytest.mark.parametrize("plant", [Path.symlink_to, Path.hardlink_to])
def test_a_planted_link_is_never_followed(
    rings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path, Path], None]
) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    rings.mkdir(mode=0o700)
    monkeypatch.setattr("pool_doctor.recording.ring.time.time_ns", lambda: 0xABC)
    for suffix in (directory.SUFFIX, directory.DRAFT_SUFFIX):
        plant(rings / f"{os.getpid()}-abc{suffix}", target)
    recorder = started(rings)
    run(channel_of(recorder))
    recorder.stop()
    assert target.read_text() == "precious"


def test_files_past_their_time_go_and_others_stay(rings: Path) -> None:
    old, young = ended_file(rings, LONG_AGO), ended_file(rings)
    clear(rings, LONG_AGO - 1)
    assert old.exists()
    clear(rings, LONG_AGO + 61)
    assert not old.exists()
    assert young.exists()


def test_the_cap_keeps_the_newest(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "MAX_ENDED_FILES", 3)
    paths = [ended_file(rings, LONG_AGO + number * 3600) for number in range(5)]
    clear(rings, 0.0)
    assert [path.exists() for path in paths] == [False, False, True, True, True]


def test_a_new_process_clears(rings: Path) -> None:
    old = ended_file(rings, LONG_AGO)
    recorder = started(rings, retention=3600.0)
    channel_of(recorder)
    assert not old.exists()
    assert len(list(rings.glob("*.ring"))) == 1
    recorder.stop()


def test_live_files_are_never_touched(
    rings: Path, program: Callable[..., Program], monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = [program("work_and_wait") for _ in range(3)]
    assert [each.heard() for each in programs] == ["ready"] * 3
    live = sorted(rings.glob("*.ring"))
    assert len(live) == 3
    for path in live:
        os.utime(path, (LONG_AGO, LONG_AGO))
    monkeypatch.setattr(directory, "MAX_ENDED_FILES", 0)
    clear(rings, 1e12)
    assert sorted(rings.glob("*.ring")) == live
    programs[0].kill()
    clear(rings, 1e12)
    assert len(list(rings.glob("*.ring"))) == 2


def test_files_that_cannot_be_read_go_by_their_date(rings: Path) -> None:
    ended_file(rings)
    names = ("empty", "random", "future")
    for name, content in zip(names, (b"", os.urandom(4096), layout.MAGIC + b"\x63" * 4096), strict=True):
        (rings / f"{name}.ring").write_bytes(content)
    clear(rings, LONG_AGO)
    assert all((rings / f"{name}.ring").exists() for name in names)
    for name in names:
        os.utime(rings / f"{name}.ring", (LONG_AGO, LONG_AGO))
    clear(rings, LONG_AGO + 1)
    assert not any((rings / f"{name}.ring").exists() for name in names)


def test_a_header_that_claims_the_future_is_not_believed(rings: Path) -> None:
    path = ended_file(rings)
    data = bytearray(path.read_bytes())
    data[LAST_MINUTE] = b"\xff" * layout.WORD
    path.write_bytes(bytes(data))
    clear(rings, 1e10)
    assert not path.exists()


def test_what_cannot_be_removed_stops_nothing(rings: Path) -> None:
    old = ended_file(rings, LONG_AGO)
    (rings / "a.ring").mkdir()
    (rings / "b.ring").symlink_to(rings / "nowhere")
    os.mkfifo(rings / "c.ring")
    recorder = started(rings, retention=0.0)
    channel_of(recorder)
    assert recorder.problem is None
    assert not old.exists()
    assert (rings / "a.ring").is_dir()
    recorder.stop()


def test_drafts_of_killed_processes_go_and_others_stay(rings: Path) -> None:
    prepare(rings)
    old, new = rings / "1-a.new", rings / "2-b.new"
    for draft in (old, new):
        draft.touch(mode=0o600)
    os.utime(old, (LONG_AGO, LONG_AGO))
    clear(rings, 1e12)
    assert not old.exists()
    assert new.exists()


def test_a_ring_file_is_whole_as_soon_as_it_has_its_name(rings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listings: list[list[str]] = []
    rename = Path.rename

    def watch(draft: Path, path: Path) -> Path:
        listings.append([file.name for file in directory.files(rings)])
        renamed = rename(draft, path)
        (process,) = read_directory(rings).processes
        assert process.alive
        return renamed

    monkeypatch.setattr(Path, "rename", watch)
    recorder = started(rings)
    channel_of(recorder)
    assert listings == [[]]
    assert not list(rings.glob("*.new"))
    recorder.stop()


def test_no_directory_is_no_files(tmp_path: Path) -> None:
    assert directory.files(tmp_path / "none") == []
    clear(tmp_path / "none", 1e12)
    recordings = read_directory(tmp_path / "none")
    assert (recordings.processes, recordings.problems) == ([], [])
