"""Transactions: one physical connection from the first statement to the last, and the logical state outlives it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import DatabaseError, IntegrityError, ProgrammingError, transaction
from django.db.transaction import TransactionManagementError

from tests.engine.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.engine.conftest import Database

# Django 6.1 has given it another name.
savepoint = getattr(transaction, "savepoint_create", None) or transaction.savepoint


def insert(database: Database, n: int) -> None:
    """Add a row."""
    database.query("INSERT INTO numbers VALUES (%s)", [n])


def test_atomic_has_one_backend_and_gives_it_back(db2: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        pids = {db2.pid() for _ in range(3)}
        insert(db2, 1)
        assert db2.in_use == 1
        assert stored() == []
    assert len(pids) == 1
    assert stored() == [1]
    assert db2.in_use == 0


def test_atomic_that_raises_rolls_back_and_gives_back(db1: Database, stored: Callable[[], list[int]]) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        insert(db1, 1)
        raise ZeroDivisionError
    assert db1.in_use == 0
    assert stored() == []
    insert(db1, 2)
    assert stored() == [2]


def test_an_empty_block_holds_nothing(db1: Database) -> None:
    with transaction.atomic(using=ALIAS):
        pass
    assert db1.in_use == 0
    assert db1.connection.get_autocommit() is True
    with transaction.atomic(using=ALIAS):
        db1.connection.cursor().close()
        assert db1.in_use == 1, "from the beginning of the block"
    assert db1.in_use == 0


def test_nested_blocks_are_savepoints(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        insert(db1, 1)
        with transaction.atomic(using=ALIAS):
            insert(db1, 2)
        with pytest.raises(IntegrityError), transaction.atomic(using=ALIAS):
            insert(db1, 3)
            db1.query("DO $$ BEGIN RAISE unique_violation; END $$")
        with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
            with transaction.atomic(using=ALIAS, savepoint=False):
                insert(db1, 4)
            raise ZeroDivisionError
        assert db1.in_use == 1
    assert stored() == [1, 2]
    assert db1.in_use == 0


def test_savepoints_by_hand(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        insert(db1, 1)
        kept = savepoint(using=ALIAS)
        insert(db1, 2)
        transaction.savepoint_commit(kept, using=ALIAS)
        dropped = savepoint(using=ALIAS)
        insert(db1, 3)
        transaction.savepoint_rollback(dropped, using=ALIAS)
    assert stored() == [1, 2]


def test_a_savepoint_outside_of_a_transaction_is_none(db1: Database) -> None:
    db1.query()
    assert savepoint(using=ALIAS) is None
    assert db1.in_use == 0


def test_set_rollback_and_a_broken_block(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS):
        insert(db1, 1)
        transaction.set_rollback(True, using=ALIAS)
    assert stored() == []

    def broken() -> None:
        with transaction.atomic(using=ALIAS):
            insert(db1, 2)
            with pytest.raises(DatabaseError), transaction.atomic(using=ALIAS, savepoint=False):
                db1.query("SELECT no_such_column")
            with pytest.raises(TransactionManagementError):
                db1.query()

    broken()
    assert db1.in_use == 0
    assert stored() == []


def test_durable(db1: Database, stored: Callable[[], list[int]]) -> None:
    with transaction.atomic(using=ALIAS, durable=True):
        insert(db1, 1)
    with (
        pytest.raises(RuntimeError, match="durable"),
        transaction.atomic(using=ALIAS),
        transaction.atomic(using=ALIAS, durable=True),
    ):
        pass
    assert db1.in_use == 0
    assert stored() == [1]


def test_atomic_as_a_decorator(db1: Database) -> None:
    @transaction.atomic(using=ALIAS)
    def work() -> set[int]:
        return {db1.pid(), db1.pid()}

    assert len(work()) == 1
    assert db1.in_use == 0


def test_manual_transactions_stay_manual(db2: Database, stored: Callable[[], list[int]]) -> None:
    connection = db2.connection
    connection.set_autocommit(False)
    insert(db2, 1)
    assert db2.in_use == 1
    connection.commit()
    assert db2.in_use == 0
    insert(db2, 2)
    assert stored() == [1]
    connection.rollback()
    assert db2.in_use == 0
    assert stored() == [1]
    assert connection.get_autocommit() is False
    insert(db2, 3)
    connection.commit()
    connection.set_autocommit(True)
    insert(db2, 4)
    assert stored() == [1, 3, 4]


def test_manual_transactions_on_another_backend_each_time(db2: Database, stored: Callable[[], list[int]]) -> None:
    """The second physical connection has autocommit on when it is bound."""
    connection = db2.connection
    connection.set_autocommit(False)
    insert(db2, 1)
    first = db2.pid()
    connection.commit()
    taken = db2.pool.getconn()
    try:
        assert taken.info.backend_pid == first
        assert taken.autocommit is False
        assert db2.pid() != first
        insert(db2, 2)
        connection.rollback()
    finally:
        db2.pool.putconn(taken)
    assert stored() == [1]
    # ... and the first one is taken with autocommit off by a thread that has it on.
    db2.in_thread(lambda: insert(db2, 5))
    assert stored() == [1, 5]


def test_switching_autocommit_off_holds_nothing_yet(db1: Database) -> None:
    db1.connection.set_autocommit(False)
    assert db1.in_use == 0
    assert db1.connection.get_autocommit() is False
    db1.connection.set_autocommit(True)
    assert db1.in_use == 0


def test_asking_for_autocommit_holds_nothing(db1: Database) -> None:
    assert db1.connection.get_autocommit() is True
    assert db1.in_use == 0


def test_autocommit_is_not_switched_on_inside_a_transaction(configure: Callable[..., Database], table: str) -> None:
    """The stock engine raises the same."""
    outcomes = []
    for number, engine in enumerate(("pool_doctor.backends.postgresql", "django.db.backends.postgresql")):
        database = configure(engine, alias=f"engine_{number}")
        database.connection.set_autocommit(False)
        insert(database, 1)
        with pytest.raises(ProgrammingError) as caught:
            database.connection.set_autocommit(True)
        outcomes.append((str(caught.value), database.connection.autocommit))
        database.connection.rollback()
        database.connection.set_autocommit(True)
    assert outcomes[0] == outcomes[1]


def test_autocommit_is_forbidden_inside_atomic(db1: Database) -> None:
    db1.query()
    with transaction.atomic(using=ALIAS), pytest.raises(TransactionManagementError):
        db1.connection.set_autocommit(True)
    with transaction.atomic(using=ALIAS), pytest.raises(TransactionManagementError):
        db1.connection.commit()
    assert db1.in_use == 0


def test_autocommit_off_in_settings(configure: Callable[..., Database], stored: Callable[[], list[int]]) -> None:
    database = configure(AUTOCOMMIT=False, pool={"min_size": 2, "max_size": 2, "timeout": 2})
    insert(database, 1)
    assert database.in_use == 1
    database.connection.commit()
    assert database.in_use == 0
    insert(database, 2)
    database.connection.rollback()
    assert stored() == [1]
    with database.pool.connection():  # so that the next one is another backend
        insert(database, 3)
        database.connection.rollback()
    assert stored() == [1]
    database.connection.set_autocommit(True)
    insert(database, 4)
    assert stored() == [1, 4]


def test_atomic_with_autocommit_off_in_settings(
    configure: Callable[..., Database], stored: Callable[[], list[int]]
) -> None:
    """A block is then a savepoint of the transaction that only commit() ends."""
    database = configure(AUTOCOMMIT=False)
    with transaction.atomic(using=ALIAS):
        insert(database, 1)
    assert database.in_use == 1
    assert stored() == []
    with pytest.raises(ZeroDivisionError), transaction.atomic(using=ALIAS):
        insert(database, 2)
        raise ZeroDivisionError
    database.connection.commit()
    assert stored() == [1]
    assert database.in_use == 0
    with transaction.atomic(using=ALIAS, savepoint=False):
        insert(database, 3)
    database.connection.rollback()
    assert stored() == [1]
    assert database.in_use == 0


def test_begin_by_hand(db1: Database, stored: Callable[[], list[int]]) -> None:
    db1.query("BEGIN")
    insert(db1, 1)
    assert db1.in_use == 1
    assert stored() == []
    db1.query("ROLLBACK")
    assert db1.in_use == 0
    assert stored() == []


def test_a_statement_that_fails_in_a_manual_transaction(db1: Database, stored: Callable[[], list[int]]) -> None:
    db1.connection.set_autocommit(False)
    insert(db1, 1)
    with pytest.raises(DatabaseError):
        db1.query("SELECT no_such_column")
    assert db1.in_use == 1
    with pytest.raises(DatabaseError, match="aborted"):
        db1.query()
    db1.connection.rollback()
    assert db1.in_use == 0
    assert stored() == []
    db1.connection.set_autocommit(True)


def test_select_for_update_locks_until_the_end(
    db1: Database, table: str, witness: psycopg.Connection[Any], stored: Callable[[], list[int]]
) -> None:
    insert(db1, 1)
    locked = "SELECT count(*) FROM (SELECT n FROM numbers FOR UPDATE SKIP LOCKED) AS free"
    with transaction.atomic(using=ALIAS):
        db1.query("SELECT n FROM numbers FOR UPDATE")
        db1.query()
        assert witness.execute(locked).fetchone() == (0,)
    assert witness.execute(locked).fetchone() == (1,)
    assert db1.in_use == 0


def test_closing_inside_a_block(db1: Database, stored: Callable[[], list[int]]) -> None:
    def payment() -> None:
        with transaction.atomic(using=ALIAS):
            insert(db1, 1)
            db1.connection.close()
            assert db1.in_use == 0
            with pytest.raises(ProgrammingError, match="Cannot open a new connection in an atomic block"):
                db1.connection.ensure_connection()
            db1.query()

    with pytest.raises(DatabaseError):
        payment()
    assert db1.in_use == 0
    assert stored() == []
    insert(db1, 2)
    assert stored() == [2]


def test_a_block_without_savepoint_around_nothing_that_is_closed(configure: Callable[..., Database]) -> None:
    """With autocommit off a block may be open while nothing is bound."""
    database = configure(AUTOCOMMIT=False)
    database.query()
    database.connection.commit()

    def payment() -> None:
        with transaction.atomic(using=ALIAS, savepoint=False):
            assert not database.held
            database.connection.close()
            database.query()

    with pytest.raises(DatabaseError):
        payment()
    assert database.in_use == 0


def test_deferred_constraints_are_checked_at_commit(db1: Database, witness: psycopg.Connection[Any]) -> None:
    witness.execute("CREATE TABLE unique_numbers (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    try:
        with pytest.raises(IntegrityError), transaction.atomic(using=ALIAS):
            db1.query("INSERT INTO unique_numbers VALUES (1), (1)")
            db1.query("SELECT 1")
        assert db1.in_use == 0
        with pytest.raises(IntegrityError), transaction.atomic(using=ALIAS):
            db1.query("INSERT INTO unique_numbers VALUES (1), (1)")
            db1.connection.check_constraints()
        assert db1.in_use == 0
        assert witness.execute("SELECT count(*) FROM unique_numbers").fetchone() == (0,)
    finally:
        witness.execute("DROP TABLE unique_numbers")


def test_two_aliases_in_one_block_each(configure: Callable[..., Database], stored: Callable[[], list[int]]) -> None:
    first, second = configure(alias="first"), configure(alias="second")
    with transaction.atomic(using="first"), transaction.atomic(using="second"):
        insert(first, 1)
        insert(second, 2)
        assert (first.in_use, second.in_use) == (1, 1)
    with pytest.raises(ZeroDivisionError), transaction.atomic(using="first"):
        insert(first, 3)
        with transaction.atomic(using="second"):
            insert(second, 4)
        assert (first.in_use, second.in_use) == (1, 0)
        raise ZeroDivisionError
    assert stored() == [1, 2, 4]
