"""Scopes of requests: each has its route for a name, and no two are mixed up."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import AsyncClient, Client, RequestFactory, override_settings

from pool_doctor.recording.scope import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.adapters.conftest import Recording

pytestmark = [
    pytest.mark.urls("tests.adapters.urls"),
    pytest.mark.filterwarnings("ignore:StreamingHttpResponse must consume:Warning"),
]


@pytest.fixture(autouse=True)
def database(global_alias: Callable[..., None], connect: Callable[..., Any]) -> Iterator[None]:
    """A pool that all threads share, and no scope left after the test."""
    global_alias(pool={"min_size": 1, "max_size": 8, "timeout": 20})
    yield
    assert current.get() is None


def wsgi(path: str, method: str = "GET") -> bytes:
    """Make a request as a WSGI server does."""
    environ = RequestFactory().generic(method, path).environ
    response = WSGIHandler()(environ, lambda *_: None)
    try:
        return b"".join(response)
    finally:
        response.close()


async def asgi(handler: ASGIHandler, path: str, method: str = "GET") -> bytes:
    """Make a request as an ASGI server does."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path.partition("?")[0],
        "query_string": path.partition("?")[2].encode(),
        "headers": [(b"host", b"testserver")],
    }
    server = ApplicationCommunicator(handler, scope)
    await server.send_input({"type": "http.request", "body": b""})
    assert (await server.receive_output(20))["type"] == "http.response.start"
    body = b""
    while True:
        part = await server.receive_output(20)
        body += part.get("body", b"")
        if not part.get("more_body"):
            break
    await server.wait(20)
    return body


def both(path: str, method: str = "GET") -> None:
    """Make a request each way."""
    wsgi(path, method)
    asyncio.run(asgi(ASGIHandler(), path, method))


def runs(recording: Recording) -> dict[str, tuple[int, int, int]]:
    """Return runs, checkouts and queries of each scope."""
    found = recording.alias()
    assert (found.in_use, found.open) == (0, [])
    return {name: (each.requests, each.checkouts, each.queries) for name, each in found.scopes.items()}


@pytest.mark.parametrize(
    ("path", "method", "name"),
    [
        ("/", "GET", "GET /"),
        ("/plain/", "GET", "GET plain/"),
        ("/plain/?secret=1", "POST", "POST plain/"),
        ("/plain/", "PROPFIND", "OTHER plain/"),
        ("/branch/17/", "GET", "GET branch/<int:pk>/"),
        ("/branch/slug/", "DELETE", "DELETE branch/(?P<slug>[a-z]+)/$"),
    ],
)
def test_a_request_is_named_after_its_route(path: str, method: str, name: str, recording: Recording) -> None:
    both(path, method)
    assert runs(recording) == {name: (2, 2, 2)}


def test_the_process_is_known_by_the_server_it_works_for(recording: Recording) -> None:
    wsgi("/plain/")
    assert recording.process().kind == "wsgi"
    asyncio.run(asgi(ASGIHandler(), "/plain/"))
    assert recording.process().kind == "asgi"


def test_asynchronous_views(recording: Recording) -> None:
    both("/async/1/")
    assert runs(recording) == {"GET async/<int:number>/": (2, 2, 4)}


@override_settings(MIDDLEWARE=["tests.adapters.urls.QueryingMiddleware"])
def test_what_middleware_queries_belongs_to_the_request(recording: Recording) -> None:
    both("/plain/")
    both("/nowhere/1/")
    both("/nowhere/2/")
    assert runs(recording) == {"GET plain/": (2, 2, 6), "GET (no route)": (4, 4, 8)}


@override_settings(MIDDLEWARE=["tests.adapters.urls.QueryingMiddleware"])
def test_a_connection_taken_before_routing_shows_the_route_later(recording: Recording) -> None:
    from tests.adapters import urls

    seen = []

    def view(request: Any, **_: Any) -> Any:
        seen.extend(held.scope for held in recording.alias().open)
        return urls.HttpResponse("seen")

    with override_settings(ROOT_URLCONF=(urls.path("seen/<int:pk>/", view),)):
        wsgi("/seen/3/")
    assert seen == ["GET seen/<int:pk>/"]


