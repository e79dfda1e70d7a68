"""Runs a load on a real web server, on time whatever the answers take, and reads what was recorded."""

from __future__ import annotations

import http.client
import os
import random
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from example_project.servers import ServerOptions, running_server
from pool_doctor.recording.reader import read_directory
from pool_doctor.report.traces import Traces
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.analysis.trace import Trace
    from tests.prediction.scenarios import Arrival, Pool, Scenario

ENGINES = {"request": "native", "query": "release"}
CLIENTS = 96
_WARM = "/sql/?ms=150"


def run(scenario: Scenario, pool: Pool, url: str, *, seconds: float, seed: int, load: float = 1.0) -> Trace:
    """Run `scenario` on `pool`, `load` times as fast; return what the workers recorded of it."""
    arrivals = [(moment / load, path) for moment, path in scenario.arrivals(random.Random(seed), seconds)]
    options = ServerOptions(
        engine=ENGINES[pool.policy],
        server=scenario.server,
        workers=scenario.workers,
        threads=scenario.threads,
        max_size=pool.size,
    )
    directory = Path(tempfile.mkdtemp(prefix="pool_doctor-prediction-"))
    try:
        with running_server(options, url, directory, env={"SHOP_TIMEOUT": "60"}) as server:
            address = urlsplit(server.url).netloc
            # A pool opens its connections one by one: what is compared is the pool that has them all.
            _send(address, [(0.0, _WARM)] * (8 * pool.size * scenario.workers))
            since = time.time()
            _send(address, arrivals)
            return _recorded(directory, since, len(arrivals))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _send(address: str, arrivals: Sequence[Arrival]) -> None:
    began = time.monotonic() + 0.2
    failures: list[str] = []
    lock = threading.Lock()

    def request(arrival: Arrival) -> None:
        moment, path = arrival
        time.sleep(max(0.0, began + moment - time.monotonic()))
        connection = http.client.HTTPConnection(address, timeout=90)
        try:
            headers = {"Connection": "close", "X-Request-Start": f"t={time.time():.6f}"}
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            if response.status != http.HTTPStatus.OK:
                raise http.client.HTTPException(f"status {response.status}")
        except (OSError, http.client.HTTPException) as error:
            with lock:
                failures.append(f"{path}: {error!r}")
        finally:
            connection.close()

    with ThreadPoolExecutor(CLIENTS) as clients:
        list(clients.map(request, arrivals))
    if failures:
        raise RuntimeError(f"{len(failures)} of {len(arrivals)} requests failed; the first: {failures[0]}")


def _recorded(directory: Path, since: float, requests: int) -> Trace:
    def trace() -> Trace | None:
        traffic = Traces(read_directory(directory, since), since).traffic("default")
        # A server closes a response, which ends the request, after the client has got it.
        done = traffic is not None and sum(request.threaded for request in traffic.trace.requests) >= requests
        return traffic.trace if traffic is not None and done else None

    return until(trace, what=f"{requests} recorded requests")


def load_average() -> float:
    """Return how many processes wanted a processor in the last minute."""
    return os.getloadavg()[0]
