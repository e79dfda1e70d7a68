"""The report as headings, sentences and tables: what its renderers for people have in common."""

from __future__ import annotations

from pool_doctor.report.advising import advice_section, demand_sentence
from pool_doctor.report.blocks import Block, Chapter, Column, Facts, Section, Table
from pool_doctor.report.headline import headline, mood
from pool_doctor.report.model import (
    Configuration,
    DatabaseReport,
    Distribution,
    Report,
    Scope,
    ServerError,
    ServerFacts,
    Worker,
)
from pool_doctor.report.words import NOTHING, age, clean, count, duration, moment, plural, rate, share

LIVE_SHOWN = 16
ENDED_SHOWN = 4
OPEN_SHOWN = 10
SCOPES_SHOWN = 12
APPLICATIONS_SHOWN = 6

_POLICIES = {
    "request": "request (a connection is held from a request's first query to its end)",
    "query": "query (a connection goes back to the pool after each query or transaction)",
    "persistent": "persistent (each thread keeps its own connection between requests)",
    "unpooled": "unpooled (each request opens a connection of its own, and closes it)",
}


def title(report: Report) -> str:
    """Return the first line: when, and over which window."""
    window = report.window
    span = f"window {duration(window.seconds)} from {moment(window.start, report.generated_at)}"
    if window.end < report.generated_at:
        span += f" to {moment(window.end, report.generated_at)}"
    return f"pool_report at {moment(report.generated_at, 0)}, {span if window.seconds else 'nothing recorded'}"


def advice_to_record(report: Report) -> str:
    """Return what to do where nothing was recorded, else an empty text."""
    if report.recorded:
        return ""
    if not report.recording:
        return 'Nothing is recorded, for POOL_DOCTOR["ENABLED"] is False: take that out and restart the workers.'
    return (
        f'Nothing is recorded in {report.directory} yet: add "pool_doctor" to INSTALLED_APPS, restart the '
        'workers, and run pool_report as the same user with the same POOL_DOCTOR["DIRECTORY"].'
    )


def chapters(report: Report) -> list[Chapter]:
    """Lay the report out, one chapter for each database."""
    return [_chapter(report, database) for database in report.databases.values()]


def _chapter(report: Report, database: DatabaseReport) -> Chapter:
    sections = [_configuration(database.configuration, database.notes)]
    if database.workers:
        sections += [_workers(database, report.generated_at), _demand(report, database), _who_holds(database)]
    sections.append(_server(database.server))
    if database.advice is not None:
        sections.append(advice_section(database.advice))
    return Chapter(clean(headline(database, report.generated_at)), mood(database), sections)


def _configuration(configuration: Configuration, notes: tuple[str, ...]) -> Section:
    rows = [("Engine", configuration.engine), ("Policy", _POLICIES[configuration.policy])]
    if pool := configuration.pool:
        values = {
            "min_size": count(pool.min_size),
            "max_size": count(pool.max_size) if pool.max_size else "unlimited",
            "timeout": duration(pool.timeout),
            "max_waiting": count(pool.max_waiting) if pool.max_waiting else "unlimited",
            "max_lifetime": duration(pool.max_lifetime),
            "max_idle": duration(pool.max_idle),
        }
        chosen = [name for name in values if name in configuration.pool_options]
        default = [name for name in values if name not in configuration.pool_options]
        if chosen:
            rows.append(("Pool", ", ".join(f"{name} {values[name]}" for name in chosen)))
        if default:
            rows.append(("Defaults", ", ".join(f"{name} {values[name]}" for name in default)))
    else:
        age = configuration.conn_max_age
        rows.append(("CONN_MAX_AGE", "None (without limit)" if age is None else duration(age)))
    rows.append(("Health checks", "on" if configuration.health_checks else "off"))
    return Section("Configuration", [Facts(rows)], tuple(clean(note) for note in notes))


def _workers(database: DatabaseReport, now: float) -> Section:
    live = database.live
    ended = [worker for worker in database.workers if not worker.alive]
    ended.sort(key=lambda worker: -worker.updated_at)
    shown = live[:LIVE_SHOWN] + ended[:ENDED_SHOWN]
    hidden = _hidden(len(live) - LIVE_SHOWN, "live process", "live processes")
    hidden += _hidden(len(ended) - ENDED_SHOWN, "ended process", "ended processes")
    columns = (
        Column("PID", right=True),
        Column("Kind"),
        Column("State", least=8),
        Column("Size", right=True),
        Column("Available", right=True),
        Column("In use", right=True),
        Column("Waiting", right=True),
        Column("Peak", right=True),
        Column("Command", least=8),
    )
    rows = [_worker_row(worker, now) for worker in shown]
    return Section(
        "Workers (live)" if live else "Workers (all ended)",
        [
            Table(columns, rows, _not_shown(hidden)),
            *_open_checkouts(live),
        ],
    )


def _worker_row(worker: Worker, now: float) -> tuple[str, ...]:
    if worker.alive:
        state = f"up {age(now - worker.started_at)}"
        numbers = (worker.size, worker.available, worker.in_use, worker.waiting)
        now_row = tuple(count(number) for number in numbers)
    else:
        state = f"ended {age(max(0.0, now - worker.updated_at))} ago"
        now_row = (NOTHING,) * 4
    return (
        str(worker.pid),
        clean(worker.kind),
        state,
        *now_row,
        count(worker.peak_in_use),
        clean(worker.command),
    )


