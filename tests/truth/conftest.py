"""Driving a server with known traffic, and reading what its workers recorded."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.snapshot import ScopeTotals
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from example_project.servers import RunningServer
    from pool_doctor.recording.snapshot import AliasSnapshot, ProcessSnapshot


@dataclass(frozen=True)
class Answer:
    """What the client saw of one request. Seconds."""

    status: int
    body: bytes
    latency: float


@dataclass(frozen=True)
class Driven:
    """A server under test, driven from outside."""

    server: RunningServer

    def get(self, path: str) -> Answer:
        """Make one request on a connection of its own."""
        connection = HTTPConnection(urlsplit(self.server.url).netloc, timeout=30)
        try:
            began = time.monotonic()
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            return Answer(response.status, body, time.monotonic() - began)
        finally:
            connection.close()

    def drive(self, paths: Sequence[str], clients: int) -> list[Answer]:
        """Make requests from so many clients at once."""
        with ThreadPoolExecutor(clients) as threads:
            return list(threads.map(self.get, paths))

    def processes(self, since: float | None = None) -> list[ProcessSnapshot]:
        """Return what each process has recorded, or what since then (seconds since the epoch)."""
        found = read_directory(self.server.directory, since)
        assert found.problems == []
        return found.processes

    def alias(self, since: float | None = None) -> AliasSnapshot:
        """Return what the only process that queried has recorded of the database."""
        (process,) = [process for process in self.processes(since) if process.aliases]
        return process.aliases["default"]

    def runs(self) -> Counter[str]:
        """Return how many runs of each scope all processes have recorded."""
        counts: Counter[str] = Counter()
        for process in self.processes():
            for alias in process.aliases.values():
                counts.update({name: totals.requests for name, totals in alias.scopes.items()})
        return counts

    def totals(self, name: str, requests: int) -> ScopeTotals:
        """Return the sums of a scope over all processes, once that many of its requests have ended.

        A server closes a response, which ends the request, after the client has got it.
        """
        until(lambda: self.runs()[name] >= requests, what=f"{requests} runs of {name}")
        sums = ScopeTotals(name)
        for process in self.processes():
            for alias in process.aliases.values():
                if name in alias.scopes:
                    sums.add(alias.scopes[name])
        assert sums.requests == requests
        return sums


@pytest.fixture
def serve(live_server_process: Callable[..., RunningServer]) -> Callable[..., Driven]:
    """`live_server_process`, whose server is driven."""

    def serve(**options: Any) -> Driven:
        return Driven(live_server_process(**options))

    return serve
