"""Traces with known properties, made by hand or at random."""

from __future__ import annotations

import random

from pool_doctor.analysis.replay import Request, replay
from pool_doctor.analysis.trace import Checkout, Requests, Trace, TracedRequest


def trace(requests, **changes):
    """A trace of ``requests`` from a pool of 8 in workers with 8 threads, unless ``changes`` say otherwise."""
    requests = Requests(requests)
    known = {
        "start": 0.0,
        "end": max((request.end for request in requests), default=60.0),
        "policy": "request",
        "max_size": 8,
        "min_size": 8,
        "timeout": 30.0,
        "threads": 8,
        "connect_time": 0.01,
    }
    return Trace(requests, **(known | changes))


def recorded(plans, *, size, threads, scope="GET shop/", process=0, needs=lambda hold: ((0.0, hold),)):
    """Run (start, gap, hold, tail) through a real replay, and write down what a recorder would have seen.

    ``needs`` turns a hold into the segments, relative to its start, in which the connection was needed.
    """
    plans = sorted(plans)
    result = replay([Request(start, ((gap, hold),), tail) for start, gap, hold, tail in plans], size, threads)
    by_ask = sorted(
        (start + queued + gap, index)
        for index, ((start, gap, _, _), queued) in enumerate(zip(plans, result.thread_waits, strict=True))
    )
    for (asked, index), wait in zip(by_ask, result.waits, strict=True):
        start, gap, hold, tail = plans[index]
        begin = asked - gap
        needed = tuple((asked + wait + offset, time) for offset, time in needs(hold))
        checkout = Checkout(asked, wait, hold, needed)
        name = scope if isinstance(scope, str) else scope(index)
        yield TracedRequest(name, process, begin, asked + wait + hold + tail, (checkout,), begin - start)


def plans(seed, rate, hold, seconds, burst=1):
    """Arrivals at random, ``burst`` at a time, with exponential holds."""
    rng = random.Random(seed)
    moment = rng.expovariate(rate)
    while moment < seconds:
        for _ in range(burst):
            yield moment, 0.001, rng.expovariate(1 / hold), 0.001
        moment += rng.expovariate(rate)


def half_idle(hold):
    """Two queries of a tenth of the hold each, at its ends."""
    return ((0.0, hold / 10), (hold * 0.9, hold / 10))
