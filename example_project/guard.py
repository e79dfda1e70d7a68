"""Runs a server that must not outlive the process that started it, however that process ends.

`Guard` is the owner's side. It starts this file as a small process in a session of its own, which runs the
command and stops it when the owner asks for that or is gone: after kill -9 of the owner nobody else could.
Standard library only, and nothing of this project, because the file also runs as a script.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# After the first request to end, with the seconds to wait after each: end now, be killed.
LATER_STEPS = ((signal.SIGQUIT, 6.0), (signal.SIGKILL, 5.0))
FIRST_STEP_SECONDS = 5.0
OWNER_CHECK_INTERVAL = 1.0
GROUP_END_DEADLINE = 2.0


@dataclass(frozen=True)
class User:
    """The account that a command runs as."""

    name: str
    uid: int
    gid: int


class Guard:
    """A running command that ends, with its process group, when the process that made this object ends.

    `output` receives what the command writes. The directories of `remove` are deleted after it has ended.
    `locks` are file descriptors that stay open for as long as the guard lives. `stop_signal` is the first request
    to end: SIGINT means soon, and not when the last client has gone, to PostgreSQL, gunicorn and uvicorn alike.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        output: IO[bytes] | int | None = None,
        user: User | None = None,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        remove: Sequence[Path] = (),
        locks: Sequence[int] = (),
        stop_signal: signal.Signals = signal.SIGINT,
    ) -> None:
        pid_reader, pid_writer = os.pipe()
        options = ["--owner", str(os.getpid()), "--pid-fd", str(pid_writer), "--stop-signal", str(int(stop_signal))]
        if user is not None:
            options += ["--uid", str(user.uid), "--gid", str(user.gid)]
        for path in remove:
            options += ["--remove", str(path)]
        with os.fdopen(pid_reader) as reader:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", __file__, *options, "--", *command],
                    stdin=subprocess.PIPE,
                    stdout=output,
                    stderr=output,
                    env=env,
                    cwd=cwd,
                    pass_fds=(pid_writer, *locks),
                    start_new_session=True,
                )
            finally:
                os.close(pid_writer)
            line = reader.readline()
        #: The process id of the command, or None when it could not be started.
        self.pid = int(line) if line else None

    def running(self) -> bool:
        """Whether the command still runs."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait until the command has ended by itself, and return its exit status."""
        status = self._process.wait()
        # Only now: closed earlier, it would ask the guard to stop.
        self._process.communicate()
        return status

    def stop(self) -> None:
        """Stop the command; return when it has ended and its directories are gone."""
        # A signal, because a forked child of the owner may hold a copy of the pipe whose end would say it.
        self._process.terminate()
        self._process.communicate()


def run(command: Sequence[str], *, env: Mapping[str, str], locks: Sequence[int] = ()) -> int:
    """Run a command that ends by itself, under a guard, and return its exit status."""
    # To an ordinary program SIGINT is worth a traceback.
    guard = Guard(command, env=env, locks=locks, stop_signal=signal.SIGTERM)
    try:
        return guard.wait()
    finally:
        guard.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command until it, or the owner, ends; then leave nothing of it behind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--owner", type=int, required=True)
    parser.add_argument("--pid-fd", type=int, required=True)
    parser.add_argument("--stop-signal", type=int, required=True)
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("--remove", action="append", default=[])
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(arguments)
    wake_up, terminated = _listen_for_signals()
    try:
        child = subprocess.Popen(
            options.command,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            user=options.uid,
            group=options.gid,
            extra_groups=None if options.uid is None else [],
        )
        os.write(options.pid_fd, b"%d\n" % child.pid)
        os.close(options.pid_fd)
        while child.poll() is None and not terminated and os.getppid() == options.owner:
            ready, _, _ = select.select([sys.stdin, wake_up], [], [], OWNER_CHECK_INTERVAL)
            if sys.stdin in ready:
                break
            if wake_up in ready:
                os.read(wake_up, 1024)
        _stop(child, options.stop_signal)
    finally:
        for path in options.remove:
            shutil.rmtree(path, ignore_errors=True)
    return child.returncode


def _listen_for_signals() -> tuple[int, list[int]]:
    """Return a descriptor that each signal makes readable, and a list that a request to end fills."""
    wake_up, wake_up_writer = os.pipe()
    os.set_blocking(wake_up_writer, False)
    signal.set_wakeup_fd(wake_up_writer)
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: terminated.append(number))
    # Handlers rather than SIG_IGN, which the command would inherit.
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    return wake_up, terminated


def _stop(child: subprocess.Popen[bytes], first: int) -> None:
    for number, patience in ((first, FIRST_STEP_SECONDS), *LATER_STEPS):
        if child.poll() is not None:
            break
        child.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(patience)
    # Workers of a server that was killed. Nobody else has the group's number while one of them lives.
    deadline = time.monotonic() + GROUP_END_DEADLINE
    with contextlib.suppress(ProcessLookupError, PermissionError):
        while time.monotonic() < deadline:
            os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.01)


if __name__ == "__main__":
    sys.exit(main())
