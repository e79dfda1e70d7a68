"""The report as typed values. Durations are seconds, moments are seconds since the epoch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pool_doctor.analysis.advice import Advice
    from pool_doctor.analysis.demand import Demand as Traffic
    from pool_doctor.analysis.goal import Goal
    from pool_doctor.analysis.trace import Policy, RecordedPolicy
    from pool_doctor.recording.histogram import Histogram
    from pool_doctor.recording.snapshot import OpenCheckout, PoolSettings


class ReportError(Exception):
    """The report cannot be made as it was asked for; the message is one sentence for the person who asked."""


@dataclass(frozen=True, slots=True)
class Window:
    """The span of time that the numbers of a report cover."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """The length of the window, never negative."""
        return max(0.0, self.end - self.start)


@dataclass(frozen=True, slots=True)
class Configuration:
    """What settings.DATABASES says about one alias, with the pool's defaults filled in."""

    alias: str
    engine: str
    policy: str
    """'request', 'query', 'persistent' or 'unpooled'."""
    pool: PoolSettings | None
    conn_max_age: float | None = 0.0
    """Django's CONN_MAX_AGE; None keeps connections without limit."""
    health_checks: bool = False
    pool_options: tuple[str, ...] = ()
    """Which of the pool's settings are set by the project; the others are defaults."""


@dataclass(frozen=True, slots=True)
class Worker:
    """One process that used the alias. After its end the counters are the last ones that it recorded."""

    pid: int
    kind: str
    command: str
    started_at: float
    updated_at: float
    alive: bool
    engine: str
    policy: str
    pool: PoolSettings | None
    size: int
    available: int
    in_use: int
    waiting: int
    peak_in_use: int
    open: tuple[OpenCheckout, ...] = ()
    """Open checkouts, the longest held first."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Quantiles, maximum and mean of a duration; all None where nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None
    mean: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> Distribution:
        """Read the figures of a report off a histogram."""
        return cls(
            histogram.quantile(0.5),
            histogram.quantile(0.95),
            histogram.quantile(0.99),
            histogram.maximum if histogram.count else None,
            histogram.mean,
        )


@dataclass(frozen=True, slots=True)
class Demand:
    """What all processes together asked of their pools in the window."""

    checkouts: int
    timeouts: int
    errors: int
    rate: float
    """Checkouts a second."""
    busy_mean: float
    """Connections that were in use on average, by Little's law: time held per second of the window."""
    peak_in_use: int
    """The most connections that one process had in use at once."""
    peak_waiting: int
    wait: Distribution
    hold: Distribution
    needed: Distribution


@dataclass(frozen=True, slots=True)
class Scope:
    """Means per request (or task, command, thread) of one name; None where none has ended yet."""

    name: str
    requests: int
    checkouts: int
    checkouts_per_request: float | None
    hold: float | None
    needed: float | None
    idle_while_held: float | None
    """Time per request in which a connection was held and no query ran on it."""
    total_hold: float
    total_idle: float


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What PostgreSQL says. Counts are of clients of the whole server, the report's own left out."""

    version: str
    max_connections: int
    reserved: int
    """What ordinary users cannot have: superuser_reserved_connections and reserved_connections."""
    in_use: int
    by_state: dict[str, int]
    by_application: dict[str, int]
    pooler: bool
    """Whether a pooler such as PgBouncer stands between the application and the server."""
    connect_time: float | None = field(default=None, compare=False)
    """How long it took to open the connection that asked."""


@dataclass(frozen=True, slots=True)
class ServerError:
    """Why there are no server facts."""

    error: str


@dataclass(frozen=True, slots=True)
class DatabaseAdvice:
    """Which pools to set for one alias, and what that rests on."""

    advice: dict[Policy, Advice]
    goal: Goal
    demand: Traffic
    recorded: RecordedPolicy
    """The policy of the traffic that was recorded."""
    notes: tuple[str, ...] = ()
    """Sentences on what was left out of the traffic."""


@dataclass(frozen=True, slots=True)
class DatabaseReport:
    """One alias of settings.DATABASES."""

    configuration: Configuration
    workers: tuple[Worker, ...]
    """Live processes first, then ended ones, each the oldest first."""
    demand: Demand
    scopes: tuple[Scope, ...]
    """The largest holders first."""
    server: ServerFacts | ServerError
    notes: tuple[str, ...] = ()
    """Sentences on what these numbers do not show by themselves."""
    advice: DatabaseAdvice | None = None
    """None where it was not asked for, or nobody has used the alias."""

    @property
    def live(self) -> list[Worker]:
        """The processes that still run."""
        return [worker for worker in self.workers if worker.alive]

    @property
    def policy(self) -> str:
        """The policy behind the numbers: that of the newest process, else the configured one."""
        workers = self.live or self.workers
        return max(workers, key=lambda worker: worker.started_at).policy if workers else self.configuration.policy


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that ``pool_report`` prints."""

    generated_at: float
    window: Window
    directory: str
    recording: bool
    """Whether POOL_DOCTOR["ENABLED"] is on."""
    databases: dict[str, DatabaseReport]
    problems: tuple[str, ...] = field(default=())
    """One line for each recording that could not be read."""

    @property
    def recorded(self) -> bool:
        """Whether any process recorded anything about the databases of this report."""
        return any(database.workers for database in self.databases.values())
