"""Threads and tasks: what ends while it holds loses nothing, and what is shared is not torn away."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.exceptions import SynchronousOnlyOperation
from django.db import connections, transaction

import pool_doctor
from example_project.shop.models import Customer
from tests.engine.conftest import ALIAS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import Database


def begin_a_transaction(database: Database) -> None:
    """Hold by a transaction that nobody ends."""
    transaction.atomic(using=ALIAS).__enter__()
    database.query("INSERT INTO numbers VALUES (1)")


def begin_a_hold(database: Database) -> None:
    """Hold by a hold() that nobody ends."""
    pool_doctor.hold(ALIAS).__enter__()
    database.query()


HOLDING: list[Any] = [
    pytest.param(begin_a_transaction, id="transaction"),
    pytest.param(lambda database: database.query("SET statement_timeout = '77s'"), id="pinned"),
    pytest.param(begin_a_hold, id="held"),
    pytest.param(lambda database: database.connection.ensure_connection(), id="connected"),
    pytest.param(lambda database: database.connection.cursor().execute("SELECT 1"), id="leaked cursor"),
]


@pytest.mark.parametrize("makes_the_pool", [True, False])
@pytest.mark.parametrize("take", HOLDING)
def test_a_thread_that_ends_while_it_holds(
    configure: Callable[..., Database],
    stored: Callable[[], list[int]],
    take: Callable[[Database], Any],
    makes_the_pool: bool,
) -> None:
    database = configure(pool={"min_size": 2, "max_size": 2, "timeout": 5})
    if makes_the_pool:
        database.connection.close_pool()
    thread = threading.Thread(target=take, args=(database,))
    thread.start()
    thread.join()
    gc.collect()
    database.whole()
    assert stored() == []
    for _ in range(2):
        assert database.value("SHOW statement_timeout") == "0"
        with database.pool.connection() as other:
            assert database.value("SHOW statement_timeout") == "0"
            assert other.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_the_collector_may_run_while_this_thread_has_the_pools_lock(db2: Database) -> None:
    copy = db2.connection.copy()
    copy.ensure_connection()
    with db2.pool._lock:
        del copy
        gc.collect()
        assert db2.in_use == 1, "a finalizer gives nothing back itself"
    db2.whole()


def test_the_end_of_a_thread_needs_no_collector(db1: Database) -> None:
    """Where all others wait for what it holds, nothing would start the collector."""
    gc.disable()
    try:
        thread = threading.Thread(target=begin_a_hold, args=(db1,))
        thread.start()
        thread.join()
        assert db1.value("SELECT 5") == 5
    finally:
        gc.enable()


def test_a_wrapper_that_is_dropped_while_it_holds(db2: Database) -> None:
    for _ in range(3):
        db2.connection.close_pool()  # so that this wrapper makes the pool, which lives longer than it
        copy = db2.connection.copy()
        copy.ensure_connection()
        pool = db2.pool
        del copy
        gc.collect()
        until(lambda pool=pool: len(pool._pool) == 2, what="the return of both connections")


def test_many_threads_that_end_while_they_hold(configure: Callable[..., Database]) -> None:
    database = configure(pool={"min_size": 4, "max_size": 4, "timeout": 20})
    for _ in range(3):
        threads = [threading.Thread(target=begin_a_hold, args=(database,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        gc.collect()
        database.whole()


def test_a_shared_connection_is_not_given_back(db1: Database) -> None:
    connection = db1.connection
    connection.inc_thread_sharing()
    pids: list[int] = []

    def work() -> None:
        for _ in range(20):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])

    try:
        db1.query()
        assert db1.in_use == 1
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        work()
        for thread in threads:
            thread.join()
    finally:
        connection.dec_thread_sharing()
    assert len(pids) == 100
    assert len(set(pids)) == 1
    db1.query()
    assert db1.in_use == 0


def test_more_threads_than_connections(configure: Callable[..., Database], table: str) -> None:
    """Sixteen threads on two connections: each does its transactions and queries, and none times out."""
    database = configure(pool={"min_size": 2, "max_size": 2, "timeout": 20})

    def work(number: int) -> int:
        try:
            for _ in range(5):
                assert database.value("SELECT %s", [number]) == number
                with transaction.atomic(using=ALIAS):
                    database.query("INSERT INTO numbers VALUES (%s)", [number])
                    assert database.value("SELECT pg_backend_pid()") == database.pid()
            return number
        finally:
            connections.close_all()

    with ThreadPoolExecutor(16) as threads:
        assert sorted(threads.map(work, range(16))) == list(range(16))
    assert database.value("SELECT count(*) FROM numbers") == 80
    assert database.in_use == 0
    assert database.pool.get_stats().get("requests_errors", 0) == 0


def test_threads_that_think_share_one_connection(db1: Database) -> None:
    """What the engine is for: eight threads that each think between two queries, on one connection."""
    began = time.monotonic()
    barrier = threading.Barrier(8)

    def work() -> None:
        db1.query()
        barrier.wait(20)  # all have had their first query, and none holds anything while it thinks
        db1.query()
        connections.close_all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not barrier.broken
    assert time.monotonic() - began < 20


@pytest.fixture
def customers(db2: Database) -> Iterator[Any]:
    """Ten customers."""
    with db2.connection.schema_editor() as editor:
        editor.create_model(Customer)
    Customer.objects.using(ALIAS).bulk_create(Customer(name=f"c{n}", email=f"{n}@shop") for n in range(10))
    yield Customer.objects.using(ALIAS).order_by("pk")
    with db2.connection.schema_editor() as editor:
        editor.delete_model(Customer)


def close_in_executor() -> Any:
    """Close the connections of the thread that runs synchronous code for the event loop."""
    return sync_to_async(connections.close_all)()


def test_async_orm(db2: Database, customers: Any) -> None:
    async def work() -> None:
        assert await customers.acount() == 10
        assert [found.name async for found in customers] == [f"c{n}" for n in range(10)]
        assert [found.name async for found in customers.aiterator(chunk_size=3)] == [f"c{n}" for n in range(10)]
        found = await customers.aget(name="c3")
        found.name = "new"
        await found.asave()
        assert await customers.filter(name="new").aexists()
        assert db2.in_use == 0
        await close_in_executor()

    asyncio.run(work())
    assert db2.in_use == 0


def test_an_async_iterator_that_is_left(db2: Database, customers: Any) -> None:
    async def work() -> None:
        async for found in customers.aiterator(chunk_size=3):
            assert found.name == "c0"
            break
        gc.collect()
        await customers.acount()
        await close_in_executor()

    asyncio.run(work())
    db2.whole()


def test_gather_of_many(db2: Database, customers: Any) -> None:
    async def work() -> None:
        counts = await asyncio.gather(*(customers.acount() for _ in range(50)))
        assert counts == [10] * 50
        assert db2.in_use == 0
        await close_in_executor()

    asyncio.run(work())


def test_threads_of_their_own_for_each_task(db2: Database, customers: Any) -> None:
    """Synchronous code that is not thread sensitive: many threads, more than connections."""

    def count() -> int:
        try:
            with transaction.atomic(using=ALIAS):
                return int(customers.count())
        finally:
            connections.close_all()

    async def work() -> None:
        counts = await asyncio.gather(*(sync_to_async(count, thread_sensitive=False)() for _ in range(30)))
        assert counts == [10] * 30

    asyncio.run(work())
    assert db2.in_use == 0


def test_the_event_loop_may_not_query(db2: Database) -> None:
    async def work() -> None:
        connection = db2.connection
        for use in (
            connection.cursor,
            connection.ensure_connection,
            connection.chunked_cursor,
            transaction.atomic(using=ALIAS).__enter__,
        ):
            with pytest.raises(SynchronousOnlyOperation):
                use()
        assert db2.in_use == 0

    db2.query()
    asyncio.run(work())
    assert db2.in_use == 0
    asyncio.run(work())


def test_a_cancelled_task_holds_nothing(db2: Database, customers: Any) -> None:
    async def work() -> None:
        started = threading.Event()

        def slow() -> None:
            started.set()
            db2.query("SELECT pg_sleep(0.2)")

        task = asyncio.create_task(sync_to_async(slow)())
        await asyncio.to_thread(started.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await customers.acount() == 10
        await close_in_executor()

    asyncio.run(work())
    db2.whole()
