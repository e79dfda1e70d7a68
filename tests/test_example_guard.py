"""A guarded command ends with its owner, whatever becomes of that."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from example_project import guard as guard_module
from example_project.guard import Guard
from example_project.servers import ROOT
from tests.waiting import until

pytestmark = pytest.mark.heavy

# A leader with a worker, of whom only the leader is told to stop.
LEADER = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)'])"
OWNER = """
import sys, time
from pathlib import Path
from example_project.guard import Guard
guard = Guard([sys.executable, "-c", sys.argv[1]], remove=[Path(sys.argv[2])])
print(guard.pid, flush=True)
time.sleep(600)
"""


def runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # since it was asked
        return False


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [process for process in processes if runs(process)]


def family(pid: int, size: int) -> list[psutil.Process]:
    """Wait until a process has `size` descendants, and return them."""
    process = psutil.Process(pid)
    until(lambda: len(process.children(recursive=True)) >= size)
    return process.children(recursive=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_command_and_its_workers_end_with_their_owner(tmp_path: Path, number: signal.Signals) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, LEADER, directory], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert int(owner.stdout.readline())
        processes = family(owner.pid, 3)
        owner.send_signal(number)
        until(lambda: not alive(processes), what="the end of the guard, the command and its worker")
        until(lambda: not directory.exists(), what="the end of the directory")


def test_stop_returns_after_the_end_of_everything(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    directory.mkdir()
    guard = Guard([sys.executable, "-c", LEADER], remove=[directory], output=subprocess.DEVNULL)
    assert guard.pid is not None
    processes = [psutil.Process(guard.pid), *family(guard.pid, 1)]
    guard.stop()
    assert not alive(processes)
    assert not directory.exists()
    assert not guard.running()


def test_workers_end_when_their_leader_was_killed() -> None:
    guard = Guard([sys.executable, "-c", LEADER], output=subprocess.DEVNULL)
    assert guard.pid is not None
    workers = family(guard.pid, 1)
    os.kill(guard.pid, signal.SIGKILL)
    guard.wait()
    until(lambda: not alive(workers))


def test_a_command_that_ignores_requests_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A copy with short patience: the guard is a script of its own and reads no settings.
    script = tmp_path / "guard.py"
    patient = Path(guard_module.__file__).read_text()
    script.write_text(patient.replace("5.0", "0.2").replace("6.0", "0.2"))
    monkeypatch.setattr(guard_module, "__file__", str(script))
    stubborn = (
        "import signal, sys, time\n"
        "for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)\n"
        f"open({str(tmp_path / 'ready')!r}, 'w')\n"
        "time.sleep(600)"
    )
    guard = Guard([sys.executable, "-c", stubborn])
    until((tmp_path / "ready").exists)
    guard.stop()
    assert not guard.running()


def test_a_forked_child_of_the_owner_does_not_keep_the_command_alive() -> None:
    guard = Guard([sys.executable, "-c", LEADER], output=subprocess.DEVNULL)
    # It inherits the pipe whose end tells the guard that the owner is gone.
    child = multiprocessing.get_context("fork").Process(target=signal.pause)
    child.start()
    try:
        guard.stop()
        assert not guard.running()
    finally:
        child.kill()
        child.join()


def test_a_forked_child_does_not_hide_the_end_of_its_owner() -> None:
    fork_first = "import os, signal\npid = None\n"
    program = OWNER.replace("time.sleep(600)", "os.fork() or signal.pause()\ntime.sleep(600)")
    with subprocess.Popen(
        [sys.executable, "-c", fork_first + program, LEADER, "/nonexistent/data"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        command = psutil.Process(int(owner.stdout.readline()))
        forked = family(owner.pid, 4)
        owner.kill()
        until(lambda: not alive([command]), what="the end of the command")
        for process in alive(forked):
            process.kill()


def test_a_command_that_cannot_be_started_has_ended(capfd: pytest.CaptureFixture[str]) -> None:
    guard = Guard(["/nonexistent/program"])
    assert guard.pid is None
    assert guard.wait() != 0
    assert "/nonexistent/program" in capfd.readouterr().err
