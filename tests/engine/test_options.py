"""Options of the engine: what is set for a connection is so on each physical one."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import DatabaseError, transaction
from django.test import override_settings
from django.test.utils import CaptureQueriesContext
from psycopg import IsolationLevel

from tests.engine.conftest import ALIAS, STOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import Database


def on_each(database: Database, ask: Callable[[], Any]) -> list[Any]:
    """Return the answers on each of the pool's two connections, on the first meeting and later."""
    answers = []
    for _ in range(2):
        answers.append(ask())
        with database.pool.connection():
            answers.append(ask())
    return answers


def test_isolation_level(configure: Callable[..., Database]) -> None:
    database = configure(options={"isolation_level": IsolationLevel.SERIALIZABLE})

    def level() -> Any:
        with transaction.atomic(using=ALIAS):
            return database.value("SHOW transaction_isolation")

    assert on_each(database, level) == ["serializable"] * 4


def test_server_side_binding(configure: Callable[..., Database], table: str) -> None:
    database = configure(options={"server_side_binding": True})

    def binds() -> Any:
        with database.connection.cursor() as cursor:
            assert not isinstance(cursor.cursor, psycopg.ClientCursor)
            return cursor.execute("SELECT %s::int + 1", [1]).fetchone()

    assert on_each(database, binds) == [(2,)] * 4
    cursor = database.connection.chunked_cursor()
    cursor.execute("SELECT generate_series(1, %s)", [3])
    assert cursor.fetchall() == [(1,), (2,), (3,)]
    cursor.close()
    assert database.in_use == 0


def test_prepared_statements_belong_to_the_physical_connection(configure: Callable[..., Database]) -> None:
    database = configure(options={"server_side_binding": True, "prepare_threshold": 1})
    asked = "SELECT %s::int"
    prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement = 'SELECT $1::int' AND %s = 1"

    def prepares() -> Any:
        for n in range(4):
            assert database.value(asked, [n]) == n
        return database.value(prepared, [1])

    assert on_each(database, prepares) == [1] * 4
    database.query("SET statement_timeout = '1min'")  # pins
    database.connection.close()  # cleans: the server has forgotten all statements
    for _ in range(2):
        assert on_each(database, prepares) == [1] * 4


@pytest.fixture
def role(witness: psycopg.Connection[Any]) -> Iterator[str]:
    """A role that may not log in."""
    witness.execute("DROP ROLE IF EXISTS pool_doctor_clerk")
    witness.execute("CREATE ROLE pool_doctor_clerk")
    yield "pool_doctor_clerk"
    witness.execute("DROP ROLE pool_doctor_clerk")


def test_assume_role(configure: Callable[..., Database], role: str) -> None:
    database = configure(options={"assume_role": role})
    assert on_each(database, lambda: database.value("SELECT current_user")) == [role] * 4
    database.query("SET application_name = 'changed'")
    database.connection.close()
    assert on_each(database, lambda: database.value("SELECT current_user")) == [role] * 4


@pytest.mark.parametrize("reset", ["RESET ROLE", "RESET ALL", "RESET SESSION AUTHORIZATION", "DISCARD ALL"])
def test_a_role_that_was_left_does_not_leak(configure: Callable[..., Database], role: str, reset: str) -> None:
    database = configure(options={"assume_role": role}, TIME_ZONE="Asia/Tokyo")
    database.query(reset)
    mine = database.query("SELECT current_user, current_setting('TimeZone')")
    assert mine != (role, "Asia/Tokyo"), "the owner goes on without"
    assert database.query("SELECT current_user, current_setting('TimeZone')") == mine
    database.connection.close()
    answers = on_each(database, lambda: database.query("SELECT current_user, current_setting('TimeZone')"))
    assert answers == [(role, "Asia/Tokyo")] * 4


