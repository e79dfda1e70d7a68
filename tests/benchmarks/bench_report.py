"""How long pool_report takes on full rings, advice included: ``python -m tests.benchmarks.bench_report``.

Each ring is as large as with the default settings and full of requests with one checkout each, at random, for workers
whose connections are busy half of the time: the most requests that a ring can hold. The time is that of the whole
process, from its start to its end.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from example_project.servers import ROOT, ServerOptions
from pool_doctor.recording.directory import prepare
from pool_doctor.recording.snapshot import PoolSettings
from tests.report_rings import Worker

EVENTS = 65_536
RATE, HOLD = 150.0, 0.05


def fill(directory: Path, workers: int) -> list[Worker]:
    """Write the rings; they are in use as long as the workers that are returned are."""
    prepare(directory)
    chance = random.Random(1)
    made = []
    for _ in range(workers):
        worker = Worker(directory, threads=32, pool=PoolSettings(16, 16, 30.0), ring_size=EVENTS)
        moment = 0.0
        for _ in range(EVENTS // 2 + 1):
            moment += chance.expovariate(RATE)
            hold = chance.expovariate(1 / HOLD)
            worker.request(moment, moment + hold, (moment, 0.0, hold))
        made.append(worker)
    return made


def main() -> None:
    """Fill the rings, run the command some times with and without advice, and print how long it takes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "recordings"
        workers = fill(directory, options.workers)
        url = os.environ.get("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")
        environment = {**os.environ, **ServerOptions(max_size=16).environment(url, directory)}
        command = [sys.executable, str(ROOT / "example_project" / "manage.py"), "pool_report"]
        print(f"{len(workers)} full rings of {EVENTS:,} events; load average {os.getloadavg()[0]:.1f}")
        for more in (["--no-advice"], []):
            for _ in range(options.rounds):
                before = resource.getrusage(resource.RUSAGE_CHILDREN)
                began = time.perf_counter()
                subprocess.run([*command, *more], env=environment, check=True, stdout=subprocess.DEVNULL)
                seconds = time.perf_counter() - began
                after = resource.getrusage(resource.RUSAGE_CHILDREN)
                used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                print(f"{'without' if more else 'with'} advice: {seconds:.2f} s, {used:.2f} s of CPU", flush=True)


if __name__ == "__main__":
    main()
