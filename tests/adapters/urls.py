"""Routes of views that query in every way a view can."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client
from django.urls import include, path, re_path

from tests.adapters.conftest import ALIAS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


def query() -> None:
    """Run a query."""
    with connections[ALIAS].cursor() as cursor:
        cursor.execute("SELECT 1")


aquery = sync_to_async(query)


class QueryingMiddleware:
    """Queries before the route is known, and after the view."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Query around the view."""
        query()
        response = self.get_response(request)
        query()
        return response


def plain(request: HttpRequest, **_: Any) -> HttpResponse:
    """Query once."""
    query()
    return HttpResponse("plain")


async def asynchronous(request: HttpRequest, number: int) -> HttpResponse:
    """Query, let others run, query again."""
    await aquery()
    await asyncio.sleep(0.01)
    await aquery()
    return HttpResponse(str(number))


def broken(request: HttpRequest) -> HttpResponse:
    """Query and fail."""
    query()
    raise ValueError("a broken view")


def streaming(request: HttpRequest) -> StreamingHttpResponse:
    """Query while the response is sent."""

    def content() -> Iterator[bytes]:
        for _ in range(3):
            query()
            yield b"."

    return StreamingHttpResponse(content())


async def asynchronous_streaming(request: HttpRequest) -> StreamingHttpResponse:
    """Query while the response is sent, on the event loop."""

    async def content() -> AsyncIterator[bytes]:
        for _ in range(3):
            await aquery()
            yield b"."

    return StreamingHttpResponse(content())


def nested(request: HttpRequest) -> HttpResponse:
    """Query, make a request with the test client, query again."""
    query()
    response = Client().get("/plain/")
    query()
    return HttpResponse(response.content)


async def asynchronous_nested(request: HttpRequest) -> HttpResponse:
    """The same on the event loop."""
    await aquery()
    response = await AsyncClient().get("/plain/")
    await aquery()
    return HttpResponse(response.content)


def command(request: HttpRequest) -> HttpResponse:
    """Call a management command."""
    query()
    call_command("check")
    return HttpResponse("checked")


branch = [path("<int:pk>/", plain), re_path(r"^(?P<slug>[a-z]+)/$", plain)]
urlpatterns = [
    path("", plain),
    path("plain/", plain),
    path("broken/", broken),
    path("async/<int:number>/", asynchronous),
    *(path(f"async-{number}/<int:number>/", asynchronous) for number in range(50)),
    path("streaming/", streaming),
    path("async-streaming/", asynchronous_streaming),
    path("nested/", nested),
    path("async-nested/", asynchronous_nested),
    path("command/", command),
    path("branch/", include(branch)),
]
