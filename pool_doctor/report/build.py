"""Recordings and facts become a report: a pure function, for any time and any set of databases."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pool_doctor.recording.histogram import Histogram
from pool_doctor.recording.snapshot import (
    AliasSnapshot,
    PoolSettings,
    ProcessSnapshot,
    Recordings,
    ScopeTotals,
)
from pool_doctor.report.model import (
    Configuration,
    DatabaseAdvice,
    DatabaseReport,
    Demand,
    Distribution,
    Report,
    Scope,
    ServerError,
    ServerFacts,
    Window,
    Worker,
)
from pool_doctor.report.words import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def build_report(
    recordings: Recordings,
    facts: Iterable[tuple[Configuration, ServerFacts | ServerError]],
    *,
    now: float,
    since: float | None = None,
    recording: bool = True,
    advice: Mapping[str, DatabaseAdvice | None] | None = None,
) -> Report:
    """Build the report at the moment ``now`` of the aliases that ``facts`` are given of.

    ``recordings`` must have been read for the same window: ``since`` is its start in seconds since the
    epoch, or None for everything recorded. Processes that ended before it are left out. ``advice`` is by alias.
    """
    facts = list(facts)
    aliases = {configuration.alias for configuration, _ in facts}
    # Every process of the project has a file, this one too; those that used no database say nothing about any.
    processes = [
        process
        for process in recordings.processes
        if not aliases.isdisjoint(process.aliases) and _in_window(process, since)
    ]
    window = window_of(processes, now, since)
    databases = {
        configuration.alias: _database(
            configuration, processes, server, window, (advice or {}).get(configuration.alias)
        )
        for configuration, server in facts
    }
    return Report(now, window, recordings.directory, recording, databases, tuple(recordings.problems))


def window_of(processes: Iterable[ProcessSnapshot], now: float, since: float | None) -> Window:
    """Return the span that the numbers of ``processes`` cover; an empty one at ``now`` where there are none.

    It begins where the earliest recording does, not before: nobody counted what happened earlier. It ends
    now, or with the last thing recorded when no process lives.
    """
    processes = list(processes)
    if not processes:
        return Window(now if since is None else since, now)
    start = min(process.covers_from for process in processes)
    if any(process.alive for process in processes):
        return Window(start, now)
    return Window(start, max(start, *(process.updated_at for process in processes)))


def _in_window(process: ProcessSnapshot, since: float | None) -> bool:
    return process.alive or since is None or process.updated_at >= since


def _database(
    configuration: Configuration,
    processes: Sequence[ProcessSnapshot],
    server: ServerFacts | ServerError,
    window: Window,
    advice: DatabaseAdvice | None,
) -> DatabaseReport:
    users = [process for process in processes if configuration.alias in process.aliases]
    users.sort(key=lambda process: (not process.alive, process.started_at, process.pid))
    workers = tuple(_worker(process, process.aliases[configuration.alias]) for process in users)
    snapshots = [process.aliases[configuration.alias] for process in users]
    held_now = sum(
        min(checkout.held_for, window.seconds) for worker in workers if worker.alive for checkout in worker.open
    )
    return DatabaseReport(
        configuration,
        workers,
        _demand(snapshots, window, held_now),
        _scopes(snapshots),
        server,
        tuple(_notes(configuration, workers, users)),
        advice,
    )


def _worker(process: ProcessSnapshot, snapshot: AliasSnapshot) -> Worker:
    return Worker(
        process.pid,
        process.kind,
        process.command,
        process.started_at,
        process.updated_at,
        process.alive,
        snapshot.engine,
        snapshot.policy,
        snapshot.pool,
        snapshot.size,
        snapshot.available,
        snapshot.in_use,
        snapshot.waiting,
        snapshot.peak_in_use,
        tuple(sorted(snapshot.open, key=lambda checkout: -checkout.held_for)),
    )


def _demand(snapshots: Sequence[AliasSnapshot], window: Window, held_now: float) -> Demand:
    checkouts = sum(snapshot.checkouts for snapshot in snapshots)
    hold = _merged(snapshot.hold for snapshot in snapshots)
    # Checkouts that do not end (leaks, persistent connections) are in no histogram, but they are held.
    held = hold.total + held_now
    seconds = window.seconds
    return Demand(
        checkouts=checkouts,
        timeouts=sum(snapshot.timeouts for snapshot in snapshots),
        errors=sum(snapshot.errors for snapshot in snapshots),
        rate=checkouts / seconds if seconds else 0.0,
        busy_mean=held / seconds if seconds else 0.0,
        peak_in_use=max((snapshot.peak_in_use for snapshot in snapshots), default=0),
        peak_waiting=max((snapshot.peak_waiting for snapshot in snapshots), default=0),
        wait=Distribution.of(_merged(snapshot.wait for snapshot in snapshots)),
        hold=Distribution.of(hold),
        needed=Distribution.of(_merged(snapshot.needed for snapshot in snapshots)),
    )


def _merged(histograms: Iterable[Histogram]) -> Histogram:
    return sum(histograms, start=Histogram())


def _scopes(snapshots: Iterable[AliasSnapshot]) -> tuple[Scope, ...]:
    merged: dict[str, ScopeTotals] = {}
    for snapshot in snapshots:
        for name, totals in snapshot.scopes.items():
            merged.setdefault(name, ScopeTotals(name)).add(totals)
    scopes = [_scope(totals) for totals in merged.values()]
    return tuple(sorted(scopes, key=lambda scope: (-scope.total_hold, scope.name)))


def _scope(totals: ScopeTotals) -> Scope:
    # The two sums come from clocks read at different moments, so their difference may fall below zero.
    idle = max(0.0, totals.hold - totals.query_time)

    def per_request(total: float) -> float | None:
        return total / totals.requests if totals.requests else None

    return Scope(
        totals.name,
        totals.requests,
        totals.checkouts,
        per_request(totals.checkouts),
        per_request(totals.hold),
        per_request(totals.needed),
        per_request(idle),
        totals.hold,
        idle,
    )


def _notes(
    configuration: Configuration, workers: Sequence[Worker], processes: Sequence[ProcessSnapshot]
) -> Iterable[str]:
    yield from _drift(configuration, [worker for worker in workers if worker.alive])
    policies = Counter(worker.policy for worker in workers)
    if len(policies) > 1:
        mix = " and ".join(f"{number} under policy {policy}" for policy, number in sorted(policies.items()))
        yield f"The numbers mix processes that ran {mix}; --since limits them to the time after a change."
    truncated = [process for process in processes if process.truncated]
    if truncated:
        yield (
            f"The window begins before the oldest event still recorded by {_pids(truncated)}: the real "
            'numbers are higher; ask for a shorter --since, or raise POOL_DOCTOR["RING_SIZE"].'
        )
    torn = sum(process.torn for process in processes)
    if torn:
        yield f"{plural(torn, 'record')} left out that changed while being read."


def _drift(configuration: Configuration, live: Sequence[Worker]) -> Iterable[str]:
    """Say which live workers run with something else than settings.py says."""
    differing: dict[str, list[Worker]] = {}
    for worker in live:
        if differences := _differences(configuration, worker):
            differing.setdefault(", ".join(differences), []).append(worker)
    for what, workers in differing.items():
        subject, them = ("PID {} runs", "it") if len(workers) == 1 else ("PIDs {} run", "them")
        yield f"{subject.format(_pids(workers))} with {what}, other than settings.py says now: restart {them}."


def _differences(configuration: Configuration, worker: Worker) -> list[str]:
    if worker.engine != configuration.engine:
        return [f"engine {worker.engine}"]
    if worker.policy != configuration.policy:
        return [f"policy {worker.policy}"]
    if worker.pool is None or configuration.pool is None:
        return []
    return [
        f"{name} {getattr(worker.pool, name):g}"
        for name in PoolSettings.__dataclass_fields__
        if getattr(worker.pool, name) != getattr(configuration.pool, name)
    ]


def _pids(processes: Iterable[Worker | ProcessSnapshot], shown: int = 4) -> str:
    pids = [str(process.pid) for process in processes]
    more = f" and {len(pids) - shown} more" if len(pids) > shown else ""
    return ", ".join(pids[:shown]) + more
