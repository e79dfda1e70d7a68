"""Processes: forks write into files of their own, the killed leave all they recorded, and the dead hold nothing."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout
from pool_doctor.recording.reader import read_directory
from tests.recording.driving import read_one, since_the_start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pool_doctor.recording.snapshot import ProcessSnapshot
    from tests.recording.programs import Program


def by_pid(rings: Path) -> dict[int, ProcessSnapshot]:
    """Read a directory without problems in it."""
    recordings = read_directory(rings)
    assert recordings.problems == []
    return {process.pid: process for process in recordings.processes}


def test_the_killed_leave_all_that_they_recorded(program: Callable[..., Program], rings: Path) -> None:
    worker = program("work_and_wait", 300, 2)
    assert worker.heard() == "ready"
    alive = read_one(rings)
    assert (alive.pid, alive.alive, len(alive.aliases["default"].open)) == (worker.pid, True, 2)
    worker.kill()
    dead = read_one(rings)
    assert (dead.pid, dead.alive) == (worker.pid, False)
    alias = dead.aliases["default"]
    assert (alias.open, alias.in_use, alias.waiting, alias.size) == ([], 0, 0, 0)
    assert (alias.checkouts, alias.hold.count, alias.peak_in_use) == (302, 300, 3)
    assert alias.scopes["GET orders/"].requests == 300
    window = read_one(rings, since_the_start(rings))
    assert window.aliases["default"].scopes["GET orders/"].requests == 300


def test_the_dead_are_listed_after_the_living(program: Callable[..., Program], rings: Path) -> None:
    first, second = (program("work_and_wait") for _ in range(2))
    assert (first.heard(), second.heard()) == ("ready", "ready")
    first.kill()
    assert [process.alive for process in read_directory(rings).processes] == [True, False]


def test_a_forked_child_writes_into_its_own_file_only(program: Callable[..., Program], rings: Path) -> None:
    parent = program("fork_and_work")
    assert parent.heard() == "ready"
    (path,) = rings.glob("*.ring")
    before = path.read_bytes()
    parent.tell()
    child = int(parent.heard())
    found = by_pid(rings)
    while found[child].alive:  # it has told us its work is done, and is about to end
        found = by_pid(rings)
    assert path.read_bytes() == before
    assert set(found) == {parent.pid, child}
    assert found[parent.pid].alive
    assert {name: len(alias.open) for name, alias in found[parent.pid].aliases.items()} == {"default": 1, "other": 1}
    assert found[parent.pid].aliases["other"].size == 1
    alias = found[child].aliases["default"]
    assert (alias.checkouts, alias.hold.count, alias.in_use, alias.peak_in_use) == (1, 1, 0, 1)
    assert set(alias.scopes) == {"child work"}
    assert set(found[child].aliases) == {"default"}
    parent.tell()
    assert parent.heard() == "parent"
    parent.ends_well()


def test_a_parent_is_dead_when_it_is_dead_though_its_child_lives(program: Callable[..., Program], rings: Path) -> None:
    parent = program("fork_and_stay")
    child = int(parent.heard())
    assert read_one(rings).alive
    parent.kill()
    os.kill(child, 0)
    process = read_one(rings)
    assert (process.pid, process.alive, process.aliases["default"].open) == (parent.pid, False, [])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_have_files_of_their_own(
    program: Callable[..., Program], rings: Path, method: str
) -> None:
    parent = program("multiprocess", method)
    child = int(parent.heard())
    found = by_pid(rings)
    assert set(found) == {parent.pid, child}
    assert found[parent.pid].alive
    assert not found[child].alive
    assert (found[parent.pid].aliases["default"].checkouts, len(found[parent.pid].aliases["default"].open)) == (1, 1)
    assert found[child].aliases["default"].checkouts == 1
    parent.tell()
    parent.ends_well()


def test_a_file_of_another_boot_is_of_a_dead_process(program: Callable[..., Program], rings: Path) -> None:
    worker = program("work_and_wait", 3, 1)
    assert worker.heard() == "ready"
    (path,) = rings.glob("*.ring")
    data = path.read_bytes()
    header = layout.parse_header(data)
    if not header.boot:
        pytest.skip("this system has no boot id")
    with path.open("r+b") as file:
        file.seek(data.index(header.boot.encode()))
        file.write(b"another!")
    process = read_one(rings)
    assert (process.alive, process.aliases["default"].open) == (False, [])


def test_the_python_of_the_programs_is_the_one_of_the_tests(program: Callable[..., Program]) -> None:
    worker = program("work_and_wait")
    assert worker.process.args[0] == sys.executable
    assert worker.heard() == "ready"
    worker.tell()
    assert worker.heard() == "0"
    worker.ends_well()
