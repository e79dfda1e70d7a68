"""What observing costs: the same work with pool_doctor installed and not, in turns, in one run.

    python -m tests.benchmarks.bench_observation [--rounds 40]

Work: a checkout (ensure_connection and close on the stock engine with a pool), a raw query and an ORM query on a held
connection, each in one thread and in 16, and a one-query view called through the WSGI handler. Two processes, one with
pool_doctor in INSTALLED_APPS and one without, run rounds of it in turns. The table shows their CPU time (the server's
is the same for both): medians over rounds, and the median of the differences within each pair of rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import django
from django.conf import settings
from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Callable

OBSERVED, PLAIN = "observed", "plain"
ROOT = Path(__file__).parents[2]
WARM_UP = 5  # rounds

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
settings.INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
if OBSERVED in sys.argv:
    settings.INSTALLED_APPS.append("pool_doctor")
settings.ROOT_URLCONF = __name__
settings.MIDDLEWARE = []
settings.LOGGING_CONFIG = None
settings.POOL_DOCTOR = {"DIRECTORY": os.environ.get("RECORDINGS", "unused")}
settings.DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 16, "max_size": 16}}
django.setup()

from django.contrib.contenttypes.models import ContentType  # noqa: E402
from django.core.handlers.wsgi import WSGIHandler  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.test import RequestFactory  # noqa: E402
from django.urls import path  # noqa: E402

from tests.benchmarks.serving import database, versions  # noqa: E402


def one_query(request: HttpRequest) -> HttpResponse:
    """Answer with what one query returned."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


urlpatterns = [path("one-query/", one_query)]


def checkouts(number: int) -> None:
    """Check a connection out and give it back."""
    for _ in range(number):
        connection.ensure_connection()
        connection.close()


def raw_queries(number: int) -> None:
    """Run a query on a connection that is held."""
    connection.ensure_connection()
    for _ in range(number):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    connection.close()


def orm_queries(number: int) -> None:
    """Run an ORM query that returns one row on a connection that is held."""
    for _ in range(number):
        ContentType.objects.order_by().values_list("pk").first()
    connection.close()


def requests(number: int) -> None:
    """Serve a view of one query through the WSGI handler."""
    handler = WSGIHandler()
    factory = RequestFactory()
    for _ in range(number):
        environ = factory.get("/one-query/").environ
        response = handler(environ, lambda *_: None)
        b"".join(response)
        response.close()


def in_threads(work: Callable[[int], None], number: int, threads: int) -> float:
    """Return the CPU seconds of this process that ``number`` repetitions in all take, spread over threads."""
    began = time.process_time()
    if threads == 1:
        work(number)
    else:
        workers = [threading.Thread(target=work, args=(number // threads,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return time.process_time() - began


WORK = (
    ("checkout", checkouts, 500, 1),
    ("checkout", checkouts, 800, 16),
    ("raw query", raw_queries, 400, 1),
    ("raw query", raw_queries, 800, 16),
    ("ORM query", orm_queries, 200, 1),
    ("ORM query", orm_queries, 480, 16),
    ("request of one query", requests, 200, 1),
)


class Process:
    """One of the two processes: runs a round when it is told to."""

    def __init__(self, kind: str, url: str, recordings: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bench_observation", kind],
            cwd=ROOT,
            env={**os.environ, "DATABASE_URL": url, "RECORDINGS": recordings},
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def round(self, work: int) -> float:
        """Return the microseconds that one repetition of this work takes."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(work, file=self._process.stdin, flush=True)
        return float(self._process.stdout.readline())

    def end(self) -> None:
        """End the process."""
        self._process.communicate()


def serve() -> None:
    """Run rounds of the work whose numbers come in."""
    call_command("migrate", verbosity=0)
    connection.close()
    print("ready", flush=True)
    for line in sys.stdin:
        _, work, number, threads = WORK[int(line)]
        print(in_threads(work, number, threads) / number * 1e6, flush=True)


def compare(work: int, processes: dict[str, Process], rounds: int) -> tuple[float, float, float]:
    """Return microseconds for one repetition without and with pool_doctor, and the median difference."""
    taken: dict[str, list[float]] = {PLAIN: [], OBSERVED: []}
    for turn in range(rounds + WARM_UP):
        for kind in (PLAIN, OBSERVED) if turn % 2 else (OBSERVED, PLAIN):
            taken[kind].append(processes[kind].round(work))
    plain, observed = (taken[kind][WARM_UP:] for kind in (PLAIN, OBSERVED))
    differences = [after - before for before, after in zip(plain, observed, strict=True)]
    return statistics.median(plain), statistics.median(observed), statistics.median(differences)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=40, help="pairs of rounds for each line (default 40)")
    rounds = parser.parse_args().rounds
    print(versions(), end="\n\n")
    rows = []
    with database() as url, tempfile.TemporaryDirectory() as folder:
        processes = {kind: Process(kind, url, f"{folder}/recordings") for kind in (PLAIN, OBSERVED)}
        for index, (name, _, _, threads) in enumerate(WORK):
            plain, observed, difference = compare(index, processes, rounds)
            rows.append((name, threads, plain, observed, difference, plain / observed))
        for process in processes.values():
            process.end()
    headers = ("work", "threads", "plain us", "observed us", "more us", "plain/observed")
    print(tabulate(rows, headers, floatfmt=("", "", ".1f", ".1f", ".2f", ".3f"), tablefmt="github"))


if __name__ == "__main__":
    serve() if sys.argv[1:2] in ([PLAIN], [OBSERVED]) else main()
