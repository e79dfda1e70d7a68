"""Cursors of all kinds: when a connection is needed for them, and which queries are counted."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pytest
from django.db.backends.utils import CursorDebugWrapper, CursorWrapper
from django.db.utils import DatabaseError, Error, ProgrammingError
from django.test import override_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.conftest import Recording, Work


def test_a_cursor_is_one_need_and_its_queries_are_counted(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        for _ in range(3):
            cursor.execute("SELECT 1")
        assert work.segments == []
    assert len(work.segments) == 1
    assert len(work.queries) == 3
    with pooled.cursor() as cursor:
        cursor.execute("SELECT 1")
    assert len(work.segments) == 2


def test_the_need_lasts_until_the_last_of_several_cursors_is_closed(pooled: Any, work: Work) -> None:
    first, second, third = pooled.cursor(), pooled.cursor(), pooled.cursor()
    second.execute("SELECT 1")
    first.close()
    third.close()
    assert work.segments == []
    second.close()
    assert len(work.segments) == 1


def test_closing_twice_is_closing_once(pooled: Any, work: Work) -> None:
    first, second = pooled.cursor(), pooled.cursor()
    first.close()
    first.close()
    assert work.segments == []
    second.close()
    second.close()
    assert len(work.segments) == 1


def test_a_cursor_that_was_collected_counts_as_closed_from_the_next_use_on(pooled: Any, work: Work) -> None:
    cursor = pooled.cursor()
    cursor.execute("SELECT 1")
    del cursor
    gc.collect()
    assert work.segments == []
    pooled.cursor().close()
    assert len(work.segments) == 1


def test_a_cursor_closed_under_its_wrapper_counts_as_closed_from_the_next_use_on(pooled: Any, work: Work) -> None:
    first = pooled.cursor()
    first.cursor.close()
    assert work.segments == []
    pooled.cursor().close()
    assert len(work.segments) == 1
    first.close()
    assert len(work.segments) == 1


def test_closing_the_connection_ends_all_need(pooled: Any, work: Work, recording: Recording) -> None:
    cursors = [pooled.cursor() for _ in range(3)]
    pooled.close()
    for cursor in cursors:
        cursor.close()
    found = recording.alias()
    assert (found.checkouts, found.hold.count, found.needed.count, found.in_use) == (1, 1, 1, 0)
    assert len(work.returns) == 1


@pytest.mark.parametrize("pool", [None, {"min_size": 1, "max_size": 1}], ids=["no pool", "pool"])
def test_a_server_side_cursor_holds_until_it_is_closed(
    pool: Any, connect: Callable[..., Any], work: Work, recording: Recording
) -> None:
    connection = connect(pool=pool)
    connection.set_autocommit(False)  # else the server makes all rows before the first is fetched
    cursor = connection.chunked_cursor()
    cursor.execute("SELECT n, pg_sleep(0.005) FROM generate_series(1, 10) n")
    rows = [cursor.fetchone(), *cursor.fetchmany(4), *cursor.fetchall()]
    assert [row[0] for row in rows] == list(range(1, 11))
    connection.commit()
    assert work.segments == []
    cursor.close()
    assert len(work.segments) == 1
    with pytest.raises(Error, match="closed"):
        cursor.fetchone()
    connection.close()
    (checkout,) = work.returns
    assert checkout.queries == 1  # a fetch is no query of its own
    assert checkout.query_time >= 50_000_000  # but the server works in it
    connection.set_autocommit(True)


def test_rows_are_iterated_over_as_ever(pooled: Any, work: Work) -> None:
    with pooled.chunked_cursor() as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 5) n")
        assert [row[0] for row in cursor] == [1, 2, 3, 4, 5]
    with pooled.cursor() as cursor:
        cursor.execute("SELECT n FROM generate_series(1, 5) n")
        assert [row[0] for row in cursor] == [1, 2, 3, 4, 5]
    assert len(work.segments) == 2


def test_copy_is_one_query_as_long_as_its_block(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        cursor.execute("CREATE TABLE stock (n int)")
        with cursor.copy("COPY stock FROM STDIN") as copy:
            for number in range(100):
                copy.write_row([number])
        assert len(work.queries) == 2
        with cursor.copy("COPY stock TO STDOUT") as copy:
            assert len(list(copy.rows())) == 100
            assert len(work.queries) == 2
        assert len(work.queries) == 3
        cursor.execute("DROP TABLE stock")
    assert len(work.segments) == 1


def test_a_copy_that_fails_is_a_query_that_failed(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        with pytest.raises(Exception, match="no_such_table"), cursor.copy("COPY no_such_table TO STDOUT") as copy:
            list(copy)
        assert len(work.queries) == 1


def test_stream_is_one_query_until_its_last_row(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        rows = cursor.stream("SELECT n FROM generate_series(1, %s) n", [3])
        assert next(rows) == (1,)
        assert work.queries == []
        assert list(rows) == [(2,), (3,)]
        assert len(work.queries) == 1
        left = cursor.stream("SELECT n FROM generate_series(1, 3) n")
        next(left)
        left.close()
        assert len(work.queries) == 2


def test_executemany_and_callproc_are_queries(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        cursor.execute("CREATE TABLE stock (n int)")
        cursor.executemany("INSERT INTO stock VALUES (%s)", [[1], [2], [3]])
        assert cursor.rowcount == 3
        assert cursor.callproc("abs", [-7]) == [-7]
        assert cursor.fetchone() == (7,)
        cursor.execute("DROP TABLE stock")
    assert len(work.queries) == 4


def test_a_query_that_fails_is_counted(pooled: Any, work: Work) -> None:
    with pooled.cursor() as cursor:
        with pytest.raises(ProgrammingError):
            cursor.execute("SELECT no_such_column")
        with pytest.raises(ProgrammingError):
            cursor.executemany("SELECT no_such_column + %s", [[1]])
    assert len(work.queries) == 2


def test_execute_wrappers_stand_around_queries_as_ever(pooled: Any, work: Work) -> None:
    seen = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        seen.append((sql, many, context["connection"] is pooled))
        if sql == "SELECT 3":
            raise DatabaseError("not that one")
        return execute(sql, params, many, context)

    with pooled.execute_wrapper(wrapper), pooled.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.executemany("SELECT %s", [[2]])
        with pytest.raises(DatabaseError, match="not that one"):
            cursor.execute("SELECT 3")
    assert seen == [("SELECT 1", False, True), ("SELECT %s", True, True), ("SELECT 3", False, True)]
    assert len(work.queries) == 2  # what a wrapper keeps from the database is no query


@pytest.mark.parametrize("how", ["DEBUG", "force_debug_cursor"])
def test_debug_cursors_log_and_are_counted(how: str, pooled: Any, work: Work) -> None:
    pooled.force_debug_cursor = how == "force_debug_cursor"
    with override_settings(DEBUG=how == "DEBUG"):
        with pooled.cursor() as cursor:
            assert isinstance(cursor, CursorDebugWrapper)
            cursor.execute("SELECT %s", [1])
            with cursor.copy("COPY (SELECT 2) TO STDOUT") as copy:
                assert list(copy.rows()) == [("2",)]
            cursor.executemany("SELECT %s", [[3]])
        with pooled.cursor() as cursor:
            cursor.execute("SELECT 4")
    logged = [query["sql"] for query in pooled.queries_log]
    assert logged == ["SELECT 1", "COPY (SELECT 2) TO STDOUT", "1 times: SELECT %s", "SELECT 4"]
    assert len(work.queries) == 4
    assert len(work.segments) == 2


def test_a_followed_cursor_is_what_django_makes(pooled: Any) -> None:
    with pooled.cursor() as cursor:
        assert isinstance(cursor, CursorWrapper)
        assert type(cursor).__name__ == "CursorWrapper"
        assert not isinstance(cursor, CursorDebugWrapper)
        copy = type(cursor)(cursor.cursor, pooled)  # the signature that others build upon
        copy.execute("SELECT 1")
        assert copy.fetchone() == (1,)
        with pytest.raises(AttributeError):
            cursor.no_such_attribute  # noqa: B018
