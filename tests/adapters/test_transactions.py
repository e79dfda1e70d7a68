"""Transactions: a connection is needed from their begin to their end, however they are made."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections, transaction
from django.db.utils import DatabaseError, InterfaceError, OperationalError

from tests.adapters.conftest import ALIAS, POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.adapters.conftest import Recording, Work


@pytest.fixture
def registered(connect: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """`connect`, for one connection that transaction.atomic(using=ALIAS) finds too."""

    def registered(**settings: Any) -> Any:
        connection = connect(**settings)
        connections.settings[ALIAS] = connection.settings_dict
        connections[ALIAS] = connection
        return connection

    yield registered
    if ALIAS in connections.settings:
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture(params=[POOL, None], ids=["pool", "no pool"])
def connection(request: pytest.FixtureRequest, registered: Callable[..., Any]) -> Any:
    """A connection of the stock engine, with and without a pool."""
    return registered(pool=request.param)


def query(connection: Any, sql: str = "SELECT 1") -> None:
    """Run a statement in a cursor of its own."""
    with connection.cursor() as cursor:
        cursor.execute(sql)


def test_atomic_is_one_need(connection: Any, work: Work) -> None:
    with transaction.atomic(using=ALIAS):
        connection.cursor().close()  # nothing was sent to the server yet
        assert work.segments == []
        query(connection)
        time.sleep(0.02)
        query(connection)
        assert work.segments == []
    assert len(work.segments) == 1
    assert work.segments[0] >= 0.02
    assert work.statements == [("SELECT 1", True), ("SELECT 1", True)]
    assert len(work.transactions) == 1


def test_nested_blocks_and_savepoints_end_nothing(connection: Any, work: Work) -> None:
    with transaction.atomic(using=ALIAS):
        with transaction.atomic(using=ALIAS):
            query(connection)
        with pytest.raises(DatabaseError), transaction.atomic(using=ALIAS):
            query(connection, "SELECT no_such_column")
        create = getattr(transaction, "savepoint_create", None) or transaction.savepoint  # its name until Django 6.1
        transaction.savepoint_rollback(create(using=ALIAS), using=ALIAS)
        with transaction.atomic(using=ALIAS, savepoint=False):
            query(connection)
        assert work.segments == []
    assert len(work.segments) == 1


def test_an_empty_block_ends_its_need(connection: Any, work: Work) -> None:
    query(connection)
    with transaction.atomic(using=ALIAS):
        time.sleep(0.01)
    assert len(work.segments) == 2
    assert work.segments[1] >= 0.01


def test_a_block_that_rolls_back_ends_its_need(connection: Any, work: Work) -> None:
    with pytest.raises(DatabaseError), transaction.atomic(using=ALIAS):
        query(connection, "SELECT no_such_column")
    assert len(work.segments) == 1
    with transaction.atomic(using=ALIAS):
        query(connection)
        transaction.set_rollback(True, using=ALIAS)
    assert len(work.segments) == 2


def test_hooks_run_after_the_need(connection: Any, work: Work) -> None:
    seen = []
    with transaction.atomic(using=ALIAS):
        query(connection)
        transaction.on_commit(lambda: seen.append(len(work.segments)), using=ALIAS)
    assert seen == [1]


def test_a_cursor_left_open_by_a_block_goes_on_needing(connection: Any, work: Work) -> None:
    with transaction.atomic(using=ALIAS):
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
    assert work.segments == []
    cursor.close()
    assert len(work.segments) == 1


def test_manual_transactions_end_with_commit_and_rollback(connection: Any, work: Work) -> None:
    connection.set_autocommit(False)
    query(connection)
    assert work.segments == []
    connection.commit()
    assert len(work.segments) == 1
    query(connection)
    assert len(work.segments) == 1
    connection.rollback()
    assert len(work.segments) == 2
    connection.set_autocommit(True)
    query(connection)
    assert len(work.segments) == 3


def test_autocommit_off_in_settings(registered: Callable[..., Any], work: Work) -> None:
    connection = registered(pool=POOL, AUTOCOMMIT=False)
    query(connection)
    assert work.segments == []
    connection.commit()
    assert len(work.segments) == 1


def test_an_explicit_begin_is_a_transaction(connection: Any, work: Work) -> None:
    query(connection, "BEGIN")
    query(connection)
    assert work.segments == []
    query(connection, "COMMIT")
    assert len(work.segments) == 1
    query(connection)
    assert len(work.segments) == 2


def test_the_time_of_a_commit_is_query_time(connection: Any, work: Work) -> None:
    query(connection, "CREATE TEMP TABLE parent (n int PRIMARY KEY)")
    query(
        connection,
        "CREATE FUNCTION pg_temp.slow() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_sleep(0.05); RETURN NULL; END $$",
    )
    query(
        connection,
        "CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON parent DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION pg_temp.slow()",
    )
    with transaction.atomic(using=ALIAS):
        query(connection, "INSERT INTO parent VALUES (1)")
    query(connection, "DROP TABLE parent")
    connection.close()
    (checkout,) = work.returns
    assert checkout.query_time / 1e9 >= sum(work.queries) + 0.05


def kill(connection: Any, other: Any) -> None:
    """End a connection's backend, as a restarting server or a failover does."""
    pid = connection.connection.info.backend_pid
    with other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@pytest.fixture
def other(connect: Callable[..., Any]) -> Any:
    """A second connection, to do things to the first."""
    return connect(alias="other_one")


def test_a_connection_that_breaks_between_transactions(
    connection: Any, other: Any, work: Work, recording: Recording
) -> None:
    query(connection)
    kill(connection, other)
    with pytest.raises(OperationalError):
        query(connection)
    connection.close_if_unusable_or_obsolete()
    assert recording.alias().in_use == 0
    query(connection)
    connection.close()
    found = recording.alias()
    assert (found.checkouts, found.errors, found.in_use, found.open) == (2, 0, 0, [])
    assert found.hold.count == found.needed.count == 2


def test_a_connection_that_breaks_inside_a_transaction(
    connection: Any, other: Any, work: Work, recording: Recording
) -> None:
    def payment() -> None:
        with transaction.atomic(using=ALIAS):
            query(connection)
            kill(connection, other)
            query(connection)

    with pytest.raises((OperationalError, InterfaceError)):
        payment()
    query(connection)
    connection.close()
    found = recording.alias()
    assert (found.checkouts, found.in_use, found.open) == (2, 0, [])
    assert found.needed.count == 2


def test_closing_inside_a_block_ends_the_checkout(connection: Any, work: Work, recording: Recording) -> None:
    def payment() -> None:
        with transaction.atomic(using=ALIAS):
            query(connection)
            connection.close()
            assert recording.alias().in_use == 0
            query(connection)

    with pytest.raises(DatabaseError):
        payment()
    query(connection)
    connection.close()
    found = recording.alias()
    assert (found.checkouts, found.in_use) == (2, 0)
