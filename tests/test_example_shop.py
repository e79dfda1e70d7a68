"""The shop's views do what their names promise, under both web servers."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.db import connection

from example_project.demo import NAMES, has_releasing_engine
from example_project.shop.models import Customer, Order, OrderLine, Product

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.test import Client

    from example_project.servers import RunningServer

PATHS = {
    "/": "For sale",
    "/orders/1/": "Total",
    "/quick/": "100",
    "/api-call/?ms=5": "order",
    "/atomic/?ms=5": "order",
    "/sql/?ms=5": "done",
    "/stream/": "500,",
    "/async/?ms=5": "order",
    "/on-commit/?ms=5": "order",
    "/leak/": "done",
    "/nodb/": "ok",
}


@pytest.fixture
def filled(db: None) -> None:
    call_command("seed", verbosity=0)


@pytest.mark.parametrize("engine", [engine for engine in NAMES if engine == "native" or has_releasing_engine()])
@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_each_view_answers(live_server_process: Callable[..., RunningServer], server: str, engine: str) -> None:
    shop = live_server_process(server=server, engine=engine, workers=1)
    for path, expected in PATHS.items():
        with urllib.request.urlopen(shop.url + path) as response:
            assert expected in response.read().decode(), path


def test_the_server_records_into_its_own_directory_and_ends_with_the_test(
    live_server_process: Callable[..., RunningServer],
) -> None:
    one, other = live_server_process(workers=1), live_server_process(workers=1, env={"SHOP_MAX_SIZE": "2"})
    assert one.directory != other.directory
    assert one.url != other.url
    one.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(one.url)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("path", "queries"), [("/quick/", 1), ("/api-call/?ms=0", 2), ("/sql/?ms=1", 1), ("/nodb/", 0), ("/", 2)]
)
def test_the_number_of_queries(client: Client, django_assert_num_queries: Any, path: str, queries: int) -> None:
    with django_assert_num_queries(queries):
        assert client.get(path).status_code == 200


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("ms", ["soon", "-1", "1.5", "60001", ""])
@pytest.mark.parametrize("path", ["/api-call/", "/atomic/", "/sql/", "/async/", "/on-commit/"])
def test_a_bad_duration_is_one_sentence(client: Client, path: str, ms: str) -> None:
    response = client.get(path, {"ms": ms})
    assert response.status_code == 400
    assert response.content.decode() == (f"ms is {ms!r}; it has to be a whole number of milliseconds from 0 to 60000.")


@pytest.mark.django_db(transaction=True)
def test_atomic_holds_a_transaction_while_it_waits(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    monkeypatch.setattr("time.sleep", lambda _seconds: seen.append(connection.in_atomic_block))
    client.get("/atomic/?ms=1")
    client.get("/api-call/?ms=1")
    client.get("/on-commit/?ms=1")
    assert seen == [True, False, False]


@pytest.mark.django_db(transaction=True)
def test_the_leaking_thread_never_closes_its_connection(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []
    monkeypatch.setattr(Product.objects, "count", lambda: threads.append(threading.current_thread().name))
    client.get("/leak/")
    assert threads == ["stock counter"]


@pytest.mark.django_db
def test_seeding_is_the_same_each_time_and_adds_nothing_to_a_full_shop() -> None:
    call_command("seed", orders=20, verbosity=0)
    first = list(OrderLine.objects.values_list("product__name", "quantity", "price").order_by("pk"))
    call_command("seed", orders=20, verbosity=0)
    assert Order.objects.count() == 20
    Order.objects.all().delete()
    Product.objects.all().delete()
    Customer.objects.all().delete()
    call_command("seed", orders=20, verbosity=0)
    assert list(OrderLine.objects.values_list("product__name", "quantity", "price").order_by("pk")) == first


@pytest.mark.django_db
def test_migrations_are_complete() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
