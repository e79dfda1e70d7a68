"""What the web server tells of a request: the queue's header, and how many threads there are."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import RequestFactory

from pool_doctor.adapters import requests, webserver
from pool_doctor.recording.layout import UNKNOWN_QUEUED
from pool_doctor.recording.reader import read_image
from pool_doctor.recording.runs import runs
from tests.truth.conftest import Driven
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_project.servers import RunningServer
    from pool_doctor.recording.image import Image
    from tests.adapters.conftest import Recording

NOW = 1_800_000_000.25


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("t=1800000000.150", 100),
        ("1800000000.15", 100),
        ("t=1800000000150", 100),
        ("1800000000150", 100),
        (" t=1800000000150000 ", 100),
        ("1800000000150000000", 100),
        ("t=1800000000150000, t=1800000000240000", 100),
        ("t=1800000000.900", 0),
        ("t=1799999900.25", UNKNOWN_QUEUED - 1),
        ("t=1799990000", UNKNOWN_QUEUED),
        ("t=12", UNKNOWN_QUEUED),
        ("t=-1800000000", UNKNOWN_QUEUED),
        ("", UNKNOWN_QUEUED),
        ("t=", UNKNOWN_QUEUED),
        ("t=nan", UNKNOWN_QUEUED),
        ("t=inf", UNKNOWN_QUEUED),
        ("t=1e400", UNKNOWN_QUEUED),
        ("just now", UNKNOWN_QUEUED),
    ],
)
def test_the_header_of_the_queue(header: str, expected: int) -> None:
    assert webserver.queued(header, NOW) == expected


def image(recording: Recording) -> Image:
    (path,) = recording.directory.glob("*.ring")
    return read_image(path)


@pytest.mark.urls("tests.adapters.urls")
@pytest.mark.parametrize("name", ["X-Request-Start", "X-Queue-Start"])
def test_the_wait_in_the_queue_is_recorded(name: str, global_alias: Callable[..., None], recording: Recording) -> None:
    global_alias(pool={"min_size": 1, "max_size": 2, "timeout": 20})
    # Django's test client, where one was used, has connected close_old_connections() anew, behind the end of the scope.
    requests.uninstall()
    requests.install()
    value = f"t={time.time() - 30:.6f}"
    environ = RequestFactory().get("/plain/", headers={name: value}).environ
    WSGIHandler()(environ, lambda *_: None).close()

    async def asgi() -> None:
        headers = [(b"host", b"testserver"), (name.lower().encode(), value.encode())]
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/plain/", "query_string": b""}
        server = ApplicationCommunicator(ASGIHandler(), {**scope, "http_version": "1.1", "headers": headers})
        await server.send_input({"type": "http.request", "body": b""})
        await server.receive_output(20)
        await server.wait(20)

    asyncio.run(asgi())
    found = list(runs(image(recording), 0))
    assert len(found) == 2
    assert all(30 <= run.queued / 1e9 < 50 for run in found)


@pytest.mark.urls("tests.adapters.urls")
def test_a_server_with_one_request_at_a_time_says_so(global_alias: Callable[..., None], recording: Recording) -> None:
    """The flag of PEP 3333; Django's test client sets it to that."""
    global_alias(pool={"min_size": 1, "max_size": 2, "timeout": 20})
    WSGIHandler()(RequestFactory().get("/plain/").environ, lambda *_: None).close()
    assert image(recording).header.threads == 1


def test_a_server_that_does_not_say() -> None:
    assert webserver.threads({"wsgi.multithread": True}) == 0
    assert webserver.threads({}) == 0


@pytest.mark.heavy
@pytest.mark.parametrize(("options", "threads"), [({"threads": 3}, 3), ({"server": "uvicorn"}, 0)])
def test_threads_of_real_servers(
    options: dict[str, Any], threads: int, live_server_process: Callable[..., RunningServer]
) -> None:
    server = Driven(live_server_process(workers=1, **options))
    assert json.loads(server.get("/quick/").body)["products"] > 0
    until(lambda: server.runs()["GET quick/"] == 1, what="the request")
    [path] = [path for path in server.server.directory.glob("*.ring") if server.alias()]
    assert read_image(path).header.threads == threads