def _open_checkouts(workers: list[Worker]) -> list[Block]:
    held = [(checkout, worker) for worker in workers for checkout in worker.open]
    if not held:
        return []
    held.sort(key=lambda pair: -pair[0].held_for)
    columns = (
        Column("Held", right=True),
        Column("Idle", right=True),
        Column("PID", right=True),
        Column("Scope", least=20),
        Column("From", least=20, keep_end=True),
    )
    rows = [
        (
            duration(checkout.held_for),
            duration(checkout.idle_for) if checkout.idle_for else "in query",
            str(worker.pid),
            clean(checkout.scope) + (f" (pinned: {clean(checkout.pinned)})" if checkout.pinned else ""),
            clean(checkout.site) or NOTHING,
        )
        for checkout, worker in held[:OPEN_SHOWN]
    ]
    more = _not_shown(_hidden(len(held) - OPEN_SHOWN, "open checkout"))
    return ["Open checkouts, the longest held first:", Table(columns, rows, more)]


def _demand(report: Report, database: DatabaseReport) -> Section:
    demand, seconds = database.demand, report.window.seconds
    failures = [f"{count(demand.timeouts)} timed out"] if demand.timeouts else ["none timed out"]
    if demand.errors:
        failures.append(f"{count(demand.errors)} failed")
    sentence = (
        f"{plural(demand.checkouts, 'checkout')} in {duration(seconds)} ({rate(demand.rate)} a second), "
        f"{', '.join(failures)}. On average {rate(demand.busy_mean)} in use; at most "
        f"{count(demand.peak_in_use)} in use and {count(demand.peak_waiting)} waiting in one process."
    )
    columns = (
        Column(""),
        *(Column(name, right=True) for name in ("p50", "p95", "p99", "max", "mean")),
        Column("", least=8),
    )
    meanings = {
        "wait": "until a connection was there",
        "hold": "from then until it was given back",
        "needed": "with a cursor open or in a transaction",
    }
    rows = [(name, *_quantiles(getattr(demand, name)), meaning) for name, meaning in meanings.items()]
    blocks: list[Block] = [sentence, Table(columns, rows)]
    if database.advice is not None and database.advice.demand.checkouts:
        blocks.append(demand_sentence(database.advice.demand))
    return Section("Demand", blocks)


def _quantiles(distribution: Distribution) -> tuple[str, ...]:
    values = (distribution.p50, distribution.p95, distribution.p99, distribution.max, distribution.mean)
    return tuple(duration(value) for value in values)


def _who_holds(database: DatabaseReport) -> Section:
    scopes = [scope for scope in database.scopes if scope.checkouts or scope.total_hold]
    if not scopes:
        return Section("Who holds", ["Nobody gave a connection back in this window."])
    whole = sum(scope.total_hold for scope in scopes)
    columns = (
        Column("Scope", least=12),
        Column("Requests", right=True),
        Column("Checkouts", right=True),
        Column("Hold", right=True),
        Column("Needed", right=True),
        Column("Idle while held", right=True),
        Column("Share", right=True),
    )
    rows = [_scope_row(scope, whole) for scope in scopes[:SCOPES_SHOWN]]
    more = _not_shown(_hidden(len(scopes) - SCOPES_SHOWN, "scope"))
    return Section("Who holds (means per request, and share of all time held)", [Table(columns, rows, more)])


def _scope_row(scope: Scope, whole: float) -> tuple[str, ...]:
    each = scope.checkouts_per_request
    idle = duration(scope.idle_while_held)
    if scope.total_hold:
        idle += f" ({share(scope.total_idle, scope.total_hold)})"
    return (
        clean(scope.name),
        count(scope.requests),
        NOTHING if each is None else f"{each:.3g}",
        duration(scope.hold),
        duration(scope.needed),
        idle,
        share(scope.total_hold, whole),
    )


def _server(server: ServerFacts | ServerError) -> Section:
    if isinstance(server, ServerError):
        return Section("Server", notes=(f"Not available: {clean(server.error).rstrip('.')}.",))
    usable = server.max_connections - server.reserved
    idle = server.by_state.get("idle in transaction", 0)
    aborted = server.by_state.get("idle in transaction (aborted)", 0)
    sentence = (
        f"PostgreSQL {clean(server.version)}: {count(server.in_use)} of {plural(usable, 'connection')} "
        f"in use ({count(server.max_connections)} less {count(server.reserved)} reserved), "
        f"{count(idle + aborted)} idle in transaction, "
        f"{'through a pooler' if server.pooler else 'no pooler in between'}."
    )
    blocks: list[Block] = [sentence]
    if server.by_state:
        states = ", ".join(f"{clean(state)} {count(number)}" for state, number in server.by_state.items())
        applications = list(server.by_application.items())
        names = ", ".join(f"{clean(name)} {count(number)}" for name, number in applications[:APPLICATIONS_SHOWN])
        hidden = _hidden(len(applications) - APPLICATIONS_SHOWN, "application")
        rows = [("By state", states), ("By application", names)]
        blocks.append(Facts(rows, _not_shown(hidden)))
    return Section("Server", blocks)


def _hidden(number: int, noun: str, several: str = "") -> list[str]:
    if number <= 0:
        return []
    return [f"{count(number)} more {noun if number == 1 else several or noun + 's'}"]


def _not_shown(hidden: list[str]) -> str:
    return f"{' and '.join(hidden)} not shown; --format json has all." if hidden else ""