def test_a_view_that_fails(recording: Recording) -> None:
    both("/broken/")
    assert runs(recording) == {"GET broken/": (2, 2, 2)}


def test_queries_while_streaming(recording: Recording) -> None:
    assert wsgi("/streaming/") == b"..."
    assert asyncio.run(asgi(ASGIHandler(), "/async-streaming/")) == b"..."
    found = runs(recording)
    assert found["GET streaming/"] == (1, 1, 3)
    assert found["GET async-streaming/"] == (1, 1, 3)
    assert set(found) == {"GET streaming/", "GET async-streaming/"}


def test_a_response_that_is_never_closed_ends_with_the_next_request(recording: Recording) -> None:
    WSGIHandler()(RequestFactory().get("/plain/").environ, lambda *_: None)
    assert wsgi("/") == b"plain"
    found = runs(recording)
    assert found["GET plain/"][0] == 1
    assert found["GET /"][0] == 1


def test_a_request_in_a_request(recording: Recording) -> None:
    assert wsgi("/nested/") == b"plain"
    # The inner one queries on the connection that the outer one has checked out.
    assert runs(recording) == {"GET nested/": (1, 1, 3)}


def test_a_request_in_a_request_on_the_event_loop(recording: Recording) -> None:
    assert asyncio.run(asgi(ASGIHandler(), "/async-nested/")) == b"plain"
    names = set(runs(recording))
    assert "GET async-nested/" in names
    assert names <= {"GET async-nested/", "GET plain/"}


def test_a_command_in_a_request_is_the_requests_work(recording: Recording) -> None:
    both("/command/")
    assert runs(recording) == {"GET command/": (2, 2, 2)}


def test_the_test_clients(recording: Recording) -> None:
    from django.db import connections

    assert Client().get("/plain/").content == b"plain"
    connections.close_all()
    assert b"".join(Client().get("/streaming/").streaming_content) == b"..."
    connections.close_all()
    assert asyncio.run(AsyncClient().get("/async/2/")).content == b"2"
    found = recording.alias().scopes
    assert set(found) == {"GET plain/", "GET streaming/", "GET async/<int:number>/"}
    assert {totals.requests for totals in found.values()} == {1}
    assert found["GET streaming/"].queries == 3


def test_what_is_no_request_is_left_to_django(recording: Recording) -> None:
    async def lifespan() -> None:
        server = ApplicationCommunicator(ASGIHandler(), {"type": "lifespan"})
        await server.send_input({"type": "lifespan.startup"})
        with pytest.raises(ValueError, match="can only handle ASGI/HTTP"):
            await server.wait()

    asyncio.run(lifespan())
    assert not recording.directory.exists()


def test_concurrent_requests_are_never_mixed_up(recording: Recording) -> None:
    handler = ASGIHandler()

    async def all_at_once() -> list[bytes]:
        return await asyncio.gather(*(asgi(handler, f"/async-{number}/{number}/") for number in range(50)))

    assert asyncio.run(all_at_once()) == [str(number).encode() for number in range(50)]
    expected = {f"GET async-{number}/<int:number>/": (1, 1, 2) for number in range(50)}
    assert runs(recording) == expected


def test_requests_of_many_threads_are_never_mixed_up(recording: Recording) -> None:
    from concurrent.futures import ThreadPoolExecutor

    paths = ["/", "/plain/", "/branch/5/", "/streaming/"]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(wsgi, itertools.islice(itertools.cycle(paths), 80)))
    assert runs(recording) == {
        "GET /": (20, 20, 20),
        "GET plain/": (20, 20, 20),
        "GET branch/<int:pk>/": (20, 20, 20),
        "GET streaming/": (20, 20, 60),
    }


def test_requests_without_a_query_count(recording: Recording) -> None:
    wsgi("/")
    wsgi("/nowhere/")
    wsgi("/nowhere/")
    assert runs(recording) == {"GET /": (1, 1, 1)}
    wsgi("/", "POST")
    assert recording.process().kind == "wsgi"
