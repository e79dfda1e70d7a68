"""How long the replay of sizes 1 to 16 takes, intervals included: ``python tests/benchmarks/bench_replay.py``.

Each line is a process of its own, so that its peak of memory is its own too; the trace itself counts. With
``--processes 2`` (the default) it has others beside it, as pool_report and pool_simulate do; their peaks are added.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pool_doctor.analysis.advice import advise
from pool_doctor.analysis.simulate import WhatIf, simulate
from pool_doctor.analysis.trace import Checkout, Requests, Trace, TracedRequest

WORKERS, THREADS = 4, 16
RATE, HOLD = 150.0, 0.05


def traffic(number: int) -> Trace:
    """Requests at random for four workers whose connections are busy half of the time, with two queries each."""
    rng = random.Random(number)
    requests = Requests()
    moment = 0.0
    for process in range(WORKERS):
        moment = 0.0
        for _ in range(number // WORKERS):
            moment += rng.expovariate(RATE)
            hold = rng.expovariate(1 / HOLD)
            needed = ((moment, hold * 0.05), (moment + hold * 0.95, hold * 0.05))
            checkout = Checkout(moment, 0.0, hold, needed)
            requests.append(TracedRequest("GET shop/", process, moment, moment + hold, (checkout,)))
    return Trace(requests, 0.0, moment, "request", 32, 32, 30.0, threads=THREADS)


def measure(task: str, number: int, processes: int) -> tuple[float, float, float]:
    """Return seconds, seconds of processor time, and MB of memory at the peak, of all processes together."""
    trace = traffic(number)
    started, used = time.perf_counter(), time.process_time()
    if task == "advise":
        advise(trace, processes=processes)
    else:
        simulate(trace, range(1, 17), WhatIf(policy="query" if task == "query" else "request"), processes=processes)
    seconds, used = time.perf_counter() - started, time.process_time() - used
    others = multiprocessing.active_children()
    for other in others:
        other.join()
    theirs = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The system keeps the largest of the children's peaks; they do the same, so each has about that.
    peaks = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + len(others) * theirs.ru_maxrss
    return seconds, used + theirs.ru_utime + theirs.ru_stime, peaks / 1024


def main() -> None:
    """Print one line for each task and number of checkouts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkouts", type=int, nargs="+", default=[50_000, 150_000, 500_000])
    parser.add_argument("--tasks", nargs="+", choices=["request", "query", "advise"], default=["request", "advise"])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print(f"{'task':8} {'checkouts':>10} {'seconds':>8} {'CPU':>7} {'us each':>8} {'MB':>5}")
    context = multiprocessing.get_context("spawn")
    for task in options.tasks:
        for number in options.checkouts:
            # Not a Pool, whose processes may not have others beside them.
            with ProcessPoolExecutor(1, mp_context=context) as executor:
                seconds, used, memory = executor.submit(measure, task, number, options.processes).result()
            print(
                f"{task:8} {number:10,} {seconds:8.2f} {used:7.2f} {used / number * 1e6:8.2f} {memory:5.0f}", flush=True
            )


if __name__ == "__main__":
    main()
