"""The pool under the engine: order, checks, shrinking, a pool that is closed or missing, and what Django asks of it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from django.db import InterfaceError, OperationalError, connections, transaction
from django.test import override_settings

import pool_doctor
from pool_doctor.adapters.conf import SETTING
from tests.engine.conftest import ALIAS, RELEASING, STOCK
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.engine.conftest import Database


def stats(database: Database) -> dict[str, int]:
    """What psycopg_pool counts."""
    found: dict[str, int] = database.pool.get_stats()
    return found


def test_the_connection_returned_last_is_handed_out_first(configure: Callable[..., Database]) -> None:
    database = configure(pool={"min_size": 4, "max_size": 4, "timeout": 5})
    assert len({database.pid() for _ in range(10)}) == 1
    taken = [database.pool.getconn() for _ in range(4)]
    for connection in (taken[2], taken[0], taken[3], taken[1]):
        database.pool.putconn(connection)
    assert database.pid() == taken[1].info.backend_pid


def test_surplus_connections_are_closed(configure: Callable[..., Database]) -> None:
    database = configure(pool={"min_size": 1, "max_size": 3, "timeout": 5, "max_idle": 0.2})
    database.grown(3)
    assert stats(database)["pool_size"] == 3

    def shrunk() -> bool:
        database.query()
        return stats(database)["pool_size"] == 1

    until(shrunk, what="a pool of one connection")


def test_connections_past_their_lifetime_are_replaced(configure: Callable[..., Database]) -> None:
    database = configure(pool={"min_size": 1, "max_size": 1, "timeout": 5, "max_lifetime": 0.2})
    pid = database.pid()
    until(lambda: database.pid() != pid, what="another connection")
    database.whole()
    assert stats(database)["pool_size"] == 1


def test_a_connection_that_is_dropped_without_close_goes_back(db1: Database) -> None:
    db1.connection.ensure_connection()
    db1.connection.connection = None
    assert db1.query() == (1,)
    db1.whole()


def test_waiting_clients_are_served_in_order(db1: Database) -> None:
    order: list[int] = []
    threads = []
    with pool_doctor.hold(ALIAS):
        db1.query()
        for number in range(3):

            def work(number: int = number) -> None:
                db1.query()
                order.append(number)

            threads.append(threading.Thread(target=work))
            threads[-1].start()
            until(lambda number=number: len(db1.pool._waiting) == number + 1, what="a waiting client")
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2]


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note each check of a connection."""
    from psycopg_pool import ConnectionPool

    seen: list[Any] = []
    original = ConnectionPool.check_connection

    def check(connection: Any) -> None:
        seen.append(connection)
        original(connection)

    monkeypatch.setattr(ConnectionPool, "check_connection", staticmethod(check))
    return seen


def test_a_connection_in_steady_use_is_not_checked(configure: Callable[..., Database], checks: list[Any]) -> None:
    with override_settings(**{SETTING: {"HEALTH_CHECK_BYPASS": 60}}):
        database = configure(CONN_HEALTH_CHECKS=True)
        for _ in range(5):
            database.query()
    assert checks == []


def test_a_connection_that_was_idle_is_checked(configure: Callable[..., Database], checks: list[Any]) -> None:
    database = configure(CONN_HEALTH_CHECKS=True)
    checks.clear()
    with override_settings(**{SETTING: {"HEALTH_CHECK_BYPASS": 0}}):
        for _ in range(5):
            database.query()
    assert len(checks) == 5


def test_nothing_is_checked_unless_asked_for(configure: Callable[..., Database], checks: list[Any]) -> None:
    database = configure(CONN_HEALTH_CHECKS=False)
    with override_settings(**{SETTING: {"HEALTH_CHECK_BYPASS": 0}}):
        database.query()
    assert checks == []


def test_a_broken_connection_is_not_handed_out(
    configure: Callable[..., Database], witness: psycopg.Connection[Any]
) -> None:
    database = configure(CONN_HEALTH_CHECKS=True, pool={"min_size": 1, "max_size": 1, "timeout": 10})
    with override_settings(**{SETTING: {"HEALTH_CHECK_BYPASS": 0}}):
        pid = database.pid()
        witness.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
        assert database.pid() != pid
    database.whole()


def test_without_checks_the_first_to_meet_it_sees_the_error(db1: Database, witness: psycopg.Connection[Any]) -> None:
    pid = db1.pid()
    witness.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    with pytest.raises(OperationalError):
        db1.query()
    assert db1.pid() != pid
    db1.whole()


def test_a_pool_that_is_closed_and_made_anew_under_a_live_connection(db1: Database) -> None:
    pid = db1.pid()
    old = db1.pool
    db1.connection.close_pool()
    assert old.closed
    assert db1.pid() != pid
    assert db1.pool is not old
    with transaction.atomic(using=ALIAS):
        pid = db1.pid()
        db1.connection.close_pool()
        assert db1.pid() == pid, "a transaction goes on where it began"
    assert not db1.held
    assert db1.pid() != pid


def test_other_threads_follow_to_the_new_pool(db1: Database) -> None:
    pids: list[int] = []
    ready, closed = threading.Event(), threading.Event()

    def work() -> None:
        pids.append(db1.pid())
        ready.set()
        assert closed.wait(20)
        pids.append(db1.pid())
        connections.close_all()

    thread = threading.Thread(target=work)
    thread.start()
    assert ready.wait(20)
    db1.connection.close_pool()
    closed.set()
    thread.join()
    assert pids[0] != pids[1]
    db1.whole()


