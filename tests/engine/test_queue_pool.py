"""The releasing engine on django-db-connection-pool, whose connections are proxies from a SQLAlchemy QueuePool."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connections, transaction

import pool_doctor
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from tests.engine.conftest import Database

pool_container = pytest.importorskip("dj_db_conn_pool.core").pool_container

ENGINE = "pool_doctor.backends.dj_db_conn_pool"
ALIAS = "queued"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def queued(configure: Callable[..., Database]) -> Iterator[Database]:
    """A database whose pool has at most two connections."""
    database = configure(
        ENGINE, alias=ALIAS, pool={}, POOL_OPTIONS={"POOL_SIZE": 2, "MAX_OVERFLOW": 0, "TIMEOUT": 1, "PRE_PING": False}
    )
    yield database
    database.connection.close()
    until(lambda: in_use() == 0, what="the return of all connections")
    pool_container.dispose()
    pool_container.clear()


def in_use() -> int:
    """How many connections of the pool are out."""
    return int(pool_container[ALIAS].checkedout()) if pool_container.has(ALIAS) else 0


def test_queries_give_back(queued: Database) -> None:
    pids = set()
    for _ in range(5):
        pids.add(queued.pid())
        assert in_use() == 0
    assert len(pids) == 1, "the connection returned last is handed out first"


def test_transactions_hold(queued: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        queued.query("INSERT INTO numbers VALUES (1)")
        pid = queued.pid()
        assert in_use() == 1
        assert queued.pid() == pid
    assert in_use() == 0
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        queued.query("INSERT INTO numbers VALUES (2)")
        raise ZeroDivisionError
    queued.connection.set_autocommit(False)
    queued.query("INSERT INTO numbers VALUES (3)")
    queued.connection.commit()
    queued.query("INSERT INTO numbers VALUES (4)")
    queued.connection.rollback()
    queued.connection.set_autocommit(True)
    assert stored() == [1, 3]
    assert in_use() == 0


def test_cursors_hold(queued: Database) -> None:
    cursor = queued.connection.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 3)")
    assert cursor.fetchone() == (1,)
    queued.query()
    assert cursor.fetchall() == [(2,), (3,)]
    assert in_use() == 1
    cursor.close()
    assert in_use() == 0


def test_more_threads_than_connections(queued: Database, table: str) -> None:
    def work() -> None:
        for _ in range(5):
            with transaction.atomic(using=ALIAS):
                queued.query("INSERT INTO numbers VALUES (1)")
                assert queued.pid() == queued.pid()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert queued.value("SELECT count(*) FROM numbers") == 40


def test_session_state_pins_and_is_cleaned(queued: Database) -> None:
    queued.query("SET statement_timeout = '77s'")
    assert in_use() == 1
    assert queued.value("SHOW statement_timeout") == "77s"
    assert queued.in_thread(lambda: queued.value("SHOW statement_timeout")) == "0"
    queued.connection.close()
    assert queued.value("SHOW statement_timeout") == "0"
    with pool_doctor.scope("nightly import"):
        queued.query("SET statement_timeout = '77s'")
    assert in_use() == 0
    assert queued.value("SHOW statement_timeout") == "0"


def test_hold(queued: Database) -> None:
    with pool_doctor.hold(ALIAS):
        pid = queued.pid()
        assert queued.in_thread(queued.pid) != pid
        assert queued.pid() == pid
    assert in_use() == 0


def test_a_timeout_names_the_holders(queued: Database) -> None:
    from sqlalchemy.exc import TimeoutError as PoolTimeout

    def ask() -> str:
        with pytest.raises((OperationalError, PoolTimeout)) as caught:
            queued.query()
        return str(caught.value)

    queued.query()
    with pool_doctor.scope("nightly import"), transaction.atomic(using=ALIAS):
        queued.query()
        other = connections[ALIAS].copy()
        other.ensure_connection()
        message = queued.in_thread(ask)
        other.close()
    assert "The pool of database 'queued' in process " in message
    assert ": nightly import, from tests/engine/" in message


def test_a_thread_that_ends_while_it_holds(queued: Database) -> None:
    queued.query()
    thread = threading.Thread(target=lambda: queued.connection.ensure_connection())
    thread.start()
    thread.join()
    gc.collect()
    until(lambda: in_use() == 0, what="the return of its connection")


def test_a_broken_connection_is_replaced(queued: Database, witness: psycopg.Connection[Any]) -> None:
    queued.query("SET statement_timeout = '77s'")
    pid = queued.pid()
    witness.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    queued.connection.close()
    assert in_use() == 0
    assert queued.pid() != pid


def test_a_forked_child_has_a_pool_of_its_own(database_url: str) -> None:
    environment = {
        **os.environ,
        "DATABASE_URL": database_url,
        "DJANGO_SETTINGS_MODULE": "tests.engine.settings",
        "POOL_DOCTOR_TEST_ENGINE": ENGINE,
    }
    for name in ("while_idle", "inside_atomic", "with_a_server_side_cursor", "while_another_thread_holds"):
        command = [sys.executable, "-W", "ignore", "-m", "tests.engine.forking", name]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert (done.returncode, done.stdout) == (0, "well\n"), f"{name}: {done.stderr}"
