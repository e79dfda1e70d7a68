"""What tests run in a process of its own: python -m tests.recording.programs NAME DIRECTORY ARGUMENTS...

A program says a line when a step is done, and takes its next step when a line is said to it.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pool_doctor.recording import layout
from pool_doctor.recording.checkout import OwnConnection
from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.scope import Scope, current
from tests.recording.driving import channel_of, check_out, options, query, run

if TYPE_CHECKING:
    from types import TracebackType

    from pool_doctor.recording.channel import Channel

ROOT = Path(__file__).parents[2]


class Program:
    """A running program, seen from the test."""

    def __init__(self, name: str, directory: Path, *arguments: object) -> None:
        command = [sys.executable, "-W", "error", "-m", "tests.recording.programs", name, str(directory)]
        self.process = subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=ROOT,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.pid = self.process.pid
        self._unread = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def heard(self) -> str:
        """Return the next line that the program says."""
        stdout = self.process.stdout.fileno()
        while "\n" not in self._unread:
            with selectors.DefaultSelector() as selector:
                selector.register(stdout, selectors.EVENT_READ)
                assert selector.select(timeout=60), "the program says nothing"
            said = os.read(stdout, 4096).decode()
            assert said, self.process.stderr.read()
            self._unread += said
        line, _, self._unread = self._unread.partition("\n")
        return line

    def tell(self, line: str = "") -> None:
        """Let the program take its next step."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        """Kill the program with SIGKILL, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def ends_well(self) -> None:
        """Wait for the program's end; fail where it complained."""
        _, complaints = self.process.communicate(timeout=60)
        assert (self.process.returncode, complaints) == (0, "")


def say(line: object) -> None:
    """Say a line to the test."""
    print(line, flush=True)


def wait() -> None:
    """Wait until the test says a line."""
    sys.stdin.readline()


def opened(directory: Path, ring_size: int = 1024) -> Channel:
    """Record into the directory."""
    recorder.start(options(directory, ring_size))
    return channel_of(recorder)


def work_and_wait(directory: Path, runs: str = "3", held: str = "0") -> None:
    """Do some runs, keep some connections, and wait."""
    channel = opened(directory)
    kept = [check_out(channel) for _ in range(int(held))]
    for _ in range(int(runs)):
        run(channel)
    say("ready")
    wait()
    say(len(kept))


def hammer(directory: Path, threads: str) -> None:
    """Record events whose fields all follow from their start, as fast as possible, until killed."""
    ring = opened(directory).ring

    def record() -> None:
        number = 0
        while True:
            number += 1
            sums = [number * factor for factor in range(1, 7)]
            ring.record(layout.REQUEST, 0, 0, 0, number % 7, number % 11, number & 0xFFFF, 5, 6, *sums)

    for _ in range(int(threads)):
        threading.Thread(target=record, daemon=True).start()
    say("ready")
    wait()


def fork_and_work(directory: Path) -> None:
    """Fork with connections open; work in the child, end what the parent opened, and wait in both."""
    channel = opened(directory)
    scope = Scope("GET parent/", "wsgi")
    current.set(scope)
    unpooled = channel_of(recorder, "other", None)
    own = OwnConnection(unpooled)
    kept = [check_out(channel), check_out(unpooled)]
    query(kept[0])
    say("ready")
    wait()
    if os.fork():
        wait()
        say("parent")
        os.wait()
        return
    del own
    kept[0].query_started()
    kept[0].need_ended()
    kept[0].returned()
    scope.rename("GET child/")
    scope.end(recorder.ring)
    del kept
    current.set(None)
    run(channel_of(recorder), "child work")
    say(os.getpid())
    recorder.stop()
    os._exit(0)


def fork_and_stay(directory: Path) -> None:
    """Fork with a scope open, say the child's process id, and let the child outlive the parent."""
    channel = opened(directory)
    current.set(Scope("GET parent/", "wsgi"))
    kept = check_out(channel)
    child = os.fork()
    if child:
        wait()
        os._exit(0)
    say(os.getpid())  # only now is the parent's file the parent's alone
    sys.stdin.read()  # until the test is over
    os._exit(0 if kept else 1)


def _child_work(directory: Path | None) -> None:
    run(channel_of(recorder) if directory is None else opened(directory), "child work")


def multiprocess(directory: Path, method: str) -> None:
    """Work in a child made by multiprocessing, while the parent holds a connection."""
    channel = opened(directory)
    kept = check_out(channel)
    context = multiprocessing.get_context(method)
    child = context.Process(target=_child_work, args=(None if method == "fork" else directory,))
    child.start()
    child.join()
    say(child.pid if child.exitcode == 0 else "failed")
    wait()
    kept.returned()


def as_nobody(directory: Path) -> None:
    """Read the directory without the rights of root, and say what the reader complains of."""
    if os.geteuid() == 0:
        os.setegid(65534)
        os.seteuid(65534)
    for problem in read_directory(directory).problems:
        say(problem)
    say("end")


def limited(directory: Path, size: str) -> None:
    """Work with files limited to a size; say what the recorder's problem is, and what it counted all the same."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))
    channel = opened(directory)
    run(channel)
    say(recorder.problem)
    say(sum(channel.hold))


if __name__ == "__main__":
    globals()[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
