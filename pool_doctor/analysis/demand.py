"""What the traffic asks of its pools: rates, levels, peaks, and how unevenly it comes. Durations are seconds."""

from __future__ import annotations

import statistics
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pool_doctor.analysis._checks import share
from pool_doctor.analysis.counterfactual import held_at_once
from pool_doctor.analysis.trace import MinutePeak

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pool_doctor.analysis.trace import Trace

Span = tuple[float, float]
"""From when to when."""

MINUTE = 60.0
FEWEST_SECONDS = 10
"""Fewer whole seconds say nothing about how unevenly checkouts come."""

THREAD_WAIT = 0.001
"""A request that spent this long between the server and the application waited for a thread; in seconds."""


@dataclass(frozen=True, slots=True)
class Levels:
    """For how long 0, 1, 2... connections of one pool were in use."""

    seconds: Sequence[float]

    @property
    def mean(self) -> float:
        """The mean level over time; 0 when no time passed."""
        total = sum(self.seconds)
        return sum(level * time for level, time in enumerate(self.seconds)) / total if total else 0.0

    @property
    def peak(self) -> int:
        """The highest level that was reached."""
        return len(self.seconds) - 1

    def quantile(self, p: float) -> int:
        """Return the lowest level that was not exceeded for the share ``p`` of the time."""
        left = share("p", p) * sum(self.seconds) * (1 - 1e-12)
        for level, time in enumerate(self.seconds):
            left -= time
            if left <= 0:
                return level
        return self.peak


@dataclass(frozen=True, slots=True)
class Demand:
    """The traffic of a trace in numbers."""

    requests: int
    checkouts: int
    timeouts: int
    rate: float
    """Checkouts a second, over all processes."""
    busy_mean: float
    """Connections in use on average, over all processes (Little's law: the sum of all holds, over the time)."""
    levels: Levels
    """For how long a pool had how many connections in use, added up over the processes."""
    dispersion: float | None
    """Variance over mean of the checkouts per second: 1 when they come at random, more in bursts; None if too short."""
    held_at_once: int
    """The most connections that one request had at the same time."""
    held_at_once_by: str | None
    """The scope of that request."""
    thread_waits: float | None
    """The share of requests that waited for a thread first; None where the server says nothing about it."""


def demand(trace: Trace) -> Demand:
    """Measure the traffic of ``trace``."""
    seconds = trace.seconds
    busy = 0.0
    asked_at = array("d")
    timeouts = most = told = queued = 0
    most_by = None
    for request in trace.requests:
        for start, _, hold, _, outcome in request.checkouts:
            asked_at.append(start)
            busy += hold
            timeouts += outcome == "timeout"
        if len(request.checkouts) > most and (at_once := held_at_once(request)) > most:
            most, most_by = at_once, request.scope
        if request.queued is not None:
            told += 1
            queued += request.queued > THREAD_WAIT
    return Demand(
        requests=len(trace.requests),
        checkouts=len(asked_at),
        timeouts=timeouts,
        rate=len(asked_at) / seconds if seconds else 0.0,
        busy_mean=busy / seconds if seconds else 0.0,
        levels=pool_levels(trace),
        dispersion=dispersion(asked_at, trace.start, trace.end),
        held_at_once=most,
        held_at_once_by=most_by,
        thread_waits=queued / told if told else None,
    )


def holds_by_process(trace: Trace) -> dict[int, list[Span]]:
    """Return when each process had connections in use."""
    spans: dict[int, list[Span]] = defaultdict(list)
    for request in trace.requests:
        for start, wait, hold, _, outcome in request.checkouts:
            if outcome == "ok":
                spans[request.process].append((start + wait, start + wait + hold))
    return dict(spans)


def levels(spans: Iterable[Span], start: float, end: float) -> Levels:
    """Return for how long between ``start`` and ``end`` how many of ``spans`` were open."""
    inside = [(max(begin, start), min(until, end)) for begin, until in spans if until > start and begin < end]
    begins = sorted(begin for begin, _ in inside)
    ends = sorted(until for _, until in inside)
    times = [0.0]
    level = opened = 0
    now = start
    for until in ends:
        # At one and the same moment, what ends makes room for what begins.
        while opened < len(begins) and begins[opened] < until:
            times[level] += begins[opened] - now
            now = begins[opened]
            opened += 1
            level += 1
            if level == len(times):
                times.append(0.0)
        times[level] += until - now
        now = until
        level -= 1
    times[0] += max(0.0, end - now)
    return Levels(times)


def pool_levels(trace: Trace) -> Levels:
    """Return `levels` of each process's pool, added up."""
    total: list[float] = [0.0]
    for spans in holds_by_process(trace).values():
        times = levels(spans, trace.start, trace.end).seconds
        total.extend([0.0] * (len(times) - len(total)))
        for level, time in enumerate(times):
            total[level] += time
    return Levels(total)


def dispersion(moments: Iterable[float], start: float, end: float) -> float | None:
    """Return variance over mean of how many ``moments`` fall into each whole second; None if there are too few."""
    cells = int(end - start)
    if cells < FEWEST_SECONDS:
        return None
    counts = Counter(int(moment - start) for moment in moments)
    per_second = [counts[cell] for cell in range(cells)]
    mean = statistics.fmean(per_second)
    return statistics.pvariance(per_second, mean) / mean if mean else None


def minute_peaks(trace: Trace) -> list[MinutePeak]:
    """Return the peak of the busiest process for each minute of the recording, the longer history included."""
    peaks = {minute.start: minute.peak for minute in trace.minutes}
    for spans in holds_by_process(trace).values():
        changes = sorted([(begin, 1) for begin, _ in spans] + [(until, -1) for _, until in spans])
        level = 0
        minute = trace.start
        for moment, change in changes:
            while moment >= minute + MINUTE:
                minute += MINUTE
                peaks[minute] = max(peaks.get(minute, 0), level)
            level += change
            peaks[minute] = max(peaks.get(minute, 0), level)
    return [MinutePeak(start, peak) for start, peak in sorted(peaks.items())]
