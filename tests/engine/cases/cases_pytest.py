"""pytest-django's fixtures: db, transactional_db, django_assert_num_queries, live_server, and what is forbidden."""

from __future__ import annotations

import threading
from typing import Any
from urllib.request import urlopen

import pytest
from django.db import connection, connections, transaction

from example_project.shop.models import Customer

RELEASING = getattr(connection, "releases_after_query", False)


def make_customer() -> Customer:
    """Return a customer who is stored."""
    return Customer.objects.create(name="Ada", email="ada@shop")


def test_transactional_db(transactional_db: None) -> None:
    make_customer()
    seen: list[int] = []

    def look() -> None:
        seen.append(Customer.objects.count())
        connections.close_all()

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [1]
    assert (connection.connection is None) == RELEASING


def test_forbidden_after_it_was_used() -> None:
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        Customer.objects.count()
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        connection.cursor()
    with pytest.raises(RuntimeError, match="Database access not allowed"):
        transaction.atomic().__enter__()
    assert connection.connection is None or not RELEASING


def test_db(db: None, django_assert_num_queries: Any) -> None:
    assert Customer.objects.count() == 0
    make_customer()
    with django_assert_num_queries(1):
        assert Customer.objects.count() == 1
    assert connection.connection is not None


def test_db_again(db: None) -> None:
    assert Customer.objects.count() == 0


@pytest.mark.django_db(transaction=True, reset_sequences=True, databases=["default", "other"])
def test_sequences() -> None:
    assert make_customer().pk == 1
    assert Customer.objects.using("other").create(name="Bob", email="bob@shop").pk == 1


def test_hooks(db: None, django_capture_on_commit_callbacks: Any) -> None:
    seen: list[int] = []
    with django_capture_on_commit_callbacks(execute=True):
        transaction.on_commit(lambda: seen.append(1))
    assert seen == [1]


def test_live_server(live_server: Any) -> None:
    for _ in range(3):
        with urlopen(f"{live_server.url}/quick/", timeout=20) as response:
            assert response.read() == b'{"products": 0}'
