"""Connections of any engine that record into a directory of the test's own, and a witness of all that is recorded."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import ConnectionHandler

from example_project.databases import django_database
from pool_doctor.adapters.lifecycle import forget_checkouts
from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.recorder import Options, recorder
from pool_doctor.recording.work import begin, end

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
    from pool_doctor.recording.scope import Scope
    from pool_doctor.recording.snapshot import AliasSnapshot, ProcessSnapshot

ALIAS = "observed"
POOL = {"min_size": 1, "max_size": 2, "timeout": 0.3}


@dataclass
class Recording:
    """What this process has recorded during the test."""

    directory: Path
    may_fail: bool = False
    """Whether the test makes recording fail; otherwise a failure that was swallowed fails the test."""

    def process(self) -> ProcessSnapshot:
        """Return the one process that has recorded."""
        found = read_directory(self.directory)
        assert found.problems == []
        (process,) = found.processes
        return process

    def alias(self, name: str = ALIAS) -> AliasSnapshot:
        """Return what is known of one database."""
        return self.process().aliases[name]


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """Record into a directory of the test's own."""
    before = recorder.options
    recorder.stop()
    forget_checkouts()
    recorder.start(Options(tmp_path / "recordings", 4096, 86_400.0, "pytest"))
    recorder._failed = False
    recording = Recording(tmp_path / "recordings")
    yield recording
    failed, recorder._failed = recorder._failed, False
    forget_checkouts()
    recorder.stop()
    if before is not None:
        recorder.start(before)
    assert recording.may_fail or not failed, "recording failed, see the log"


@dataclass
class Work:
    """A scope, and all that was recorded in it as it happened. Durations are seconds."""

    scope: Scope
    checkouts: list[Checkout] = field(default_factory=list)
    queries: list[float] = field(default_factory=list)
    statements: list[tuple[object, bool]] = field(default_factory=list)
    """What each query ran, and whether a transaction was open after it."""
    transactions: list[float] = field(default_factory=list)
    """How long each commit or rollback took."""
    pins: list[str] = field(default_factory=list)
    segments: list[float] = field(default_factory=list)
    returns: list[Checkout] = field(default_factory=list)
    failures: list[int] = field(default_factory=list)

    def checked_out(self, checkout: Checkout) -> None:
        """See Collector."""
        self.checkouts.append(checkout)

    def query(self, checkout: Checkout, started: int, ended: int, sql: object, in_transaction: bool) -> None:
        """See Collector."""
        self.queries.append((ended - started) / 1e9)
        self.statements.append((sql, in_transaction))

    def transaction_began(self, checkout: Checkout, at: int) -> None:
        """See Collector."""

    def transaction_ended(self, checkout: Checkout, started: int, ended: int) -> None:
        """See Collector."""
        self.transactions.append((ended - started) / 1e9)

    def pinned(self, checkout: Checkout, kind: str, site: int) -> None:
        """See Collector."""
        self.pins.append(kind)

    def segment(self, checkout: Checkout, started: int, ended: int) -> None:
        """See Collector."""
        self.segments.append((ended - started) / 1e9)

    def returned(self, checkout: Checkout, ended: int) -> None:
        """See Collector."""
        self.returns.append(checkout)

    def failed(self, channel: Channel, site: str, started: int, ended: int, outcome: int) -> None:
        """See Collector."""
        self.failures.append(outcome)


@pytest.fixture
def work(recording: Recording) -> Iterator[Work]:
    """The scope "the work", which ends with the test, and its witness."""
    scope = begin("the work", "block")
    work = scope.collector = Work(scope)
    yield work
    end(scope)


@pytest.fixture
def connect(
    recording: Recording, database_url: str, django_db_blocker: Any
) -> Iterator[Callable[..., PostgreSQLWrapper]]:
    """A function that makes a wrapper as Django does: for an engine, OPTIONS["pool"], and settings of DATABASES."""
    made: list[PostgreSQLWrapper] = []
    RAN_DB_VERSION_CHECK.add(ALIAS)  # only the first connection of a process opens a cursor for that

    def connect(
        engine: str = "django.db.backends.postgresql", *, pool: Any = None, alias: str = ALIAS, **settings: Any
    ) -> PostgreSQLWrapper:
        options = {"pool": pool} if pool else {}
        database = django_database(database_url, engine=engine, **options) | settings
        made.append(ConnectionHandler({"default": {}, alias: database})[alias])
        return made[-1]

    with django_db_blocker.unblock():
        yield connect
        for wrapper in made:
            wrapper.close()
            made_pool = PostgreSQLWrapper._connection_pools.pop(wrapper.alias, None)
            if made_pool is not None:
                made_pool.close()


@pytest.fixture
def pooled(connect: Callable[..., PostgreSQLWrapper]) -> PostgreSQLWrapper:
    """A wrapper of the stock engine with a pool."""
    return connect(pool=POOL)


@pytest.fixture
def global_alias(connect: Callable[..., Any]) -> Iterator[Callable[..., None]]:
    """A function that gives the alias to all threads, as settings.DATABASES does."""

    def global_alias(**settings: Any) -> None:
        connections.settings[ALIAS] = connect(**settings).settings_dict

    def forget() -> None:
        if hasattr(connections._connections, ALIAS):
            connections[ALIAS].close()
            del connections[ALIAS]

    yield global_alias
    forget()
    asyncio.run(sync_to_async(forget)())  # in the thread that all of asgiref's work shares
    del connections.settings[ALIAS]
