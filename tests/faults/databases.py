"""The same database through both engines, with what tells whether a pool is whole."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from django.db import close_old_connections, connections, transaction
from django.db.utils import ConnectionHandler

from example_project.databases import django_database
from pool_doctor.adapters import pools
from pool_doctor.recording.recorder import recorder
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOCK = "django.db.backends.postgresql"
RELEASING = "pool_doctor.backends.postgresql"
TABLE = "CREATE TABLE written (work text, part int)"


class Database:
    """One alias of DATABASES, in whatever thread it is used."""

    def __init__(self, alias: str, pool: dict[str, Any]) -> None:
        self.alias = alias
        self.min_size = pool["min_size"]

    @property
    def connection(self) -> Any:
        """Django's connection of this thread."""
        return connections[self.alias]

    @property
    def pool(self) -> Any:
        """The pool of the alias."""
        return self.connection.pool

    def query(self, sql: str, params: Any = None) -> list[Any]:
        """Run a statement in a cursor of its own; return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(sql, params)
            return cursor.fetchall() if cursor.description else []

    def atomic(self) -> Any:
        """Return Django's atomic() for this database."""
        return transaction.atomic(using=self.alias)

    def insert(self, work: str, part: int, comment: str = "") -> None:
        """Write one row."""
        self.query(f"INSERT INTO written VALUES (%s, %s) {comment}", [work, part])

    def open_pool(self) -> None:
        """Make the pool's first connections, and return when they are there."""
        self.pool.open()
        self.pool.wait()

    def in_use(self) -> int:
        """How many connections are out, as pool_report says; 0 where nothing was recorded."""
        channel = recorder._channels.get(pools.describe(self.connection))
        return int(channel.cells[channel.in_use]) if channel is not None else 0

    def is_whole(self) -> bool:
        """Whether each connection that the pool counts is there, none is out, and nobody waits; as is recorded, too."""
        return self.has_all() and self.in_use() == 0

    def has_all(self) -> bool:
        """Whether each connection that the pool counts is there, and nobody waits."""
        pool = self.pool
        return pool._nconns == len(pool._pool) >= self.min_size and not pool._waiting and not pool._growing

    def check_whole(self) -> None:
        """Fail unless the pool becomes whole, and each of its connections works, in no transaction.

        A connection that has died while it was idle is not noticed by anybody before it is used: the pool's own check()
        replaces it, which is also what a stock pool would need.
        """
        until(self.is_whole, seconds=30, what=f"a whole pool of {self.alias}: {self.state()}")
        self.pool.check()
        until(self.is_whole, seconds=30, what=f"a whole pool of {self.alias} after check(): {self.state()}")
        taken = [self.pool.getconn() for _ in range(self.pool._nconns)]
        try:
            for physical in taken:
                assert physical.pgconn.transaction_status == 0
                assert physical.execute("SELECT 1").fetchone() == (1,)
                if not physical.autocommit:
                    physical.rollback()
        finally:
            for physical in taken:
                self.pool.putconn(physical)

    def state(self) -> str:
        """Say what the pool and the recorder count."""
        pool = self.pool
        return (
            f"{pool._nconns} connections, {len(pool._pool)} of them idle, {len(pool._waiting)} waiting, "
            f"growing: {pool._growing}, in use by the recording: {self.in_use()}"
        )


@contextmanager
def database(alias: str, url: str, engine: str, *, pool: dict[str, Any], **settings: Any) -> Iterator[Database]:
    """Add an alias to DATABASES for as long as the block lasts."""
    options = settings.pop("OPTIONS", {})
    described = django_database(url, engine=engine, pool=pool, application_name=alias, **options) | settings
    connections.settings[alias] = ConnectionHandler({"default": {}, alias: described}).settings[alias]
    added = Database(alias, pool)
    try:
        yield added
    finally:
        added.connection.close()
        added.connection.close_pool()
        del connections[alias]
        del connections.settings[alias]


@contextmanager
def request() -> Iterator[None]:
    """Do around a block what Django does around a request; give every connection back at its end."""
    try:
        yield
    finally:
        close_old_connections()


def outcome(work: Callable[[], Any]) -> str:
    """Return the class of what the work raises, with the class of its cause, or "done"; as one request."""
    try:
        with request():
            work()
    except Exception as error:
        name = type(error).__qualname__
        return f"{name} from {type(error.__cause__).__qualname__}" if error.__cause__ else name
    return "done"


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run the work in so many threads, each with its number; raise the first error of any of them."""
    errors: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
