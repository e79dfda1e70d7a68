"""Receivers of connection_created: at each checkout where they may set a tenant, else once for each connection."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.postgres.signals import get_hstore_oids, register_type_handlers
from django.db import DatabaseError, transaction
from django.db.backends.signals import connection_created
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from pool_doctor.backends.postgresql.base import DatabaseWrapper
from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from tests.engine.conftest import Database


@pytest.fixture
def connected() -> Iterator[Callable[..., Any]]:
    """A function that connects a receiver for the time of the test."""
    with ExitStack() as stack:

        def connect(receiver: Any, **options: Any) -> Any:
            connection_created.connect(receiver, weak=False, **options)
            stack.callback(connection_created.disconnect, receiver, sender=options.get("sender"))
            return receiver

        yield connect


tenant = {"name": "first"}
calls: list[str] = []


def set_tenant(sender: Any, connection: Any, **_: Any) -> None:
    """Set what row level security reads, as receivers of multi-tenant projects do."""
    if connection.alias == ALIAS:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('shop.tenant', %s, false)", [tenant["name"]])


def count(sender: Any, connection: Any, **_: Any) -> None:
    """Note that it was called."""
    calls.append(connection.alias)


@pytest.fixture(autouse=True)
def anew() -> None:
    """Nobody was called, and the tenant is the first."""
    calls.clear()
    tenant["name"] = "first"


def test_a_tenant_setter_runs_at_each_checkout_and_pins_nothing(db2: Database, connected: Callable[..., Any]) -> None:
    connected(set_tenant)
    for name in ("first", "second", "third"):
        tenant["name"] = name
        assert db2.value("SHOW shop.tenant") == name
        assert db2.in_use == 0
        with db2.pool.connection():
            assert db2.value("SHOW shop.tenant") == name
    with transaction.atomic(using=ALIAS):
        assert db2.value("SHOW shop.tenant") == "third"
    assert db2.in_use == 0


def test_threads_with_their_own_tenants_never_meet(db1: Database, connected: Callable[..., Any]) -> None:
    names: dict[int, str] = {}

    def set_mine(sender: Any, connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('shop.tenant', %s, false)", [names[id(connection)]])

    connected(set_mine)
    names[id(db1.connection)] = "mine"
    assert db1.value("SHOW shop.tenant") == "mine"

    def other() -> Any:
        names[id(db1.connection)] = "theirs"
        return db1.value("SHOW shop.tenant")

    assert db1.in_thread(other) == "theirs"
    assert db1.value("SHOW shop.tenant") == "mine"


def test_a_tenant_setter_leaves_no_trace_in_the_log_or_the_transaction(
    db2: Database, connected: Callable[..., Any], stored: Callable[[], list[int]]
) -> None:
    connected(set_tenant)
    db2.query()
    seen: list[str] = []

    def note(execute: Any, sql: Any, *rest: Any) -> Any:
        seen.append(sql)
        return execute(sql, *rest)

    connection = db2.connection
    with CaptureQueriesContext(connection) as captured, connection.execute_wrapper(note), db2.pool.connection():
        db2.query("SELECT 7")
        db2.query("SELECT 8")
    assert [query["sql"] for query in captured] == seen == ["SELECT 7", "SELECT 8"]
    connection.set_autocommit(False)
    db2.query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")  # refused after the first query of a transaction
    db2.query("INSERT INTO numbers VALUES (1)")
    connection.rollback()
    connection.set_autocommit(True)
    db2.query("INSERT INTO numbers VALUES (2)")
    assert stored() == [2]
    assert db2.value("SHOW shop.tenant") == "first"


def test_a_tenant_setter_with_autocommit_off_in_settings(
    configure: Callable[..., Database], connected: Callable[..., Any], stored: Callable[[], list[int]]
) -> None:
    connected(set_tenant)
    database = configure(AUTOCOMMIT=False)
    database.query("INSERT INTO numbers VALUES (1)")
    database.connection.commit()
    database.connection.set_autocommit(True)
    for number in (2, 3):
        database.query("INSERT INTO numbers VALUES (%s)", [number])
        with database.pool.connection():
            database.query("INSERT INTO numbers VALUES (%s)", [number + 10])
    assert stored() == [1, 2, 3, 12, 13]
    assert database.in_use == 0


def test_per_connection_receivers_run_once_for_each_connection(db2: Database, connected: Callable[..., Any]) -> None:
    connected(count)
    with override_settings(POOL_DOCTOR={"PER_CONNECTION_RECEIVERS": [f"{__name__}.count"]}):
        for _ in range(3):
            db2.query()
            with db2.pool.connection():
                db2.query()
    assert calls == [ALIAS] * 2
    db2.in_thread(db2.query)
    assert calls == [ALIAS] * 3, "a thread has a Django connection of its own"


def test_other_receivers_run_at_each_checkout(db1: Database, connected: Callable[..., Any]) -> None:
    connected(count)
    for _ in range(3):
        db1.query()
    with transaction.atomic(using=ALIAS):
        db1.query()
        db1.query()
    assert calls == [ALIAS] * 4


def test_receivers_for_another_sender_do_not_count(db1: Database, connected: Callable[..., Any]) -> None:
    class Other(DatabaseWrapper):
        pass

    connected(count, sender=Other)
    db1.query()
    db1.query()
    assert calls == []


def test_receivers_for_this_sender_count(db1: Database, connected: Callable[..., Any]) -> None:
    connected(count, sender=DatabaseWrapper)
    db1.query()
    db1.query()
    assert calls == [ALIAS] * 2


def test_receivers_may_come_and_go(db1: Database) -> None:
    db1.query()
    connection_created.connect(count)
    db1.query()
    connection_created.disconnect(count)
    db1.query()
    assert calls == [ALIAS]

    def forgotten(**_: Any) -> None:
        calls.append("forgotten")

    connection_created.connect(forgotten)
    db1.query()
    del forgotten
    gc.collect()
    db1.query()
    assert calls == [ALIAS, "forgotten"]


@pytest.mark.parametrize("meeting", ["the first connection", "another connection", "the same again"])
def test_a_receiver_that_raises(db2: Database, connected: Callable[..., Any], meeting: str) -> None:
    def fail(sender: Any, connection: Any, **_: Any) -> None:
        calls.append("failed")
        connection.cursor().execute("SELECT 1")
        if len(calls) < 4:
            raise ZeroDivisionError

    with ExitStack() as stack:
        if meeting != "the first connection":
            db2.query()
        if meeting == "another connection":
            stack.enter_context(db2.pool.connection())
        taken = db2.in_use
        connected(fail)
        for number in (1, 2):
            with pytest.raises(ZeroDivisionError):
                db2.query()
            assert db2.in_use == taken
            assert calls == ["failed"] * number
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
            pass
        assert db2.in_use == taken
        assert db2.value("SELECT 3") == 3
        assert db2.in_use == taken
        assert db2.connection.get_autocommit() is True


def test_a_receiver_whose_query_fails_raises_djangos_error(db1: Database, connected: Callable[..., Any]) -> None:
    def fail(sender: Any, connection: Any, **_: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT no_such_column")

    db1.query()
    connected(fail)
    with pytest.raises(DatabaseError, match="no_such_column"):
        db1.query()
    assert db1.in_use == 0


def test_a_receiver_sees_a_connection_ready_for_use(db2: Database, connected: Callable[..., Any]) -> None:
    """A receiver may open a transaction of its own, ask for the mode, and use the physical connection."""
    seen: list[Any] = []

    def look(sender: Any, connection: Any, **_: Any) -> None:
        seen.append((connection.connection.info.backend_pid, connection.get_autocommit(), connection.in_atomic_block))
        with transaction.atomic(using=ALIAS), connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            assert cursor.fetchone() == (connection.connection.info.backend_pid,)

    connected(look)
    for _ in range(2):
        db2.query()
        with db2.pool.connection():
            assert seen[-1][1:] == (True, False)
            assert db2.pid() == seen[-1][0]
    assert len({pid for pid, _, _ in seen}) == 2
    assert db2.in_use == 0


@pytest.fixture
def hstore(witness: psycopg.Connection[Any]) -> Iterator[None]:
    """The extension hstore, whose type django.contrib.postgres registers on each connection."""
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = 'hstore'"
    if witness.execute(available).fetchone() != (1,):
        pytest.skip("this PostgreSQL has no hstore")
    get_hstore_oids.cache_clear()
    yield
    get_hstore_oids.cache_clear()
    witness.execute("DROP EXTENSION IF EXISTS hstore")


def test_types_of_contrib_postgres_are_registered_on_each_connection(
    db2: Database, hstore: None, witness: psycopg.Connection[Any], connected: Callable[..., Any]
) -> None:
    witness.execute("CREATE EXTENSION hstore")
    connected(register_type_handlers)
    for _ in range(2):
        assert db2.value("SELECT 'a=>1'::hstore") == {"a": "1"}
        with db2.pool.connection():
            assert db2.value("SELECT 'a=>1'::hstore") == {"a": "1"}


def test_contrib_postgres_costs_no_checkout_a_signal(
    db1: Database, hstore: None, connected: Callable[..., Any]
) -> None:
    announced: list[int] = []
    connected(register_type_handlers)
    db1.query()
    original = DatabaseWrapper._announce

    def note(self: Any, connection: Any) -> None:
        announced.append(1)
        original(self, connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseWrapper, "_announce", note)
        db1.query()
    assert announced == []


def test_an_extension_that_a_migration_makes_is_known_on_all_connections(
    db2: Database, hstore: None, connected: Callable[..., Any]
) -> None:
    from django.contrib.postgres.operations import HStoreExtension
    from django.db.migrations.state import ProjectState

    connected(register_type_handlers)
    db2.query()
    with db2.pool.connection():
        db2.query()
    for atomic in (True, False):
        with db2.connection.schema_editor(atomic=atomic) as editor:
            HStoreExtension().database_forwards("shop", editor, ProjectState(), ProjectState())
        for _ in range(2):
            assert db2.value("SELECT 'a=>1'::hstore") == {"a": "1"}
            with db2.pool.connection():
                assert db2.value("SELECT 'a=>1'::hstore") == {"a": "1"}
        with db2.connection.schema_editor(atomic=atomic) as editor:
            HStoreExtension().database_backwards("shop", editor, ProjectState(), ProjectState())
        get_hstore_oids.cache_clear()
