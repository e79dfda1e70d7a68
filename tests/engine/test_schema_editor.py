"""Schema editors: one physical connection for their block, because they quote values with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db import models
from django.db.backends.postgresql.schema import DatabaseSchemaEditor

from example_project.shop.models import Customer
from tests.engine.conftest import ALIAS, STOCK

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.engine.conftest import Database


@pytest.mark.parametrize("atomic", [True, False])
def test_values_are_quoted_by_the_connection(db2: Database, atomic: bool) -> None:
    db2.query()
    with db2.connection.schema_editor(atomic=atomic) as editor:
        assert isinstance(editor, DatabaseSchemaEditor)
        held = db2.connection.connection
        assert held is not None
        assert editor.quote_value("it's") == "'it''s'"
        pid = db2.pid()
        with db2.pool.connection():
            assert db2.pid() == pid
        editor.execute("SELECT 1")
        assert db2.connection.connection is held
    assert db2.in_use == 0


@pytest.mark.parametrize("atomic", [True, False])
def test_an_editor_that_fails_gives_back(db1: Database, atomic: bool) -> None:
    with pytest.raises(ZeroDivisionError), db1.connection.schema_editor(atomic=atomic) as editor:
        editor.execute("CREATE TABLE made (n int)")
        raise ZeroDivisionError
    assert db1.in_use == 0
    made = db1.value("SELECT to_regclass('made')::text")
    assert made == (None if atomic else "made")
    db1.query("DROP TABLE IF EXISTS made")


def test_migrations_alter_tables(db1: Database) -> None:
    renamed = models.CharField(max_length=80, default="it's", null=True)
    renamed.set_attributes_from_name("nickname")
    renamed.model = Customer
    with db1.connection.schema_editor() as editor:
        editor.create_model(Customer)
    Customer.objects.using(ALIAS).create(name="Ada", email="ada@shop")
    with db1.connection.schema_editor() as editor:
        editor.add_field(Customer, renamed)
        editor.add_index(Customer, models.Index(models.F("name"), name="by_name"))
        editor.add_constraint(Customer, models.CheckConstraint(condition=~models.Q(name="it's"), name="no_its"))
    assert db1.value("SELECT nickname FROM shop_customer") == "it's"
    with db1.connection.schema_editor() as editor:
        editor.delete_model(Customer)
    assert db1.in_use == 0


def test_only_the_sql(configure: Callable[..., Database]) -> None:
    def statements(database: Database, atomic: bool) -> list[str]:
        with database.connection.schema_editor(collect_sql=True, atomic=atomic) as editor:
            editor.create_model(Customer)
            editor.add_constraint(Customer, models.CheckConstraint(condition=~models.Q(name="it's"), name="no_its"))
        found: list[Any] = editor.collected_sql
        return found

    mine, stock = configure(), configure(STOCK, alias="stock")
    for atomic in (True, False):
        assert statements(mine, atomic) == statements(stock, atomic)
        assert mine.in_use == 0


def test_editors_of_other_engines_are_left_alone(configure: Callable[..., Database]) -> None:
    stock = configure(STOCK, alias="stock")
    with stock.connection.schema_editor() as editor:
        assert type(editor) is DatabaseSchemaEditor
