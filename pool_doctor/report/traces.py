"""Ring files to traces: what each database's workers asked of their pools, on one clock, as the analysis reads it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pool_doctor.analysis.trace import OUTCOMES, RECORDED_POLICIES, Checkout, MinutePeak, Requests, Trace, TracedRequest
from pool_doctor.recording.image import event_end
from pool_doctor.recording.reader import read_image
from pool_doctor.recording.ring import boot_id
from pool_doctor.recording.runs import runs
from pool_doctor.report.words import count, duration, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pool_doctor.analysis.trace import RecordedPolicy
    from pool_doctor.recording.image import Image
    from pool_doctor.recording.runs import RecordedCheckout, RecordedRun
    from pool_doctor.recording.snapshot import AliasSnapshot, PoolSettings, ProcessSnapshot, Recordings

SERVING = ("wsgi", "asgi")
_NANO = 1e-9
_MINUTE = 60.0
_STEP = 256
"""Each so many-th event tells well enough how many there are since when."""
_LONG_OUT = 60.0
"""A connection that has been out for this many seconds may never come back."""


@dataclass(frozen=True)
class Traffic:
    """The trace of one alias, of which processes it is, and what was left out of it."""

    trace: Trace
    workers: tuple[ProcessSnapshot, ...]
    notes: tuple[str, ...] = ()

    @property
    def workers_at_once(self) -> int:
        """How many of these processes run; once all have ended, how many ran at the same time."""
        return sum(process.alive for process in self.workers) or len(self.trace.processes) or 1


@dataclass(eq=False)
class _Recording:
    """One process, with its events if they can be read."""

    process: ProcessSnapshot
    image: Image

    @property
    def first(self) -> float:
        """From when on its events are all there, in seconds of the monotonic clock."""
        header = self.image.header
        if not self.wrapped:
            return header.started * _NANO
        oldest = next(self.image.records(), None)
        return (event_end(oldest) if oldest else self.image.updated) * _NANO

    @property
    def wrapped(self) -> bool:
        """Whether its oldest events are overwritten."""
        return self.image.newest > self.image.header.ring_size

    def monotonic(self, moment: float) -> float:
        """Return a moment in seconds since the epoch as seconds of the monotonic clock."""
        return self.image.header.started * _NANO + moment - self.image.header.started_at


class Traces:
    """Makes traces of the recordings in a directory; each file is read once, when it is needed."""

    def __init__(self, recordings: Recordings, since: float | None = None) -> None:
        """``since`` (seconds since the epoch) leaves out what began before."""
        self._processes = recordings.processes
        self._since = since
        self._images: dict[str, Image | None] = {}

    def traffic(
        self,
        alias: str,
        *,
        threads: int | None = None,
        connect_time: float | None = None,
        pooler: bool = False,
        most: int | None = None,
    ) -> Traffic | None:
        """Return the traffic of an alias; None where nobody has recorded any.

        It is of the processes that run as the newest one does: with the same pool under the same policy. ``threads``
        takes the place of what the web servers said of themselves. ``most`` limits it to about so many events.
        """
        users = [process for process in self._processes if alias in process.aliases]
        recorded = [found for process in users if (found := self._recording(process)) is not None]
        chosen, notes = _alike(recorded, alias)
        if not chosen:
            return None
        newest = max(chosen, key=lambda each: each.process.started_at).process.aliases[alias]
        builder = _Builder(alias, newest, chosen, self._since, most)
        requests = builder.requests()
        known = threads or _threads(chosen, builder.at_once)
        if lost := len(users) - len(recorded):
            notes.append(f"{plural(lost, 'process', 'processes')} left out, recorded before this machine's last start.")
        if builder.cut:
            notes.append(f"Only the newest {count(most or 0)} recorded events are replayed; pool_simulate replays all.")
        notes += _never_back(chosen, alias)
        trace = Trace(
            requests,
            builder.start,
            builder.end,
            _policy(newest.policy),
            max_size=(newest.pool.max_size or None) if newest.pool else None,
            min_size=newest.pool.min_size if newest.pool else None,
            timeout=_finite(newest.pool),
            threads=known,
            alias=alias,
            engine=newest.engine,
            pooler=pooler,
            connect_time=connect_time,
            minutes=builder.minutes(),
        )
        return Traffic(trace, tuple(each.process for each in chosen), tuple(notes))

    def _recording(self, process: ProcessSnapshot) -> _Recording | None:
        if process.path not in self._images:
            try:
                image = read_image(Path(process.path))
            except (OSError, ValueError):  # cleared away since, or changed: its snapshot is all that is left
                self._images[process.path] = None
            else:
                # Monotonic clocks begin anew with each start of the machine.
                self._images[process.path] = image if image.header.boot == boot_id() else None
        found = self._images[process.path]
        return None if found is None else _Recording(process, found)


def _alike(recorded: Sequence[_Recording], alias: str) -> tuple[list[_Recording], list[str]]:
    """Return the processes that the advice is for, and sentences on those that it is not for."""
    kinds = {each.process.kind for each in recorded}
    wanted = kinds.intersection(SERVING) or kinds.intersection({"celery"}) or kinds
    serving = [each for each in recorded if each.process.kind in wanted]
    notes = _left_out([each.process for each in recorded if each not in serving and each.process.alive], alias)
    if not serving:
        return [], notes
    newest = max(serving, key=lambda each: each.process.started_at).process.aliases[alias]
    chosen = [each for each in serving if _settings(each.process.aliases[alias]) == _settings(newest)]
    if others := len(serving) - len(chosen):
        notes.append(
            f"{plural(others, 'process', 'processes')} left out, recorded with another engine, policy or max_size than "
            "the newest one."
        )
    return chosen, notes


def _settings(snapshot: AliasSnapshot) -> tuple[object, ...]:
    return snapshot.engine, snapshot.policy, snapshot.pool and snapshot.pool.max_size


def _left_out(processes: Iterable[ProcessSnapshot], alias: str) -> list[str]:
    """Name other kinds of processes whose pools have the same settings."""
    peaks: dict[str, list[int]] = {}
    for process in processes:
        peaks.setdefault(process.kind, []).append(process.aliases[alias].peak_in_use)
    return [
        f"Left out: {plural(len(found), f'{kind} process', f'{kind} processes')}, whose pools have the same settings "
        f"and had at most {max(found)} in use."
        for kind, found in sorted(peaks.items())
    ]


def _never_back(chosen: Iterable[_Recording], alias: str) -> list[str]:
    out = [row for each in chosen for row in each.process.aliases[alias].open if row.held_for >= _LONG_OUT]
    if not out:
        return []
    longest = max(out, key=lambda row: row.held_for)
    sentence = (
        f"{plural(len(out), 'connection')} out for {duration(longest.held_for)} now ({longest.scope}): the replay does "
        "not know of checkouts that have not ended, and the pool is smaller by them."
    )
    return [sentence]


def _threads(chosen: Iterable[_Recording], seen: int) -> int | None:
    """Return the most threads that a web server said it has; None where one did not, or served more at once."""
    said = [each.image.header.threads if each.process.kind != "asgi" else 0 for each in chosen]
    return max(said) if min(said) and max(said) >= seen else None


def _policy(name: str) -> RecordedPolicy:
    return next((policy for policy in RECORDED_POLICIES if policy == name), "unpooled")


def _finite(pool: PoolSettings | None) -> float | None:
    return pool.timeout if pool and pool.timeout < float("inf") else None


@dataclass
class _Builder:
    """Puts the runs of several processes into one trace."""

    alias: str
    settings: AliasSnapshot
    recordings: Sequence[_Recording]
    since: float | None
    most: int | None = None
    start: float = 0.0
    end: float = 0.0
    at_once: int = 0
    """The most requests that one process was seen to serve at once."""
    covered: float = field(init=False)
    """From when on the events of all processes are there."""
    cut: bool = field(init=False)
    """Whether that is later than it could be, because there are too many."""

    def __post_init__(self) -> None:
        firsts = [each.first for each in self.recordings]
        # Where one ring has lost its oldest events, the others' from that time would show a part of the traffic only.
        bounds = [min(firsts), *(first for first, each in zip(firsts, self.recordings, strict=True) if each.wrapped)]
        if self.since is not None:
            bounds.append(self.recordings[0].monotonic(self.since))
        reached, newest = max(bounds), self._newest()
        self.covered = max(reached, newest)
        self.cut = newest > reached

    def _newest(self) -> float:
        """Return from when on there are about as many events as are asked for."""
        if self.most is None:
            return 0.0
        moments = sorted((moment for each in self.recordings for moment in each.image.moments(_STEP)), reverse=True)
        wanted = self.most // _STEP
        return moments[wanted] * _NANO if len(moments) > wanted else 0.0

    def requests(self) -> Requests:
        """Return the runs that began after everything was recorded; note when the first began and the last ended."""
        requests = Requests()
        begins, ends = [], []
        for each, place in zip(self.recordings, _places(self.recordings), strict=True):
            served: set[str] = set()
            spans = []
            for run in self._runs(each):
                if run.served:
                    served.add(run.scope)
                begin, end = run.start * _NANO, run.end * _NANO
                queued = None if run.queued is None else run.queued * _NANO
                threaded = run.served or (not run.ended and run.scope in served)
                requests.append(TracedRequest(run.scope, place, begin, end, _checkouts(run), queued, threaded))
                begins.append(begin - (queued or 0.0))
                ends.append(end)
                if threaded:
                    spans.append((begin, end))
            self.at_once = max(self.at_once, _most_at_once(spans))
        # Idle time around the traffic says nothing about it, and would be cut into the interval's blocks.
        self.start, self.end = min(begins, default=self.covered), max(ends, default=self.covered)
        return requests

    def _runs(self, recording: _Recording) -> Iterator[RecordedRun]:
        first = int(self.covered / _NANO)
        for section in recording.image.sections(self.alias):
            found = recording.image.alias(section, alive=False)
            if _settings(found) == _settings(self.settings):
                yield from (run for run in runs(recording.image, section) if run.start >= first and _possible(run))

    def minutes(self) -> list[MinutePeak]:
        """Return the peaks of the minutes before the trace, each of the busiest process."""
        peaks: Counter[float] = Counter()
        for each in self.recordings:
            for row in each.process.aliases[self.alias].minutes:
                start = each.monotonic(row.start)
                if start + _MINUTE <= self.covered:
                    peaks[round(start)] = max(peaks[round(start)], row.peak_in_use)
        return [MinutePeak(start, peak) for start, peak in sorted(peaks.items())]


def _places(recordings: Sequence[_Recording]) -> list[int]:
    """Number the processes so that one which began after another's end takes its place."""
    free: list[float] = []
    places = [0] * len(recordings)
    for index in sorted(range(len(recordings)), key=lambda index: recordings[index].process.started_at):
        process = recordings[index].process
        place = next((place for place, until in enumerate(free) if until <= process.started_at), len(free))
        until = float("inf") if process.alive else process.updated_at
        free[place : place + 1] = [until]
        places[index] = place
    return places


def _possible(run: RecordedRun) -> bool:
    """Say whether the numbers can be: the files are checked record by record, but anybody may have written them."""
    return run.end >= run.start and all(
        wait >= 0 and hold >= 0 and outcome < len(OUTCOMES) and all(time >= 0 for _, time in needed)
        for _, wait, hold, outcome, needed in run.checkouts
    )


def _checkouts(run: RecordedRun) -> tuple[Checkout, ...]:
    return tuple(map(_checkout, run.checkouts))


def _checkout(recorded: RecordedCheckout) -> Checkout:
    asked, wait, hold, outcome, needed = recorded
    segments = tuple([(start * _NANO, time * _NANO) for start, time in needed])
    return Checkout(asked * _NANO, wait * _NANO, hold * _NANO, segments, OUTCOMES[outcome])


def _most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    changes = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    level = most = 0
    for _, change in changes:
        level += change
        most = max(most, level)
    return most
