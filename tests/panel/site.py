"""Pages that use their connections in known ways, for the panel to show."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from debug_toolbar.toolbar import debug_toolbar_urls
from django.conf import settings
from django.db import OperationalError, connection, connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import path

import pool_doctor
from example_project.shop.models import Product
from pool_doctor.panel import PoolDoctorPanel

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = "<!doctype html><html lang='en'><head><title>A page</title></head><body><p>A page</p></body></html>"


def show_toolbar(request: HttpRequest) -> bool:
    """Show the toolbar unless the visitor asks not to."""
    return "hide" not in request.GET


def querying_middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Query before the toolbar's middleware, as one of sessions or tenants does."""

    def middleware(request: HttpRequest) -> HttpResponse:
        query()
        return get_response(request)

    return middleware


class Recording(PoolDoctorPanel):
    """Remembers what is recorded."""

    def record_stats(self, stats: dict[str, Any]) -> None:
        """Note it in the settings."""
        settings.TEST_RECORDED.append(stats)
        super().record_stats(stats)


def query(alias: str = "default") -> None:
    """Run one short query."""
    Product.objects.using(alias).count()


def work(request: HttpRequest) -> None:
    """Do something else than querying for as long as the request asks for."""
    time.sleep(int(request.GET.get("ms", "0")) / 1000)


def none(request: HttpRequest) -> HttpResponse:
    """No query."""
    return HttpResponse(PAGE)


def several(request: HttpRequest) -> HttpResponse:
    """So many queries, with the work between them."""
    for number in range(int(request.GET.get("n", "1"))):
        if number:
            work(request)
        query()
    return HttpResponse(PAGE)


def atomic(request: HttpRequest) -> HttpResponse:
    """Work inside a transaction."""
    with transaction.atomic():
        query()
        work(request)
        query()
    return HttpResponse(PAGE)


def before(request: HttpRequest) -> HttpResponse:
    """Work in a transaction before its first query, and after its end."""
    with transaction.atomic():
        work(request)
        query()
    work(request)
    return HttpResponse(PAGE)


def cursor(request: HttpRequest) -> HttpResponse:
    """Work while a cursor is open."""
    with connection.cursor() as open_cursor:
        open_cursor.execute("SELECT %s::text", ["a secret parameter"])
        work(request)
        open_cursor.execute("SELECT 2")
    return HttpResponse(PAGE)


def pinned(request: HttpRequest) -> HttpResponse:
    """A setting of the session."""
    with connection.cursor() as open_cursor:
        open_cursor.execute("SET statement_timeout = '10s'")
    query()
    return HttpResponse(PAGE)


def block(request: HttpRequest) -> HttpResponse:
    """Queries inside a named block."""
    with pool_doctor.scope("a <b>block</b>"):
        query()
    return HttpResponse(PAGE)


def aliases(request: HttpRequest) -> HttpResponse:
    """Two databases."""
    query()
    query("other")
    return HttpResponse(PAGE)


def at_once(request: HttpRequest) -> HttpResponse:
    """Two connections of one database at the same time."""
    with connection.cursor():

        def other() -> None:
            query()
            connections.close_all()

        thread = threading.Thread(target=copy_context().run, args=(other,))
        thread.start()
        thread.join()
    return HttpResponse(PAGE)


def as_json(request: HttpRequest) -> JsonResponse:
    """What a script of a page asks for."""
    query()
    return JsonResponse({"products": 1})


def redirect(request: HttpRequest) -> HttpResponseRedirect:
    """Go elsewhere after a query."""
    query()
    return HttpResponseRedirect("/none/")


def refused(request: HttpRequest) -> HttpResponse:
    """Do without the database where there is no connection."""
    with suppress(OperationalError):
        query()
    return HttpResponse(PAGE)


def fails(request: HttpRequest) -> HttpResponse:
    """Raise after a query."""
    query()
    raise RuntimeError("on purpose")


async def asynchronous(request: HttpRequest) -> HttpResponse:
    """So many queries on the event loop, with the work between them."""
    for number in range(int(request.GET.get("n", "1"))):
        if number:
            await asyncio.sleep(int(request.GET.get("ms", "0")) / 1000)
        await Product.objects.acount()
    return HttpResponse(PAGE)


urlpatterns = [
    path("none/", none),
    path("several/", several),
    path("atomic/", atomic),
    path("before/", before),
    path("cursor/", cursor),
    path("pinned/", pinned),
    path("block/", block),
    path("aliases/", aliases),
    path("at-once/", at_once),
    path("refused/", refused),
    path("json/", as_json),
    path("redirect/", redirect),
    path("fails/", fails),
    path("async/", asynchronous),
    *debug_toolbar_urls(),
]
