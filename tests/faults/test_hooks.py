"""Exceptions in what runs when a connection is made: the same as on the stock engine, and nothing is held after."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from django.db.backends.postgresql.base import DatabaseWrapper as Stock
from django.db.backends.signals import connection_created

from tests.faults.databases import Database, outcome, request
from tests.faults.proxy import REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.faults.proxy import Proxy
    from tests.faults.server import RestartableServer


class RefusedError(Exception):
    """What a receiver raises."""


@contextmanager
def receiver(function: Callable[..., None]) -> Iterator[None]:
    """Connect a receiver of connection_created."""
    connection_created.connect(function)
    try:
        yield
    finally:
        connection_created.disconnect(function)


def test_configure_that_raises(on_both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def scenario(database: Database) -> str:
        def refuse(wrapper: Any, connection: Any) -> None:
            raise RefusedError

        with monkeypatch.context() as patch:
            patch.setattr(Stock, "_configure_connection", refuse)
            database.pool  # noqa: B018 - the pool takes the method when it is made
            seen = outcome(lambda: database.query("SELECT 1"))
            database.connection.close_pool()
        assert outcome(lambda: database.query("SELECT 1")) == "done"
        return seen

    assert on_both(scenario, pool={"timeout": 0.3}) == "OperationalError from PoolTimeout"


def test_configure_that_loses_its_connection(on_both: Any, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        proxy.cut(REQUEST, b"set_config")
        seen = outcome(lambda: database.query("SELECT 1"))  # the pool tries again after a second
        return seen, database.query("SELECT current_setting('TimeZone')")

    assert on_both(scenario, TIME_ZONE="Europe/Paris") == ("done", [("Europe/Paris",)])
    assert proxy.cuts_done == 2


def test_a_receiver_that_raises(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        def refuse(connection: Any, **_: Any) -> None:
            if connection.alias == database.alias:
                raise RefusedError

        with receiver(refuse):
            seen = outcome(lambda: database.query("SELECT 1"))
            in_transaction = outcome(lambda: database.atomic().__enter__())
        return seen, in_transaction, outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == ("RefusedError", "RefusedError", "done")


def test_a_receiver_that_raises_at_a_later_checkout(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        calls = []

        def refuse_once(connection: Any, **_: Any) -> None:
            if connection.alias == database.alias:
                calls.append(connection)
                if len(calls) == 2:
                    raise RefusedError

        with receiver(refuse_once):
            return tuple(outcome(lambda: database.query("SELECT 1")) for _ in range(3))

    assert on_both(scenario) == ("done", "RefusedError", "done")


def test_a_receiver_whose_query_fails(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        def ask_for_nothing(connection: Any, **_: Any) -> None:
            if connection.alias == database.alias:
                connection.cursor().execute("SELECT * FROM nothing")

        with receiver(ask_for_nothing):
            seen = outcome(lambda: database.query("SELECT 1"))
        return seen, outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == ("ProgrammingError from UndefinedTable", "done")


def test_a_receiver_that_ends_the_connection(on_both: Any, server: RestartableServer) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        def end(connection: Any, **_: Any) -> None:
            if connection.alias == database.alias:
                with server.admin() as admin:
                    pid = connection.connection.info.backend_pid
                    admin.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])

        with receiver(end):
            seen = outcome(lambda: database.query("SELECT 1"))
        return seen, outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == ("OperationalError from AdminShutdown", "done")


@pytest.mark.parametrize("robust", [False, True])
def test_a_hook_that_raises_after_commit(on_both: Any, robust: bool) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def refuse() -> None:
            raise RefusedError

        def work() -> None:
            with database.atomic():
                database.insert("a", 1)
                database.connection.on_commit(refuse, robust=robust)

        with request():
            seen = outcome(work)
        return seen, database.query("SELECT work, part FROM written")

    assert on_both(scenario) == ("done" if robust else "RefusedError", [("a", 1)])


def test_an_execute_wrapper_that_raises(on_both: Any) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        def refuse(execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
            raise RefusedError

        def work() -> None:
            with database.connection.execute_wrapper(refuse):
                database.query("SELECT 1")

        return outcome(work), outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == ("RefusedError", "done")
