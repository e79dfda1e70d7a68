"""The shop under gunicorn in several ways at the same time, and clients that ask them in turns."""

from __future__ import annotations

import os
import platform
import random
import socket
import statistics
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from example_project import postgres
from example_project.databases import prepare_database
from example_project.servers import ServerOptions, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

STOCK = "django.db.backends.postgresql"
PEER = "django_pg_real_pool"
OURS = "pool_doctor.backends.postgresql"
WORKERS = 2
THREADS = 24
WARM_UP = 1.0
PACKAGES = ("Django", "psycopg", "psycopg-pool", "gunicorn", "django-pg-real-pool")


@dataclass
class Variant:
    """One way to serve the shop, and the requests per second that it has given in each round."""

    name: str
    engine: str
    max_size: int
    """Connections that each worker's pool may have; 0 for no pool."""
    max_age: int = 0
    """CONN_MAX_AGE in seconds."""
    url: str = ""
    rates: list[float] = field(default_factory=list)
    failures: int = 0

    def environment(self) -> dict[str, str]:
        """Return what differs from the shop's own settings: only our engine has pool_doctor beside it."""
        plain = {} if self.engine == OURS else {"DJANGO_SETTINGS_MODULE": "tests.benchmarks.plain_shop"}
        return {**plain, "SHOP_CONN_MAX_AGE": str(self.max_age), "SHOP_TIMEOUT": "60"}

    @property
    def median(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rates)

    def quartiles(self) -> tuple[float, ...]:
        """Return minimum, lower quartile, median and upper quartile of the rounds."""
        return min(self.rates), *statistics.quantiles(self.rates, n=4)


@contextmanager
def database() -> Iterator[str]:
    """Yield the URL of a shop of the run's own, on the server of DATABASE_URL or one that lasts as long."""
    with postgres.provide() as server:
        name = f"bench_{os.getpid()}"
        url = postgres.create_database(server, name)
        try:
            prepare_database(url)
            yield url
        finally:
            postgres.drop_database(postgres.with_database(server, "postgres"), name)


@contextmanager
def served(variant: Variant, database_url: str) -> Iterator[None]:
    """Serve the shop this way while the block runs."""
    options = ServerOptions(engine=variant.engine, workers=WORKERS, threads=THREADS, max_size=variant.max_size)
    with (
        TemporaryDirectory() as directory,
        running_server(options, database_url, Path(directory), env=variant.environment()) as server,
    ):
        variant.url = server.url
        yield


def ask_in_turns(variants: Sequence[Variant], path: str, *, clients: int, rounds: int, seconds: float) -> None:
    """Ask each way for so many seconds in each round, in an order that changes, and note the rates."""
    for _ in range(rounds):
        for variant in random.sample(list(variants), len(variants)):
            rate, failures = ask(variant.url + path, clients=clients, seconds=seconds)
            variant.rates.append(rate)
            variant.failures += failures


def ask(url: str, *, clients: int, seconds: float) -> tuple[float, int]:
    """Ask for a page with so many clients, each on a new connection as soon as it has its answer.

    Returns answers per second after a second of warming up, and how many requests failed.
    """
    parts = urlsplit(url)
    address = parts.hostname or "", parts.port or 80
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    request = f"GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
    begin = time.monotonic() + WARM_UP
    end = begin + seconds
    answers = [0] * clients
    failures = [0] * clients

    def client(number: int) -> None:
        while time.monotonic() < end:
            good = _ask_once(address, request)
            if begin < time.monotonic() < end:
                answers[number] += good
                failures[number] += not good

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(answers) / seconds, sum(failures)


def _ask_once(address: tuple[str, int], request: bytes) -> bool:
    try:
        with socket.create_connection(address, timeout=120) as connection:
            connection.sendall(request)
            answer = connection.recv(65_536)
            while connection.recv(65_536):
                pass
    except OSError:
        return False
    return answer.startswith(b"HTTP/1.1 200")


def versions() -> str:
    """Return what the numbers belong to."""
    return f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES)