def test_without_a_pool_the_engine_is_the_stock_one(
    configure: Callable[..., Database], stored: Callable[[], list[int]]
) -> None:
    def work(database: Database) -> list[Any]:
        seen: list[Any] = [database.connection.pool, database.held]
        pids = [database.pid(), database.pid()]
        seen += [pids[0] == pids[1], database.held]
        database.query("SET statement_timeout = '77s'")
        with transaction.atomic(using=database.alias):
            database.query("INSERT INTO numbers VALUES (1)")
        seen += [database.value("SHOW statement_timeout"), database.held]
        database.connection.set_autocommit(False)
        database.query("INSERT INTO numbers VALUES (2)")
        database.connection.rollback()
        database.connection.set_autocommit(True)
        seen.append(database.connection.is_usable())
        database.connection.close_if_unusable_or_obsolete()
        seen += [database.held, database.value("SHOW statement_timeout")]
        with database.connection.temporary_connection():
            seen.append(database.held)
        seen.append(database.held)
        database.connection.close()
        seen.append(database.held)
        database.connection.close_pool()
        return seen

    for age in (0, 60):
        mine = work(configure(RELEASING, alias=f"mine_{age}", pool={}, CONN_MAX_AGE=age))
        assert mine == work(configure(STOCK, alias=f"stock_{age}", pool={}, CONN_MAX_AGE=age))
    assert stored() == [1] * 4


def test_is_usable(db1: Database, witness: psycopg.Connection[Any]) -> None:
    assert db1.connection.is_usable() is False, "as on the stock engine, before it is connected"
    db1.query()
    assert db1.connection.is_usable() is True
    assert db1.in_use == 0
    with transaction.atomic(using=ALIAS):
        assert db1.connection.is_usable() is True
        witness.execute("SELECT pg_terminate_backend(%s, 5000)", [db1.pid()])
        assert db1.connection.is_usable() is False
        transaction.set_rollback(True, using=ALIAS)
    db1.connection.close()
    db1.whole()
    db1.query()


def test_is_usable_where_no_connection_comes(db1: Database) -> None:
    db1.query()
    with db1.pool.connection():
        assert db1.connection.is_usable() is False
    assert db1.connection.is_usable() is True


def test_the_end_of_a_request_ends_the_logical_connection(db1: Database) -> None:
    db1.connection.set_autocommit(False)
    db1.query()
    db1.connection.commit()
    db1.connection.close_if_unusable_or_obsolete()
    assert db1.connection.get_autocommit() is True, "a request does not inherit the mode of the one before"
    db1.query("SELECT 1")
    db1.connection.set_autocommit(False)
    db1.query()
    db1.connection.close_if_unusable_or_obsolete()
    assert db1.in_use == 0
    assert db1.connection.get_autocommit() is True


def test_temporary_connection(db1: Database) -> None:
    with db1.connection.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
        assert db1.connection.connection.info.server_version >= 150000
    assert db1.in_use == 0
    db1.connection.set_autocommit(False)
    with db1.connection.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
    assert db1.in_use == 1, "the transaction that the query began"
    db1.connection.rollback()
    assert db1.connection.get_autocommit() is False, "there was a logical connection before"


def test_an_ensured_connection_is_there(db1: Database) -> None:
    db1.query()
    db1.connection.ensure_connection()
    assert db1.connection.connection.info.backend_pid == db1.pid()
    assert db1.in_use == 0, "given back after the query"


def test_server_version_and_copies(db1: Database) -> None:
    assert db1.connection.pg_version >= 150000
    assert db1.connection.get_database_version() >= (15,)
    copy = db1.connection.copy(alias="copied")
    with copy.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert copy.connection is None
    copy.close()
    copy.close_pool()
    with db1.connection._nodb_cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("postgres",)
    assert db1.in_use == 0


def test_a_closed_cursor_says_so(db1: Database) -> None:
    cursor = db1.connection.cursor()
    cursor.close()
    with pytest.raises(InterfaceError):
        cursor.execute("SELECT 1")
    assert db1.in_use == 0


@pytest.mark.parametrize("engine", [RELEASING, STOCK])
def test_a_timeout_names_the_holders(configure: Callable[..., Database], engine: str) -> None:
    from psycopg_pool import PoolTimeout

    database = configure(engine, alias="busy", pool={"min_size": 1, "max_size": 1, "timeout": 0.5})

    def ask() -> str:
        with pytest.raises(OperationalError) as caught:
            database.query()
        assert isinstance(caught.value.__cause__, PoolTimeout)
        return str(caught.value)

    with pool_doctor.scope("nightly import"), transaction.atomic(using="busy"):
        database.query()
        first, second, third, *rest = database.in_thread(ask).splitlines()
    assert first == "couldn't get a connection after 0.50 sec"
    assert second.startswith("The pool of database 'busy' in process ")
    assert second.endswith(" has 1 connections (max_size 1), 1 of them in use; 0 more requests wait.")
    assert third.startswith("  held for ")
    assert " s, no query for " in third
    assert ": nightly import, from tests/engine/" in third
    assert rest == []
    database.connection.close()
    assert database.in_thread(lambda: database.value("SELECT 1")) == 1


def test_a_full_queue_names_the_holders(configure: Callable[..., Database]) -> None:
    from psycopg_pool import TooManyRequests

    database = configure(pool={"min_size": 1, "max_size": 1, "timeout": 20, "max_waiting": 1})
    with transaction.atomic(using=ALIAS):
        database.query()
        waiting = threading.Thread(target=lambda: database.in_thread(database.query))
        waiting.start()
        until(lambda: len(database.pool._waiting) == 1, what="a waiting client")

        def ask() -> str:
            with pytest.raises(OperationalError) as caught:
                database.query()
            assert isinstance(caught.value.__cause__, TooManyRequests)
            return str(caught.value)

        message = database.in_thread(ask)
    waiting.join()
    assert "1 of them in use; 1 more requests wait." in message
