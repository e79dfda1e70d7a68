"""hold(): one backend for a block, from its first query to its end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction

import pool_doctor
from tests.engine.conftest import ALIAS, STOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import Database


def elsewhere(database: Database) -> int:
    """Use the connection that would be handed out next in another thread, so that the order of the pool changes."""
    return int(database.in_thread(database.pid))


def test_a_block_has_one_backend(db2: Database) -> None:
    with pool_doctor.hold(ALIAS):
        assert db2.in_use == 0, "from the first query on"
        pid = db2.pid()
        for _ in range(3):
            assert elsewhere(db2) != pid
            assert db2.pid() == pid
        with transaction.atomic(using=ALIAS):
            assert db2.pid() == pid
        assert db2.pid() == pid
        assert db2.in_use == 1
    assert db2.in_use == 0


def test_without_it_the_backend_changes(db2: Database) -> None:
    """What the test above would not see on an engine that never gives back."""
    pid = db2.pid()
    with db2.pool.connection():
        assert db2.pid() != pid


def test_blocks_nest(db2: Database) -> None:
    with pool_doctor.hold(ALIAS):
        pid = db2.pid()
        with pool_doctor.hold(ALIAS), pool_doctor.hold(using=ALIAS):
            assert db2.pid() == pid
        assert db2.in_use == 1
        assert db2.pid() == pid
    assert db2.in_use == 0


def test_a_decorated_function_holds_in_each_call(db2: Database) -> None:
    @pool_doctor.hold(ALIAS)
    def work(deeper: bool) -> set[int]:
        """Say which backends there were."""
        pids = {db2.pid(), db2.pid()}
        assert db2.in_use == 1
        return pids | work(False) if deeper else pids

    assert work.__name__ == "work"
    for _ in range(2):
        assert len(work(True)) == 1
        assert db2.in_use == 0
    assert db2.in_thread(lambda: work(True)) is not None


def test_it_ends_with_an_exception(db1: Database) -> None:
    with pytest.raises(ZeroDivisionError), pool_doctor.hold(ALIAS):
        db1.query()
        raise ZeroDivisionError
    assert db1.in_use == 0


def test_it_ends_inside_a_transaction_without_ending_that(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        with pool_doctor.hold(ALIAS):
            db1.query("INSERT INTO numbers VALUES (1)")
        db1.query("INSERT INTO numbers VALUES (2)")
        assert db1.in_use == 1
    assert stored() == [1, 2]
    assert db1.in_use == 0


def test_it_ends_under_an_open_cursor(db1: Database) -> None:
    with pool_doctor.hold(ALIAS):
        cursor = db1.connection.cursor()
        cursor.execute("SELECT 5")
    assert cursor.fetchone() == (5,)
    cursor.close()
    assert db1.in_use == 0


def test_closing_inside_gives_back_and_the_next_query_holds_again(db2: Database) -> None:
    with pool_doctor.hold(ALIAS):
        db2.query()
        db2.connection.close()
        assert db2.in_use == 0
        pid = db2.pid()
        assert elsewhere(db2) != pid
        assert db2.pid() == pid
    assert db2.in_use == 0


def test_one_hold_in_several_threads(db2: Database) -> None:
    """The same object, entered here and there, ends here what it began here, whatever ends first."""
    held = pool_doctor.hold(ALIAS)
    entered, ended = threading.Event(), threading.Event()

    def work() -> None:
        with held:
            db2.query()
            entered.set()
            assert ended.wait(20)
            assert db2.held
        assert not db2.held

    with ThreadPoolExecutor(1) as threads:
        with held:
            db2.query()
            other = threads.submit(work)
            assert entered.wait(20)
            assert db2.in_use == 2
        assert not db2.held
        ended.set()
        other.result()
    assert db2.in_use == 0


def test_hold_on_an_engine_that_holds_anyway(configure: Callable[..., Database]) -> None:
    database = configure(STOCK, alias="stock")
    with pool_doctor.hold("stock"):
        pid = database.pid()
        assert database.pid() == pid
    assert database.pid() == pid


def test_an_alias_that_is_not_there() -> None:
    with pytest.raises(connections.exception_class, match="nowhere"), pool_doctor.hold("nowhere"):
        pass


def test_asynchronous_code_is_refused() -> None:
    async def work() -> None: ...

    async def block() -> None:
        with pool_doctor.hold():
            pass

    with pytest.raises(TypeError, match="work"):
        pool_doctor.hold()(work)
    with pytest.raises(SynchronousOnlyOperation):
        asyncio.run(block())


def test_generators_are_refused() -> None:
    def rows() -> Iterator[Any]:
        yield 1

    async def later() -> Any:
        yield 1

    for function in (rows, later):
        with pytest.raises(TypeError, match=function.__name__):
            pool_doctor.hold()(function)
