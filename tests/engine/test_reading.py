"""Server-side cursors, COPY and stream(): the connection is held until they are closed, however that happens."""

from __future__ import annotations

import gc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from django.db import ProgrammingError, connections, models, transaction

from example_project.shop.models import Customer
from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.engine.conftest import Database


@pytest.fixture
def customers(db1: Database) -> Iterator[models.QuerySet[Customer]]:
    """500 rows of a model, on a pool of one connection."""
    with db1.connection.schema_editor() as editor:
        editor.create_model(Customer)
    Customer.objects.using(ALIAS).bulk_create(Customer(name=f"m{n:03}", email=f"{n}@shop") for n in range(500))
    yield Customer.objects.using(ALIAS).order_by("name")
    db1.connection.close()
    with db1.connection.schema_editor() as editor:
        editor.delete_model(Customer)


def test_an_iterator_reads_all_and_gives_back(db1: Database, customers: models.QuerySet[Customer]) -> None:
    names = [found.name for found in customers.iterator(chunk_size=50)]
    assert names == [f"m{n:03}" for n in range(500)]
    assert db1.in_use == 0


def test_an_iterator_holds_while_it_is_read_with_other_queries_between(
    db1: Database, customers: models.QuerySet[Customer]
) -> None:
    rows = customers.iterator(chunk_size=50)
    names = []
    for found in rows:
        names.append(found.name)
        assert db1.in_use == 1
        if len(names) % 100 == 0:
            assert customers.count() == 500
            customers.filter(pk=found.pk).update(email=f"{found.pk}@home")
    assert len(names) == 500
    assert db1.in_use == 0


def test_two_iterators_at_once(db1: Database, customers: models.QuerySet[Customer]) -> None:
    pairs = zip(customers.iterator(chunk_size=50), customers.reverse().iterator(chunk_size=70), strict=True)
    assert [(one.name, other.name) for one, other in pairs] == [(f"m{n:03}", f"m{499 - n:03}") for n in range(500)]
    assert db1.in_use == 0


def test_an_iterator_outlives_the_transaction_in_between(db1: Database, customers: models.QuerySet[Customer]) -> None:
    """Outside of a transaction Django's server-side cursors are WITH HOLD."""
    rows = customers.iterator(chunk_size=50)
    next(rows)
    with transaction.atomic(using=ALIAS):
        customers.filter(name="m000")._raw_delete(ALIAS)
    assert len(list(rows)) == 499
    assert db1.in_use == 0


def test_an_iterator_inside_atomic(db1: Database, customers: models.QuerySet[Customer]) -> None:
    with transaction.atomic(using=ALIAS):
        assert sum(1 for _ in customers.iterator(chunk_size=50)) == 500
        assert db1.in_use == 1
    assert db1.in_use == 0


@pytest.mark.parametrize("end", ["close", "forget", "collect"])
def test_an_iterator_abandoned_half_way(db1: Database, customers: models.QuerySet[Customer], end: str) -> None:
    rows = customers.iterator(chunk_size=50)
    next(rows)
    assert db1.in_use == 1
    if end == "close":
        rows.close()  # type: ignore[attr-defined]
    elif end == "forget":
        del rows
    else:
        ring: list[Any] = [rows]
        ring.append(ring)
        del rows, ring
        gc.collect()
        assert customers.count() == 500  # the next use
    assert db1.in_use == 0
    assert db1.value("SELECT count(*) FROM pg_cursors") == 0


def test_an_iterator_that_fails_half_way(db1: Database, customers: models.QuerySet[Customer]) -> None:
    with pytest.raises(ZeroDivisionError):
        for _ in customers.iterator(chunk_size=50):
            raise ZeroDivisionError
    gc.collect()
    customers.count()
    assert db1.in_use == 0


def test_an_iterator_that_the_server_refuses(db1: Database) -> None:
    with pytest.raises(ProgrammingError):
        next(Customer.objects.using(ALIAS).iterator())
    assert db1.in_use == 0


def test_server_side_cursors_can_be_disabled(configure: Callable[..., Database]) -> None:
    database = configure(DISABLE_SERVER_SIDE_CURSORS=True)
    with closing(database.connection.chunked_cursor()) as cursor:
        cursor.execute("SELECT generate_series(1, 3)")
        assert cursor.fetchmany(2) == [(1,), (2,)]
    assert database.in_use == 0


def test_a_named_cursor_holds_until_it_is_closed(db1: Database) -> None:
    cursor = db1.connection.chunked_cursor()
    cursor.execute("SELECT generate_series(1, 5)")
    assert cursor.fetchone() == (1,)
    db1.query()
    assert cursor.fetchmany(2) == [(2,), (3,)]
    assert cursor.fetchall() == [(4,), (5,)]
    assert db1.in_use == 1
    cursor.close()
    assert db1.in_use == 0


def test_copy_in_and_out(db1: Database, table: str, stored: Callable[[], list[int]]) -> None:
    with db1.connection.cursor() as cursor:
        with cursor.copy("COPY numbers FROM STDIN") as copy:
            for n in range(5):
                copy.write_row([n])
            assert db1.in_use == 1
        assert stored() == [0, 1, 2, 3, 4]
        with cursor.copy("COPY numbers TO STDOUT") as copy:
            assert [row for (row,) in copy.rows()] == ["0", "1", "2", "3", "4"]
    assert db1.in_use == 0


def test_copy_that_fails(db1: Database, table: str, stored: Callable[[], list[int]]) -> None:
    def write() -> None:
        with db1.connection.cursor() as cursor, cursor.copy("COPY numbers FROM STDIN") as copy:
            copy.write_row([1])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    with (
        pytest.raises(psycopg.DataError),
        db1.connection.cursor() as cursor,
        cursor.copy("COPY numbers FROM STDIN") as copy,
    ):
        copy.write_row(["no number"])
    assert db1.in_use == 0
    assert stored() == []


def test_copy_abandoned_half_way(db1: Database) -> None:
    """The server goes on sending, so psycopg can't use the connection any more: the pool makes another."""
    with db1.connection.cursor() as cursor, cursor.copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
        next(iter(copy))
    assert db1.in_use == 1
    db1.connection.close()
    db1.whole()
    assert db1.value("SELECT 1") == 1


def test_a_stream_holds_until_its_cursor_is_closed(db1: Database) -> None:
    with db1.connection.cursor() as cursor:
        rows = cursor.stream("SELECT generate_series(1, 3)")
        assert next(rows) == (1,)
        assert db1.in_use == 1
        assert list(rows) == [(2,), (3,)]
    assert db1.in_use == 0


def test_the_connection_is_not_shared_while_rows_are_read(db2: Database) -> None:
    """Two threads read at once: each has a connection of its own all the time."""
    cursor = db2.connection.chunked_cursor()
    cursor.execute("SELECT pg_backend_pid() FROM generate_series(1, 5000)")
    (mine,) = cursor.fetchone()
    others = db2.in_thread(lambda: {db2.pid() for _ in range(5)})
    assert mine not in others
    assert {pid for (pid,) in cursor.fetchall()} == {mine}
    cursor.close()
    assert connections[ALIAS].connection is None
