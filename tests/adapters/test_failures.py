"""What goes wrong: pools that are exhausted, databases that are down, and recording itself, which must harm nobody."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections, transaction
from django.db.utils import OperationalError, ProgrammingError
from django.test import RequestFactory
from psycopg_pool import ConnectionPool

from pool_doctor.adapters import pools
from pool_doctor.recording import layout
from pool_doctor.recording.channel import Channel
from pool_doctor.recording.checkout import Checkout
from pool_doctor.recording.histogram import RELATIVE_ERROR
from pool_doctor.recording.recorder import Recorder
from pool_doctor.recording.ring import Ring
from pool_doctor.recording.scope import Scope, current
from tests.adapters.conftest import ALIAS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.adapters.conftest import Recording, Work


def test_an_exhausted_pool_is_a_timeout(connect: Callable[..., Any], work: Work, recording: Recording) -> None:
    pool = {"min_size": 1, "max_size": 1, "timeout": 0.5}
    first = connect(pool=pool)
    first.ensure_connection()
    second = first.copy()
    with pytest.raises(OperationalError, match="couldn't get a connection"):
        second.ensure_connection()
    assert work.failures == [layout.TIMEOUT]
    found = recording.alias()
    assert (found.checkouts, found.timeouts, found.errors) == (2, 1, 0)
    assert (found.in_use, found.waiting, found.size, found.available) == (1, 0, 1, 0)
    assert 0.5 * (1 - RELATIVE_ERROR) <= found.wait.maximum < 5
    assert found.hold.count == 0
    first.close()
    second.ensure_connection()
    second.close()
    assert recording.alias().in_use == 0


def test_a_queue_that_is_full_is_a_timeout(connect: Callable[..., Any], recording: Recording) -> None:
    first = connect(pool={"min_size": 1, "max_size": 1, "timeout": 20, "max_waiting": 1})
    first.ensure_connection()
    waiter = threading.Thread(target=lambda: first.copy().ensure_connection())
    waiter.start()
    until(lambda: first.pool.get_stats().get("requests_waiting") == 1)  # ours is told before the pool is asked
    with pytest.raises(OperationalError, match="requests waiting"):
        first.copy().ensure_connection()
    assert recording.alias().timeouts == 1
    assert recording.alias().peak_waiting == 2
    first.close()
    waiter.join()
    assert recording.alias().waiting == 0


@pytest.mark.parametrize(("pool", "outcome"), [(None, layout.ERROR), ({"timeout": 0.1}, layout.TIMEOUT)])
def test_a_database_that_is_down(
    pool: Any, outcome: int, connect: Callable[..., Any], work: Work, recording: Recording, unused_port: int
) -> None:
    connection = connect(pool=pool, PORT=str(unused_port))
    for _ in range(2):
        with pytest.raises(OperationalError):
            connection.ensure_connection()
    assert work.failures == [outcome, outcome]
    found = recording.alias()
    assert (found.checkouts, found.timeouts + found.errors) == (2, 2)
    assert (found.in_use, found.waiting, found.open) == (0, 0, [])


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of the loopback interface on which nobody listens, and which nobody else gets meanwhile."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def test_wrong_settings_of_a_pool_fail_as_they_do_without_us(connect: Callable[..., Any], recording: Recording) -> None:
    recording.may_fail = True
    connection = connect(pool={"min_size": 3, "max_size": 2})
    with pytest.raises(ValueError, match="max_size must be greater or equal than min_size"):
        connection.ensure_connection()
    connection = connect(pool={"timeout": "soon"}, alias="strange")
    with pytest.raises(TypeError):
        connection.ensure_connection()
    connection = connect(pool={"no_such_option": 1}, alias="stranger")
    with pytest.raises(TypeError, match="no_such_option"):
        connection.ensure_connection()
    connection = connect(pool=True, alias="both", CONN_MAX_AGE=60)
    with pytest.raises(ImproperlyConfigured, match="persistent"):
        connection.ensure_connection()
    assert not connection.connection


class BrokenError(Exception):
    """Recording has failed."""


def _broken(*args: Any, **kwargs: Any) -> Any:
    raise BrokenError


PARTS = [
    *((Channel, name) for name in ("ask", "got", "failed", "sized")),
    *(
        (Checkout, name)
        for name in ("query_started", "query_ended", "transaction_ended", "need_ended", "returned", "rename")
    ),
    *((Recorder, name) for name in ("channel", "note_kind", "opened_ring")),
    *((Ring, name) for name in ("record", "site_of_call")),
    *((Scope, name) for name in ("end", "rename")),
    *((pools, name) for name in ("describe", "gauge", "is_pool_timeout", "existing_pool")),
]


def query(connection: Any, sql: str = "SELECT 1") -> Any:
    """Return the first row of a query."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def all_that_users_do(connection: Any) -> None:
    """Use a connection in every way that is observed, and check that Django does what it says."""
    assert query(connection) == (1,)
    with transaction.atomic(using=ALIAS):
        assert query(connection, "SELECT 2") == (2,)
        with pytest.raises(ProgrammingError), transaction.atomic(using=ALIAS):
            query(connection, "SELECT no_such_column")
    connection.set_autocommit(False)
    query(connection)
    connection.rollback()
    connection.set_autocommit(True)
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 4) n")
        assert [cursor.fetchone(), *cursor.fetchmany(1), *cursor.fetchall()] == [(1,), (2,), (3,), (4,)]
    with connection.cursor() as cursor:
        cursor.executemany("SELECT %s", [[1]])
        assert cursor.callproc("abs", [-1]) == [-1]
        with cursor.copy("COPY (SELECT 1) TO STDOUT") as copy:
            assert list(copy.rows()) == [("1",)]
        assert list(cursor.stream("SELECT 1")) == [(1,)]
        first = connection.cursor()
    first.close()
    second = connection.copy()
    with pytest.raises(OperationalError):
        second.ensure_connection()
    connection.close()
    assert query(second) == (1,)
    second.close()


