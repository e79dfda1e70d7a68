"""Databases on the releasing engine, their pools, and what the server says of them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import connections
from django.db.backends.base.base import RAN_DB_VERSION_CHECK
from django.db.backends.postgresql.base import DatabaseWrapper as Stock

from example_project.databases import django_database
from pool_doctor.adapters.lifecycle import forget_checkouts
from pool_doctor.adapters.release import ReleasingMixin
from pool_doctor.recording.recorder import Options, recorder
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RELEASING = "pool_doctor.backends.postgresql"
POSTGIS = "pool_doctor.backends.postgis"
STOCK = "django.db.backends.postgresql"
ALIAS = "released"


class Database:
    """One alias of DATABASES on the releasing engine, as the thread that asks sees it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> Any:
        """Django's connection of this thread."""
        return connections[self.alias]

    @property
    def pool(self) -> Any:
        """The pool that the alias has now."""
        return ReleasingMixin._connection_pools[self.alias]

    @property
    def held(self) -> bool:
        """Whether this thread has a physical connection."""
        return self.connection.connection is not None

    @property
    def in_use(self) -> int:
        """How many connections of the pool are out."""
        return int(self.pool._nconns) - len(self.pool._pool)

    def whole(self) -> None:
        """Wait until all connections are in the pool."""
        until(lambda: self.in_use == 0, what=f"the return of all connections of {self.alias}")

    def grown(self, size: int) -> None:
        """Take as many connections at once, so that the pool has them from now on."""
        pool = self.connection.pool
        pool.open()
        taken = [pool.getconn() for _ in range(size)]
        for connection in taken:
            pool.putconn(connection)

    def query(self, sql: str = "SELECT 1", params: Any = None) -> Any:
        """Run a statement in a cursor of its own; return its first row, if it has rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchone() if cursor.description else None

    def value(self, sql: str, params: Any = None) -> Any:
        """Return the first value of the first row."""
        return self.query(sql, params)[0]

    def pid(self) -> int:
        """Return which backend of the server answers."""
        return int(self.value("SELECT pg_backend_pid()"))

    def in_thread(self, work: Callable[[], Any]) -> Any:
        """Return what the work returns in a thread that closes its connections; raise what it raises there."""
        result: list[Any] = []
        errors: list[BaseException] = []

        def run() -> None:
            try:
                result.append(work())
            except BaseException as error:
                errors.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return result[0]


@pytest.fixture(autouse=True)
def nothing_fails_in_recording(tmp_path: Path) -> Iterator[None]:
    """Record into a directory of the test's own; a failure that was swallowed there fails the test."""
    before = recorder.options
    recorder.stop()
    forget_checkouts()
    recorder.start(Options(tmp_path / "recordings", 4096, 86_400.0, "pytest"))
    recorder._failed = False
    yield
    failed, recorder._failed = recorder._failed, False
    forget_checkouts()
    recorder.stop()
    if before is not None:
        recorder.start(before)
    assert not failed, "recording failed, see the log"


@pytest.fixture
def configure(database_url: str, django_db_blocker: Any) -> Iterator[Callable[..., Database]]:
    """A function that makes an alias: for an engine, OPTIONS["pool"], other OPTIONS, and other settings.

    At the end all its connections have to be in the pool again once this thread has closed its own.
    """
    made: list[Database] = []

    def configure(
        engine: str = RELEASING,
        *,
        alias: str = ALIAS,
        pool: Any = None,
        options: dict[str, Any] | None = None,
        **settings: Any,
    ) -> Database:
        if pool is None:
            pool = {"min_size": 2, "max_size": 2, "timeout": 5}
        given = {**({"pool": pool} if pool else {}), **(options or {})}
        settings_dict = django_database(database_url, engine=engine, **given) | settings
        RAN_DB_VERSION_CHECK.add(alias)  # only the first connection of a process opens a cursor for that
        connections.settings[alias] = connections.configure_settings({"default": {}, alias: settings_dict})[alias]
        made.append(Database(alias))
        if pool and engine in {RELEASING, POSTGIS}:
            made[-1].grown(pool["min_size"])  # as long as it grows, what is out can't be told
        return made[-1]

    with django_db_blocker.unblock():
        yield configure
        for database in made:
            database.connection.close()
            for owner in (ReleasingMixin, Stock):
                pool = owner._connection_pools.pop(database.alias, None)
                if pool is not None:
                    if owner is ReleasingMixin:
                        until(
                            lambda pool=pool: pool.closed or pool._nconns == len(pool._pool),
                            what=f"the return of all connections of {database.alias}",
                        )
                    pool.close()
            del connections[database.alias]
            del connections.settings[database.alias]


@pytest.fixture
def db1(configure: Callable[..., Database]) -> Database:
    """A database whose pool has at most one connection, so that one that is held is missed at once."""
    return configure(pool={"min_size": 1, "max_size": 1, "timeout": 2})


@pytest.fixture
def db2(configure: Callable[..., Database]) -> Database:
    """A database whose pool has two connections."""
    return configure(pool={"min_size": 2, "max_size": 2, "timeout": 2})


@pytest.fixture
def witness(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection of psycopg's own, which sees what is committed."""
    with psycopg.connect(database_url, autocommit=True, options="-c lock_timeout=5s") as connection:
        yield connection


@pytest.fixture
def table(witness: psycopg.Connection[Any]) -> Iterator[str]:
    """The name of an empty table with a column n."""
    witness.execute("CREATE TABLE numbers (n int)")
    yield "numbers"
    witness.execute("DROP TABLE numbers")


@pytest.fixture
def stored(witness: psycopg.Connection[Any], table: str) -> Callable[[], list[int]]:
    """A function that returns what is committed in the table."""
    return lambda: [n for (n,) in witness.execute(f"SELECT n FROM {table} ORDER BY n")]
