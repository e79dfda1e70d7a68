"""What giving the connection back after each query costs, over holding it: all ways of it, in turns, in one run.

    python -m tests.benchmarks.bench_release [--rounds 60] [--queries 300]

Work: a raw `SELECT 1`, and an ORM query that returns one row, in one thread, on a pool of four open connections. Each
way runs in a process of its own that lives for the whole run; each round asks them all in turn, in an order that
changes. The tables show microseconds a query: quartiles over rounds, and what is added over the held connection in the
same round. Beside the time that passes stands the CPU time of the process, which other work on the machine and the
server's own time do not touch. The lines that begin with "least" are not engines to use: they say what nothing can stay
below that does this in Python (floor.py).

The server is that of DATABASE_URL, else one of the run's own. The peer is django-pg-real-pool, of the dependency group
`benchmark`.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, nullcontext
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from tabulate import tabulate

from example_project import postgres
from example_project.databases import django_database, prepare_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

STOCK = "django.db.backends.postgresql"
PEER = "django_pg_real_pool"
OURS = "pool_doctor.backends.postgresql"
HELD = "stock, held"

# Engine, whether pool_doctor records, and when the connection goes back.
VARIANTS = {
    HELD: (STOCK, False, "never"),
    "stock, held, observed": (STOCK, True, "never"),
    "stock, close() after each query": (STOCK, False, "close"),
    "django-pg-real-pool": (PEER, False, "itself"),
    "pool_doctor, recording": (OURS, True, "itself"),
    "pool_doctor, recording, in no scope": (OURS, True, "itself, no scope"),
    "pool_doctor, not recording": (OURS, False, "itself"),
    "least: held, observed": (STOCK, False, "never"),
    "least: given back, recorded": (STOCK, False, "itself"),
    "least: given back": (STOCK, False, "itself"),
}
POOL = {"min_size": 4, "max_size": 4}


# One way, in a process of its own.


def serve(name: str) -> None:
    """Answer each line `raw 300` with the seconds and CPU seconds that so many queries of that kind take."""
    engine, recording, given_back = VARIANTS[name]
    url = os.environ["DATABASE_URL"]
    with tempfile.TemporaryDirectory() as directory:
        settings.configure(
            INSTALLED_APPS=[*(["pool_doctor"] if recording else []), "example_project.shop"],
            DATABASES={"default": django_database(url, engine=engine, pool=POOL)},
            DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
            LOGGING_CONFIG=None,
            POOL_DOCTOR={"DIRECTORY": directory},
        )
        django.setup()
        change_engine(name)
        works = {"raw": raw_queries, "orm": orm_queries}
        block = scope_of(recording=recording and given_back != "itself, no scope")
        print("ready", flush=True)
        for line in sys.stdin:
            kind, count = line.split()
            with block():
                works[kind](int(count) // 10, close=given_back == "close")
                began, worked = time.perf_counter(), time.process_time()
                works[kind](int(count), close=given_back == "close")
                seconds, work = time.perf_counter() - began, time.process_time() - worked
            print(seconds, work, flush=True)


def change_engine(name: str) -> None:
    """Make Django's engine what the name says, where it stands for no engine of its own."""
    if not name.startswith("least: "):
        return
    from django.db import connection

    from tests.benchmarks import floor

    connection.ensure_connection()
    connection.close()
    if name.endswith("observed"):
        floor.follow()
    else:
        floor.release(record=name.endswith("recorded"))


def scope_of(*, recording: bool) -> Callable[[], AbstractContextManager[Any]]:
    """Return what to run the queries in: where requests are recorded, queries run in a request's scope."""
    if not recording:
        return nullcontext
    from pool_doctor import scope

    return lambda: scope("benchmark")


def raw_queries(count: int, *, close: bool) -> None:
    """Run `SELECT 1` so many times."""
    from django.db import connection

    for _ in range(count):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
        if close:
            connection.close()


def orm_queries(count: int, *, close: bool) -> None:
    """Read one customer so many times."""
    from django.db import connection

    from example_project.shop.models import Customer

    for _ in range(count):
        Customer.objects.get(pk=1)
        if close:
            connection.close()


# All of them, in turns.


class Variant:
    """The process of one way, and what it has measured: pairs of microseconds a query, passed and CPU."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.measured: list[tuple[float, float]] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_release", "--serve", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise SystemExit(f"The process of {self.name!r} has ended: status {self._process.wait()}.")
        return line

    def run(self, kind: str, count: int) -> None:
        """Measure once more."""
        assert self._process.stdin is not None
        print(kind, count, file=self._process.stdin, flush=True)
        seconds, work = map(float, self._read().split())
        self.measured.append((seconds / count * 1e6, work / count * 1e6))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def table(variants: Sequence[Variant], which: int) -> str:
    """Return the quartiles of all variants; `which` is 0 for the time that passed, 1 for CPU time."""
    held = next(variant for variant in variants if variant.name == HELD)
    peer = next(variant for variant in variants if variant.name == "django-pg-real-pool")
    peer_added = _added(peer, held, which)
    rows = []
    for variant in variants:
        values = [pair[which] for pair in variant.measured]
        low, median, high = statistics.quantiles(values, n=4)
        added = _added(variant, held, which)
        rows.append((variant.name, min(values), low, median, high, added, added / peer_added))
    headers = ("way", "min us", "lower quartile", "median", "upper quartile", "added us", "of the peer's")
    return tabulate(rows, headers, floatfmt=("", ".1f", ".1f", ".1f", ".1f", ".1f", ".2f"), tablefmt="github")


def _added(variant: Variant, held: Variant, which: int) -> float:
    return statistics.median(
        mine[which] - theirs[which] for mine, theirs in zip(variant.measured, held.measured, strict=True)
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="how often each way is measured (default 60)")
    parser.add_argument("--queries", type=int, default=300, help="queries in each measurement (default 300)")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    packages = ("Django", "psycopg", "psycopg-pool", "django-pg-real-pool")
    print(f"Python {platform.python_version()},", ", ".join(f"{name} {version(name)}" for name in packages))
    with ExitStack() as stack:
        url = stack.enter_context(postgres.provide())
        url = postgres.create_database(url, f"bench_release_{os.getpid()}")
        stack.callback(postgres.drop_database, url=postgres.with_database(url, "postgres"), name=url.rpartition("/")[2])
        prepare_database(url)
        os.environ["DATABASE_URL"] = url
        variants = [Variant(name) for name in VARIANTS]
        for variant in variants:
            stack.callback(variant.close)
        for kind, title in (("raw", "raw SELECT 1"), ("orm", "one-row ORM query")):
            for _ in range(options.rounds):
                for variant in random.sample(variants, len(variants)):
                    variant.run(kind, options.queries)
            for which, what in enumerate(("time that passes", "CPU time of the process")):
                print(f"\n{title}, {what}\n\n{table(variants, which)}")
            for variant in variants:
                variant.measured.clear()


if __name__ == "__main__":
    main()
