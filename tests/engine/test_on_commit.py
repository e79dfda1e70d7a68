"""on_commit hooks: after the connection went back, in Django's order, and nothing is held when one raises."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from django.db import transaction
from django.db.transaction import TransactionManagementError

from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import Database


def on_commit(hook: Callable[[], Any], **options: Any) -> None:
    """Register a hook for the alias of the tests."""
    transaction.on_commit(hook, using=ALIAS, **options)


def fail() -> None:
    """A hook that raises."""
    raise ZeroDivisionError


def test_hooks_run_in_order_while_nothing_is_held(db1: Database) -> None:
    seen: list[tuple[str, int]] = []
    with transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(lambda: seen.append(("first", db1.in_use)))
        with transaction.atomic(using=ALIAS):
            on_commit(lambda: seen.append(("second", db1.in_use)))
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
            on_commit(lambda: seen.append(("rolled back", db1.in_use)))
            raise ZeroDivisionError
        on_commit(lambda: seen.append(("third", db1.in_use)))
        assert seen == []
    assert seen == [("first", 0), ("second", 0), ("third", 0)]


def test_hooks_of_a_block_that_rolls_back_never_run(db1: Database) -> None:
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        on_commit(lambda: seen.append(1))
        raise ZeroDivisionError
    with transaction.atomic(using=ALIAS):
        db1.query()
    assert seen == []


def test_a_hook_that_raises_leaves_nothing_held(db1: Database) -> None:
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(fail)
        on_commit(lambda: seen.append(1))
    assert db1.in_use == 0
    assert seen == []
    with transaction.atomic(using=ALIAS):
        db1.query()
    assert seen == [], "the hooks after the one that raised are gone, as in Django"
    assert db1.connection.get_autocommit() is True


def test_a_robust_hook_that_raises_stops_nobody(db1: Database, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []
    with caplog.at_level(logging.ERROR, "django.db.backends.base"), transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(fail, robust=True)
        on_commit(lambda: seen.append(db1.in_use))
    assert seen == [0]
    (record,) = [record for record in caplog.records if record.name == "django.db.backends.base"]
    assert "Error calling fail in on_commit() during transaction" in record.getMessage()


def test_a_hook_that_queries_holds_for_its_query_only(db1: Database) -> None:
    seen: list[int] = []

    def hook() -> None:
        db1.query()
        seen.append(db1.in_use)
        with transaction.atomic(using=ALIAS):
            db1.query()
            on_commit(lambda: seen.append(db1.in_use))
            seen.append(db1.in_use)
        seen.append(db1.in_use)

    with transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(hook)
    assert seen == [0, 1, 0, 0]


def test_a_hook_registered_by_a_hook_runs_at_once(db1: Database) -> None:
    seen: list[str] = []

    def outer() -> None:
        on_commit(lambda: seen.append("inner"))
        seen.append("outer")

    with transaction.atomic(using=ALIAS):
        on_commit(outer)
        on_commit(lambda: seen.append("last"))
    assert seen == ["inner", "outer", "last"]


def test_a_hook_registered_outside_runs_at_once_with_nothing_held(db1: Database) -> None:
    seen: list[int] = []
    on_commit(lambda: seen.append(db1.in_use))  # on a connection that was never used
    db1.query()
    on_commit(lambda: seen.append(db1.in_use))
    assert seen == [0, 0]
    with pytest.raises(ZeroDivisionError):
        on_commit(fail)
    on_commit(fail, robust=True)
    assert db1.in_use == 0


def test_hooks_wait_for_the_outermost_block(db1: Database) -> None:
    seen: list[int] = []
    with transaction.atomic(using=ALIAS):
        with transaction.atomic(using=ALIAS):
            on_commit(lambda: seen.append(1))
        assert seen == []
    assert seen == [1]


def test_hooks_survive_meeting_another_backend(db2: Database) -> None:
    """What connects anew must not forget the hooks that wait for autocommit to come back."""
    db2.connection.set_autocommit(False)
    seen: list[int] = []
    with transaction.atomic(using=ALIAS):
        db2.query()
        on_commit(lambda: seen.append(1))
    db2.connection.commit()
    with db2.pool.connection():
        db2.query()
        db2.connection.commit()
    assert seen == []
    db2.connection.set_autocommit(True)
    assert seen == [1]


def test_hooks_under_manual_transactions(db1: Database) -> None:
    db1.connection.set_autocommit(False)
    seen: list[int] = []
    with pytest.raises(TransactionManagementError):
        on_commit(lambda: None)
    with transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(lambda: seen.append(db1.in_use))
    db1.connection.commit()
    assert seen == []
    db1.connection.set_autocommit(True)
    assert seen == [0]


def test_hooks_of_a_manual_transaction_that_is_rolled_back_never_run(db1: Database) -> None:
    db1.connection.set_autocommit(False)
    seen: list[int] = []
    with transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(lambda: seen.append(1))
    db1.connection.rollback()
    db1.connection.set_autocommit(True)
    assert seen == []


def test_a_hook_that_raises_when_autocommit_comes_back(db1: Database) -> None:
    db1.connection.set_autocommit(False)
    with transaction.atomic(using=ALIAS):
        db1.query()
        on_commit(fail)
    db1.connection.commit()
    with pytest.raises(ZeroDivisionError):
        db1.connection.set_autocommit(True)
    assert db1.in_use == 0
    assert db1.connection.get_autocommit() is True


def test_a_hook_under_a_cursor_that_is_left_open(db1: Database) -> None:
    seen: list[int] = []
    with transaction.atomic(using=ALIAS):
        cursor = db1.connection.cursor()
        cursor.execute("SELECT 1")
        on_commit(lambda: seen.append(db1.in_use))
    assert seen == [1]
    cursor.close()
    assert db1.in_use == 0