@pytest.mark.parametrize("pooled", [True, False], ids=["pool", "no pool"])
@pytest.mark.parametrize(("owner", "name"), PARTS, ids=[f"{owner.__name__}.{name}" for owner, name in PARTS])
def test_whatever_fails_in_recording_reaches_nobody(
    owner: Any,
    name: str,
    pooled: bool,
    connect: Callable[..., Any],
    recording: Recording,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recording.may_fail = True
    # The second connection cannot be had, with a pool or without.
    settings = {"pool": {"min_size": 1, "max_size": 1, "timeout": 0.01}} if pooled else {"OPTIONS": {}}
    connection = connect(**settings)
    if not pooled:
        monkeypatch.setattr(type(connection), "copy", lambda self: _unreachable(connect, connection))
    connections.settings[ALIAS] = connection.settings_dict
    connections[ALIAS] = connection
    try:
        if pooled:
            connection.pool.open(wait=True)
        with monkeypatch.context() as patch, caplog.at_level(logging.ERROR, "pool_doctor"):
            patch.setattr(owner, name, _broken)
            _as_request(lambda: all_that_users_do(connection))
        errors = [record for record in caplog.records if record.name == "pool_doctor"]
        assert len(errors) <= 1
        assert all(record.exc_info and record.exc_info[0] is BrokenError for record in errors)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, _broken)
            connection.ensure_connection()
        _as_request(lambda: all_that_users_do(connection))
    finally:
        del connections[ALIAS]
        del connections.settings[ALIAS]


def _unreachable(connect: Callable[..., Any], connection: Any) -> Any:
    """Return a connection that cannot be made the first time, and can the second."""
    other = connect(PASSWORD=connection.settings_dict["PASSWORD"])
    real = other.Database.connect

    class Once:
        """The database module, whose first connect() fails."""

        def __getattr__(self, name: str) -> Any:
            return getattr(type(connection).Database, name)

        def connect(self, **params: Any) -> Any:
            del other.Database
            del other.wrap_database_errors
            params["port"] = "1"
            return real(**params)

    other.Database = Once()
    return other


def _as_request(work: Callable[[], None]) -> None:
    """Do the work as a view does it: in a WSGI request, after routing."""
    before = current.get()
    done = []

    class Handler(WSGIHandler):
        """Resolves the route and does the work in place of the view."""

        def get_response(self, request: Any) -> Any:
            from django.http import HttpResponse

            self.resolve_request(request)
            work()
            done.append(True)
            return HttpResponse("done")

    response = Handler()(RequestFactory().get("/nodb/").environ, lambda *_: None)
    response.close()
    assert done
    assert current.get() is before


def test_the_pool_does_not_notice_us(pooled: Any, recording: Recording) -> None:
    """All that is called on the pool is what Django calls."""
    called = []
    pool = pooled.pool

    class Spy(ConnectionPool):
        """Notes which methods are called."""

        def __getattribute__(self, name: str) -> Any:
            value = super().__getattribute__(name)
            if not name.startswith("_") and callable(value):
                called.append(name)
            return value

    pool.__class__ = Spy
    query(pooled)
    pooled.close()
    assert [name for name in called if name in {"getconn", "putconn", "get_stats", "resize", "check"}] == [
        "getconn",
        "putconn",
    ]
