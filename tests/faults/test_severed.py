"""Connections cut at each point of a query's life: the same errors as on the stock engine, and nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError

from tests.faults.databases import Database, outcome, request
from tests.faults.proxy import ANSWER, HALF_ANSWER, REQUEST
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.proxy import Proxy
    from tests.faults.server import RestartableServer

    OnBoth = Callable[..., Any]

LOST = "OperationalError from OperationalError"


def rows(server: RestartableServer) -> list[Any]:
    """Return what was written, as the server knows it."""
    with server.admin() as admin:
        return admin.execute("SELECT work, part FROM written ORDER BY work, part").fetchall()


def test_before_the_pool_has_a_connection(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        proxy.refuse()
        refused = outcome(lambda: database.query("SELECT 1"))
        proxy.refuse(False)
        # The pool tries again by itself, after a second.
        until(lambda: outcome(lambda: database.query("SELECT 1")) == "done", what="a connection")
        return (refused,)

    assert on_both(scenario, pool={"timeout": 0.3}) == ("OperationalError from PoolTimeout",)


def test_while_the_first_connection_is_made(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> str:
        proxy.cut(ANSWER, b"user\x00postgres\x00")  # the start of the session
        return outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == "done"
    assert proxy.cuts_done == 2


def test_idle_in_the_pool(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        outcome(lambda: database.query("SELECT 1"))
        proxy.sever()
        return tuple(outcome(lambda: database.query("SELECT 1")) for _ in range(2))

    assert on_both(scenario) == (LOST, "done")


def test_idle_in_the_pool_with_health_checks(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> str:
        outcome(lambda: database.query("SELECT 1"))
        proxy.sever()
        # As if it had been idle for longer than HEALTH_CHECK_BYPASS.
        for connection in database.pool._pool:
            connection._idle_since = 0.0
        return outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario, CONN_HEALTH_CHECKS=True) == "done"


def test_between_a_cursor_and_its_query(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        def work() -> None:
            with database.connection.cursor() as cursor:
                proxy.sever()
                cursor.execute("INSERT INTO written VALUES ('a', 1)")

        return outcome(work), outcome(lambda: database.insert("b", 1))

    assert on_both(scenario) == (LOST, "done")


@pytest.mark.parametrize(("at", "expected"), [(REQUEST, 0), (ANSWER, 1), (HALF_ANSWER, 1)])
def test_in_a_query_that_commits_itself(
    on_both: OnBoth, proxy: Proxy, server: RestartableServer, at: str, expected: int
) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        proxy.cut(at, b"/* here */")
        seen = outcome(lambda: database.insert("a", 1, "/* here */"))
        return seen, rows(server), outcome(lambda: database.insert("b", 1))

    assert on_both(scenario) == (LOST, [("a", 1)] * expected, "done")


@pytest.mark.parametrize("at", [REQUEST, ANSWER, HALF_ANSWER])
def test_in_a_query_that_reads(on_both: OnBoth, proxy: Proxy, at: str) -> None:
    def scenario(database: Database) -> tuple[str, ...]:
        proxy.cut(at, b"/* here */")
        seen = outcome(lambda: database.query("SELECT repeat('x', 100000) /* here */"))
        return seen, outcome(lambda: database.query("SELECT 1"))

    assert on_both(scenario) == (LOST, "done")


def test_the_same_request_goes_on_once_the_broken_connection_is_replaced(
    proxy: Proxy, on_both: OnBoth, server: RestartableServer
) -> None:
    def scenario(database: Database) -> None:
        with request():
            proxy.cut(REQUEST, b"/* here */")
            with pytest.raises(OperationalError):
                database.insert("a", 1, "/* here */")
            # The stock engine goes on with the broken one until the end of the request.
            if "releasing" in database.alias:
                database.insert("b", 1)
                assert rows(server) == [("b", 1)]

    on_both(scenario)


@pytest.mark.parametrize("at", ["between", REQUEST, ANSWER, HALF_ANSWER])
def test_in_a_transaction(on_both: OnBoth, proxy: Proxy, server: RestartableServer, at: str) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            with database.atomic():
                database.insert("a", 1)
                if at == "between":
                    proxy.sever()
                else:
                    proxy.cut(at, b"/* here */")
                database.insert("a", 2, "/* here */")

        return outcome(work), rows(server), outcome(lambda: database.insert("b", 1))

    assert on_both(scenario) == (LOST, [], "done")


def test_in_a_savepoint(on_both: OnBoth, proxy: Proxy, server: RestartableServer) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def inner() -> None:
            with database.atomic():
                proxy.sever()
                database.insert("a", 2)

        def work() -> None:
            with database.atomic():
                database.insert("a", 1)
                with pytest.raises(OperationalError):
                    inner()
                database.insert("a", 3)

        return outcome(work), rows(server), outcome(lambda: database.insert("b", 1))

    seen, written, after = on_both(scenario)
    assert seen.startswith(("OperationalError", "InterfaceError", "ProgrammingError", "TransactionManagementError"))
    assert (written, after) == ([], "done")


@pytest.mark.parametrize(("at", "expected"), [(REQUEST, []), (ANSWER, [1, 2]), (HALF_ANSWER, [1, 2])])
def test_at_commit(on_both: OnBoth, proxy: Proxy, server: RestartableServer, at: str, expected: list[int]) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        hooks: list[str] = []

        def work() -> None:
            with database.atomic():
                database.insert("a", 1)
                database.insert("a", 2)
                database.connection.on_commit(lambda: hooks.append("ran"))
                proxy.cut(at, b"COMMIT")

        seen = outcome(work)
        return seen, [part for _, part in rows(server)], hooks, outcome(lambda: database.insert("b", 1))

    assert on_both(scenario) == (LOST, expected, [], "done")


def test_at_commit_of_a_transaction_begun_by_hand(on_both: OnBoth, proxy: Proxy, server: RestartableServer) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            database.connection.set_autocommit(False)
            database.insert("a", 1)
            proxy.cut(REQUEST, b"COMMIT")
            database.connection.commit()

        return outcome(work), rows(server), outcome(lambda: database.insert("b", 1)), rows(server)

    assert on_both(scenario) == (LOST, [], "done", [("b", 1)])


@pytest.mark.parametrize("at", ["between", REQUEST, ANSWER])
def test_in_copy_to_the_server(on_both: OnBoth, proxy: Proxy, server: RestartableServer, at: str) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            with (
                database.connection.cursor() as cursor,
                cursor.copy("COPY written FROM STDIN") as copy,
            ):
                copy.write_row(("a", 1))
                if at == "between":
                    proxy.sever()
                    for part in range(200_000):  # until the broken socket shows
                        copy.write_row(("a", part))
                else:
                    # Nothing is sent of so little data before the end, with this row.
                    proxy.cut(at, b"the last row")
                    copy.write_row(("the last row", 2))

        # Once the end of COPY has arrived, it is committed.
        return outcome(work), len(rows(server)), outcome(lambda: database.insert("b", 1))

    seen, written, after = on_both(scenario)
    assert seen.startswith("OperationalError")
    assert (written, after) == (2 if at == ANSWER else 0, "done")


def test_in_copy_from_the_server(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            with (
                database.connection.cursor() as cursor,
                cursor.copy("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 50000)) TO STDOUT") as copy,
            ):
                for number, _ in enumerate(copy):
                    if number == 10:
                        proxy.sever()

        return outcome(work), outcome(lambda: database.query("SELECT 1"))

    seen, after = on_both(scenario)
    assert seen.startswith("OperationalError")
    assert after == "done"


def test_in_a_server_side_cursor(on_both: OnBoth, proxy: Proxy) -> None:
    def scenario(database: Database) -> tuple[Any, ...]:
        def work() -> None:
            with database.atomic(), database.connection.chunked_cursor() as cursor:
                cursor.execute("SELECT generate_series(1, 1000)")
                cursor.fetchmany(10)
                proxy.sever()
                cursor.fetchmany(10)

        return outcome(work), outcome(lambda: database.query("SELECT 1"))

    seen, after = on_both(scenario)
    assert seen.startswith("OperationalError")
    assert after == "done"
