"""What reading costs: the full ring files of 16 processes, as pool_report reads them.

    python -m tests.benchmarks.bench_reading [--files 16] [--events 65536] [--rounds 5]

Each file is as large as with the default settings, every slot of its ring is written, and a quarter of the events are
requests, a quarter checkouts, and half needed segments. Each measurement is a process of its own: the table shows the
median time of read_directory(), and the peak of the whole process's memory, interpreter included.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.recorder import Recorder
from pool_doctor.recording.scope import Scope, current
from tests.recording.driving import channel_of, check_out, options, query

EVENTS_PER_RUN = 4


def write_files(directory: Path, files: int, events: int) -> None:
    """Fill one ring by driving the recorder, and copy it for the other processes."""
    recorder = Recorder()
    recorder.start(options(directory, ring_size=events))
    channel = channel_of(recorder)
    for number in range(events // EVENTS_PER_RUN + 1):
        scope = Scope(f"GET orders/{number % 40}/", "wsgi")
        current.set(scope)
        checkout = check_out(channel, f"shop/views.py:{number % 200} view")
        query(checkout)
        checkout.need_ended()
        checkout.needed_since = time.monotonic_ns()
        query(checkout)
        checkout.need_ended()
        checkout.returned()
        current.set(None)
        scope.end(channel.ring)
    recorder.stop()
    (first,) = directory.glob("*.ring")
    for number in range(1, files):
        shutil.copy(first, directory / f"{number}-copy.ring")


def measure(directory: Path, since: float | None) -> None:
    """Read the directory once; print seconds, seconds of CPU time, and peak memory in MB."""
    began, worked = time.perf_counter(), time.process_time()
    recordings = read_directory(directory, since)
    seconds, work = time.perf_counter() - began, time.process_time() - worked
    assert not recordings.problems, recordings.problems
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, work, memory / (1 << 20 if sys.platform == "darwin" else 1 << 10))


def measured(directory: Path, since: float | None, rounds: int) -> list[float]:
    """Return the medians over some processes that read the directory: seconds, CPU seconds, peak memory."""
    arguments = ["--measure", str(directory), *(["--since", str(since)] if since is not None else [])]
    command = [sys.executable, "-m", "tests.benchmarks.bench_reading", *arguments]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(rounds)]
    return [
        statistics.median(column)
        for column in zip(*([float(word) for word in line.split()] for line in outputs), strict=True)
    ]


def main() -> None:
    """Write the files, read them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=16)
    parser.add_argument("--events", type=int, default=65_536)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--since", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.since)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory)
        write_files(path, given.files, given.events)
        oldest = min(process.started_at for process in read_directory(path).processes)
        rows = [
            (name, *measured(path, since, given.rounds))
            for name, since in (("from the start", None), ("a window over everything", oldest + 1e-6))
        ]
        size = sum(file.stat().st_size for file in path.glob("*.ring")) / (1 << 20)
    print(f"{given.files} files of {given.events} events, {size:.0f} MB in all; Python {sys.version.split()[0]}")
    print(tabulate(rows, ("read", "seconds", "of CPU", "peak memory (MB)"), floatfmt=".2f"))


if __name__ == "__main__":
    main()
