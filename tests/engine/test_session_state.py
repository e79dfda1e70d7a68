"""Session state: it neither leaks into another's work nor breaks its owner's, and ends with the scope or close()."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from django.core.signals import request_finished, request_started
from django.db import DatabaseError, transaction

import pool_doctor
from pool_doctor.adapters import session
from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.engine.conftest import Database

# What changes the session, what asks for it, what the owner then sees, and what everybody else has to see.
CHANGES = [
    pytest.param("SET statement_timeout = '77s'", "SHOW statement_timeout", "77s", "0", id="SET"),
    pytest.param("SET SESSION statement_timeout = '77s'", "SHOW statement_timeout", "77s", "0", id="SET SESSION"),
    pytest.param("/* x */ -- y\n set statement_timeout to '77s'", "SHOW statement_timeout", "77s", "0", id="comments"),
    pytest.param("SELECT 1; SET statement_timeout = '77s'", "SHOW statement_timeout", "77s", "0", id="second"),
    pytest.param("DO $$ BEGIN SET statement_timeout = '77s'; END $$", "SHOW statement_timeout", "77s", "0", id="DO"),
    pytest.param("SET search_path = pg_catalog", "SHOW search_path", "pg_catalog", '"$user", public', id="search_path"),
    pytest.param("SET TIME ZONE 'Asia/Tokyo'", "SHOW TimeZone", "Asia/Tokyo", "UTC", id="time zone"),
    pytest.param("SET ROLE pg_monitor", "SELECT current_user::text", "pg_monitor", "postgres", id="SET ROLE"),
    pytest.param(
        "SELECT set_config('shop.tenant', 'x', false)",
        "SELECT coalesce(current_setting('shop.tenant', true), '')",
        "x",
        "",
        id="set_config",
    ),
    pytest.param(
        "CREATE TEMP TABLE mine (n int)", "SELECT to_regclass('pg_temp.mine')::text", "mine", None, id="temp table"
    ),
    pytest.param(
        "CREATE TABLE pg_temp.mine (n int)", "SELECT to_regclass('pg_temp.mine')::text", "mine", None, id="pg_temp"
    ),
    pytest.param(
        "SELECT 1 AS n INTO TEMPORARY mine", "SELECT to_regclass('pg_temp.mine')::text", "mine", None, id="INTO TEMP"
    ),
    pytest.param(
        "CREATE OR REPLACE TEMP VIEW mine AS SELECT 1",
        "SELECT to_regclass('pg_temp.mine')::text",
        "mine",
        None,
        id="temp view",
    ),
    pytest.param(
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        1,
        0,
        id="advisory lock",
    ),
    pytest.param(
        "SELECT pg_try_advisory_lock_shared(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        1,
        0,
        id="shared advisory lock",
    ),
    pytest.param("LISTEN orders", "SELECT count(*) FROM pg_listening_channels()", 1, 0, id="LISTEN"),
    pytest.param(
        "PREPARE seven AS SELECT 7",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'seven'",
        1,
        0,
        id="PREPARE",
    ),
    pytest.param(
        "BEGIN; DECLARE kept CURSOR WITH HOLD FOR SELECT 1; COMMIT",
        "SELECT count(*) FROM pg_cursors WHERE name = 'kept'",
        1,
        0,
        id="WITH HOLD",
    ),
]


@pytest.mark.parametrize("max_size", [1, 2])
@pytest.mark.parametrize(("change", "ask", "mine", "usual"), CHANGES)
def test_a_change_is_the_owners_until_close(
    configure: Callable[..., Database], max_size: int, change: str, ask: str, mine: Any, usual: Any
) -> None:
    database = configure(pool={"min_size": max_size, "max_size": max_size, "timeout": 5})
    others: list[Any] = []
    changed = threading.Event()

    def other() -> None:
        changed.wait(20)
        others.extend(database.value(ask) for _ in range(3))
        database.connection.close()

    thread = threading.Thread(target=other)
    thread.start()
    assert database.value(ask) == usual
    pid = database.pid()
    database.query(change)
    assert database.in_use == 1
    changed.set()
    if max_size == 2:
        thread.join()
    assert database.value(ask) == mine
    with transaction.atomic(using=ALIAS):
        assert database.value(ask) == mine
    assert database.value(ask) == mine
    assert database.pid() == pid
    database.connection.close()
    thread.join()
    assert others == [usual] * 3
    assert database.in_use == 0
    assert [database.value(ask) for _ in range(2)] == [usual] * 2
    assert database.in_use == 0, "the pin has ended"


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "UPDATE numbers SET n = 1",
        "SET LOCAL statement_timeout = '77s'",
        "SET  LOCAL  statement_timeout = '77s'",
        "SET\n\tLOCAL statement_timeout = '77s'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SET TRANSACTION READ ONLY",
        "SELECT set_config('shop.tenant', 'x', true)",
        "CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1",
        "SELECT pg_advisory_xact_lock(4711)",
        "SELECT pg_advisory_unlock(4711)",
        "NOTIFY orders",
        "DECLARE usual CURSOR FOR SELECT 1",
        "CREATE TABLE temp_numbers (n int)",
        "SELECT 'template'",
        "COMMENT ON TABLE numbers IS 'SET statement_timeout'",
    ],
)
def test_what_ends_with_its_transaction_pins_nothing(db1: Database, table: str, sql: str) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        db1.query(sql)
        raise ZeroDivisionError
    assert db1.in_use == 0
    assert session.outlives(sql) == ""


def test_a_change_inside_a_transaction_pins_too(db1: Database) -> None:
    with transaction.atomic(using=ALIAS):
        db1.query("SET statement_timeout = '77s'")
    assert db1.in_use == 1
    assert db1.value("SHOW statement_timeout") == "77s"
    db1.connection.close()
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_change_that_fails_pins_too(db1: Database) -> None:
    """A statement that fails after taking a lock has the lock."""
    with pytest.raises(DatabaseError):
        db1.query("SELECT pg_advisory_lock(4711), 1/0")
    db1.connection.close()
    assert db1.value("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


def test_each_way_to_run_a_statement_pins(db1: Database) -> None:
    from psycopg import sql

    ways: list[Callable[[Any], Any]] = [
        lambda cursor: cursor.execute("SET statement_timeout = '77s'"),
        lambda cursor: cursor.execute(b"SET statement_timeout = '77s'"),
        lambda cursor: cursor.execute(sql.SQL("SET statement_timeout = {}").format("77s")),
        lambda cursor: cursor.execute("SET statement_timeout = %s", ["77s"]),
        lambda cursor: cursor.executemany("SELECT set_config('statement_timeout', %s, false)", [["1s"], ["77s"]]),
        lambda cursor: cursor.callproc("set_config", ["statement_timeout", "77s", False]),
        lambda cursor: cursor.callproc(sql.Identifier("set_config"), ["statement_timeout", "77s", False]),
        lambda cursor: list(cursor.stream("SELECT set_config('statement_timeout', '77s', false)")),
    ]
    for way in ways:
        with db1.connection.cursor() as cursor:
            way(cursor)
        assert db1.in_use == 1
        assert db1.value("SHOW statement_timeout") == "77s"
        db1.connection.close()
        assert db1.value("SHOW statement_timeout") == "0"
        assert db1.in_use == 0


def test_notifications_reach_the_owner(db2: Database, witness: psycopg.Connection[Any]) -> None:
    db2.query("LISTEN orders")
    db2.in_thread(db2.query)
    witness.execute("NOTIFY orders, '5'")
    (notification,) = db2.connection.connection.notifies(timeout=20, stop_after=1)
    assert (notification.channel, notification.payload) == ("orders", "5")


def test_the_value_of_a_sequence_is_still_there(db2: Database, witness: psycopg.Connection[Any]) -> None:
    witness.execute("CREATE SEQUENCE tickets")
    try:
        ticket = db2.value("SELECT nextval('tickets')")
        with db2.pool.connection() as other:
            other.execute("SELECT nextval('tickets')")
            assert db2.value("SELECT currval('tickets')") == ticket
    finally:
        db2.connection.close()
        witness.execute("DROP SEQUENCE tickets")


def test_an_advisory_lock_excludes_until_close(db2: Database) -> None:
    asked = "SELECT pg_try_advisory_lock(4711)"
    assert db2.value(asked) is True
    assert db2.in_thread(lambda: db2.value(asked)) is False
    db2.connection.close()
    assert db2.in_thread(lambda: db2.value(asked)) is True


def test_a_pin_ends_with_the_request(db1: Database) -> None:
    request_started.send(sender=None, environ={"REQUEST_METHOD": "GET"})
    db1.query("SET statement_timeout = '77s'")
    assert db1.in_use == 1
    request_finished.send(sender=None)
    assert db1.in_use == 0
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_pin_ends_with_its_scope(db1: Database) -> None:
    with pool_doctor.scope("nightly import"):
        db1.query("SET statement_timeout = '77s'")
        with pool_doctor.scope("a part of it"):
            assert db1.value("SHOW statement_timeout") == "77s"
        assert db1.value("SHOW statement_timeout") == "77s"
    assert db1.in_use == 0
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_pin_of_an_inner_scope_ends_with_it(db1: Database) -> None:
    @pool_doctor.scope("inner")
    def work() -> None:
        db1.query("SET statement_timeout = '77s'")

    with pool_doctor.scope("outer"):
        work()
        assert db1.in_use == 0
        assert db1.value("SHOW statement_timeout") == "0"


def test_a_pin_ends_with_its_scope_when_that_raises(db1: Database) -> None:
    with pytest.raises(ZeroDivisionError), pool_doctor.scope("nightly import"):
        db1.query("SET statement_timeout = '77s'")
        raise ZeroDivisionError
    assert db1.in_use == 0


def test_a_pin_ends_with_its_scope_where_nothing_is_recorded(db1: Database) -> None:
    from pool_doctor.recording.recorder import recorder

    recorder.stop()
    with pool_doctor.scope("nightly import"):
        db1.query("SET statement_timeout = '77s'")
        assert db1.in_use == 1
    assert db1.in_use == 0


def test_a_scope_that_ends_inside_a_transaction_does_not_end_it(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        with pool_doctor.scope("a part"):
            db1.query("SET statement_timeout = '77s'")
            db1.query("INSERT INTO numbers VALUES (1)")
        db1.query("INSERT INTO numbers VALUES (2)")
        assert stored() == []
    assert stored() == [1, 2]
    assert db1.in_use == 1
    db1.connection.close()
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_scope_that_ends_under_an_open_cursor_leaves_it_open(db1: Database) -> None:
    with pool_doctor.scope("a part"):
        db1.query("SET statement_timeout = '77s'")
        cursor = db1.connection.chunked_cursor()
        cursor.execute("SELECT generate_series(1, 3)")
        cursor.fetchone()
    assert cursor.fetchall() == [(2,), (3,)]
    cursor.close()
    assert db1.in_use == 1
    db1.connection.close()


def test_a_pin_outside_of_all_scopes_lasts_until_close(db1: Database) -> None:
    db1.query("SET statement_timeout = '77s'")
    with pool_doctor.scope("later"):
        assert db1.value("SHOW statement_timeout") == "77s"
    assert db1.value("SHOW statement_timeout") == "77s"
    db1.connection.close()


def test_a_scope_that_ends_in_another_thread_leaves_the_connection_alone(db1: Database) -> None:
    from pool_doctor.recording.work import begin, end

    scope = begin("work", "block")
    try:
        db1.query("SET statement_timeout = '77s'")
        thread = threading.Thread(target=end, args=(scope,))
        thread.start()
        thread.join()
        assert db1.value("SHOW statement_timeout") == "77s"
    finally:
        end(scope)
        from pool_doctor.recording.scope import current

        current.set(None)
    db1.connection.close()
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_connection_that_broke_while_pinned_is_replaced(db1: Database, witness: psycopg.Connection[Any]) -> None:
    with pool_doctor.scope("nightly import"):
        db1.query("SET statement_timeout = '77s'")
        witness.execute("SELECT pg_terminate_backend(%s, 5000)", [db1.pid()])
    db1.whole()
    assert db1.value("SHOW statement_timeout") == "0"
    db1.query("SET statement_timeout = '77s'")
    witness.execute("SELECT pg_terminate_backend(%s, 5000)", [db1.pid()])
    db1.connection.close()
    db1.whole()
    assert db1.value("SHOW statement_timeout") == "0"


def test_a_pinned_transaction_is_rolled_back_by_close(db1: Database, stored: Callable[[], list[int]]) -> None:
    db1.query("SET statement_timeout = '77s'")
    db1.connection.set_autocommit(False)
    db1.query("INSERT INTO numbers VALUES (1)")
    db1.connection.close()
    assert stored() == []
    assert db1.value("SHOW statement_timeout") == "0"


def test_the_place_that_pins_is_recorded(db1: Database) -> None:
    from pool_doctor.recording.reader import read_directory
    from pool_doctor.recording.recorder import recorder

    db1.query()
    assert recorder.options is not None
    with pool_doctor.scope("nightly import"):
        db1.query("SET statement_timeout = '77s'")
        (process,) = read_directory(recorder.options.directory).processes
        (held,) = process.aliases[ALIAS].open
        assert held.scope == "nightly import"
        assert held.pinned.startswith("SET at tests/engine/")


@pytest.mark.parametrize(
    "sql", ["/* x */ " * 5_000 + "x", "-- x\n" * 5_000 + "x", " " * 100_000 + "x", "set_config(" * 5_000, ";" * 50_000]
)
def test_looking_at_a_text_takes_no_time(sql: str) -> None:
    began = time.process_time()
    session.outlives(sql)
    assert time.process_time() - began < 1
