"""The one sentence that matters most about a database, written from its numbers."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from pool_doctor.report.words import count, duration, moment, plural, share

if TYPE_CHECKING:
    from pool_doctor.report.model import DatabaseReport, Worker


class Mood(Enum):
    """How a headline should look."""

    CALM = "calm"
    BUSY = "busy"
    """Every connection is in use, or some checkouts timed out earlier."""
    STUCK = "stuck"
    """Somebody waits for a connection right now."""


def headline(database: DatabaseReport, now: float) -> str:
    """Return the sentence: what goes on now, what went wrong, and how connections are held."""
    alias = database.configuration.alias
    if not database.workers:
        return f"{alias}: no process has recorded a use of this database."
    clauses = [_now(database, now), _timeouts(database), _held(database)]
    return f"{alias}: {'; '.join(clause for clause in clauses if clause)}."


def mood(database: DatabaseReport) -> Mood:
    """Return how bad it is."""
    if sum(worker.waiting for worker in database.live):
        return Mood.STUCK
    capacity = _capacity(database)
    full = capacity and sum(worker.in_use for worker in database.live) >= capacity
    return Mood.BUSY if full or database.demand.timeouts else Mood.CALM


def _capacity(database: DatabaseReport) -> int:
    """Return how many connections the live pools allow together; 0 where something is unlimited."""
    pools = [worker.pool for worker in database.live]
    sizes = [pool.max_size if pool else 0 for pool in pools]
    return sum(sizes) if all(sizes) else 0


def _now(database: DatabaseReport, now: float) -> str:
    live = database.live
    if not live:
        last = max(worker.updated_at for worker in database.workers)
        return f"no process that used it runs any more, the last one recorded until {moment(last, now)}"
    in_use = sum(worker.in_use for worker in live)
    waiting = sum(worker.waiting for worker in live)
    capacity = _capacity(database)
    if not capacity:
        used = f"{_of_open(in_use, live)} in use by {plural(len(live), 'process', 'processes')}"
        return f"{used}, {plural(waiting, 'request')} waiting" if waiting else used
    queue = f"{plural(waiting, 'request')} waiting" if waiting else "nobody waiting"
    return f"{count(in_use)} of {plural(capacity, 'connection')} in use, {queue}"


def _of_open(in_use: int, live: list[Worker]) -> str:
    size = sum(worker.size for worker in live)
    return f"{count(in_use)} of {plural(size, 'open connection')}" if size > in_use else plural(in_use, "connection")


def _timeouts(database: DatabaseReport) -> str:
    demand = database.demand
    if not demand.timeouts:
        return ""
    return f"{count(demand.timeouts)} of {plural(demand.checkouts, 'checkout')} timed out"


def _held(database: DatabaseReport) -> str:
    scopes = [scope for scope in database.scopes if scope.requests and scope.checkouts]
    requests = sum(scope.requests for scope in scopes)
    hold = sum(scope.total_hold for scope in scopes)
    if not requests or not hold:
        return "no request that used it has ended yet" if database.live else ""
    idle = sum(scope.total_idle for scope in scopes)
    how = _holding(database, hold / requests, sum(scope.checkouts for scope in scopes) / requests)
    return f"{how}, {share(idle, hold)} of it while no query {'runs' if database.live else 'ran'}"


def _holding(database: DatabaseReport, hold: float, turns: float) -> str:
    """Say how long a request holds a connection, in the words of the policy."""
    per_request = duration(hold)
    are, holds, opens = ("are", "holds", "opens") if database.live else ("were", "held", "opened")
    match database.policy:
        case "query":
            return f"a request {holds} one for {per_request} in {turns:.3g} turn{'' if turns == 1 else 's'}"
        case "unpooled":
            opening = duration(database.demand.wait.mean)
            return f"each request {opens} its own in {opening} and {holds} it for {per_request}"
        case "persistent":
            return f"threads keep their connections, and a request {holds} its thread's for {per_request}"
        case _:
            return f"connections {are} held {per_request} per request"
