"""Views for the tests as projects write them."""

from __future__ import annotations

from typing import Any

from debug_toolbar.store import get_store
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from example_project.shop.models import Customer

seen: list[tuple[str, bool]] = []


def note(what: str) -> None:
    """Note whether a connection is held."""
    seen.append((what, connection.connection is not None))


def store(request: HttpRequest) -> HttpResponse:
    """Store a customer."""
    Customer.objects.create(name="Ada", email="ada@shop")
    transaction.on_commit(lambda: note("hook"))
    note("in block")
    return HttpResponse("stored")


def fail(request: HttpRequest) -> HttpResponse:
    """Store a customer, and fail."""
    store(request)
    raise ZeroDivisionError


@transaction.non_atomic_requests
def fail_without(request: HttpRequest) -> HttpResponse:
    """The same, outside of a transaction."""
    return fail(request)


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """What can't be in a transaction."""
    return HttpResponse("async")


def page(request: HttpRequest) -> HttpResponse:
    """A page that the toolbar can be put into."""
    return HttpResponse(f"<html><body>customers: {Customer.objects.count()}</body></html>")


def panel_queries() -> list[dict[str, Any]]:
    """Return what the SQL panel has recorded of the latest request."""
    store = get_store()
    latest = list(store.request_ids())[-1]
    queries: list[dict[str, Any]] = store.panel(latest, "SQLPanel")["queries"]
    return queries


urlpatterns = [
    path("store/", store),
    path("fail/", fail),
    path("fail-without/", fail_without),
    path("async/", asynchronous),
    path("page/", page),
    path("__debug__/", include("debug_toolbar.urls")),
]