def test_time_zone_of_one_alias(configure: Callable[..., Database]) -> None:
    tokyo, utc = configure(alias="tokyo", TIME_ZONE="Asia/Tokyo"), configure(alias="utc")
    moment = "SELECT '2026-01-01 00:00+00'::timestamptz"
    assert on_each(tokyo, lambda: tokyo.value("SHOW TimeZone")) == ["Asia/Tokyo"] * 4
    assert on_each(utc, lambda: utc.value("SHOW TimeZone")) == ["UTC"] * 4
    assert {found.utcoffset() for found in on_each(tokyo, lambda: tokyo.value(moment))} == {dt.timedelta(hours=9)}
    tokyo.query("SET TIME ZONE 'Europe/Paris'")
    tokyo.connection.close()
    assert on_each(tokyo, lambda: tokyo.value("SHOW TimeZone")) == ["Asia/Tokyo"] * 4


def test_a_change_of_settings_makes_a_new_pool_under_a_live_connection(configure: Callable[..., Database]) -> None:
    database = configure()
    assert database.value("SHOW TimeZone") == "UTC"
    old = database.pool
    with override_settings(TIME_ZONE="Asia/Tokyo", USE_TZ=False):
        assert database.value("SHOW TimeZone") == "Asia/Tokyo"
        assert database.pool is not old
    assert database.value("SHOW TimeZone") == "UTC"
    assert old.closed
    with transaction.atomic(using=ALIAS):
        pid = database.pid()
        with override_settings(TIME_ZONE="Asia/Tokyo", USE_TZ=False):
            assert database.value("SHOW TimeZone") == "Asia/Tokyo"
            assert database.pid() == pid
        assert database.value("SHOW TimeZone") == "UTC"
    assert not database.held
    assert database.pid() != pid


def test_execute_wrappers_belong_to_the_logical_connection(db2: Database) -> None:
    seen: list[str] = []

    def note(execute: Any, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        seen.append(sql)
        assert context["connection"] is db2.connection
        return execute(sql, params, many, context)

    def refuse(*_: Any) -> Any:
        raise ZeroDivisionError

    with db2.connection.execute_wrapper(note):
        db2.query("SELECT 1")
        with db2.pool.connection():
            db2.query("SELECT 2")
        with pytest.raises(ZeroDivisionError), db2.connection.execute_wrapper(refuse):
            db2.query("SELECT 3")
        assert db2.in_use == 0
    db2.query("SELECT 4")
    assert seen == ["SELECT 1", "SELECT 2", "SELECT 3"]


def test_logged_queries_are_those_of_the_stock_engine(configure: Callable[..., Database], table: str) -> None:
    def work(database: Database) -> list[str]:
        connection, alias = database.connection, database.alias
        with CaptureQueriesContext(connection) as captured:
            database.query("INSERT INTO numbers VALUES (%s)", [1])
            with transaction.atomic(using=alias):
                database.query()
                with transaction.atomic(using=alias):
                    database.query("SELECT 2")
            with connection.cursor() as cursor:
                cursor.executemany("INSERT INTO numbers VALUES (%s)", [[2], [3]])
                with cursor.copy("COPY numbers TO STDOUT") as copy:
                    list(copy)
            connection.set_autocommit(False)
            database.query("SELECT 3")
            connection.rollback()
            connection.set_autocommit(True)
            with pytest.raises(DatabaseError):
                database.query("SELECT no_such_column")
        return ["SAVEPOINT" if "SAVEPOINT" in query["sql"] else query["sql"] for query in captured.captured_queries]

    logged = work(configure())
    assert logged == work(configure(STOCK, alias="stock"))
    assert logged.count("BEGIN") == 2


def test_logged_queries_are_no_more_for_another_backend(configure: Callable[..., Database]) -> None:
    database = configure(AUTOCOMMIT=False)
    database.query()
    database.connection.rollback()
    with CaptureQueriesContext(database.connection) as captured, database.pool.connection():
        database.query("SELECT 5")
        database.connection.rollback()
    assert [query["sql"] for query in captured.captured_queries] == ["SELECT 5", "ROLLBACK"]
