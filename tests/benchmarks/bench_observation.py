"""What observing costs: the same work with pool_doctor installed and not, in turns, in one run.

    python -m tests.benchmarks.bench_observation [--rounds 15]

Work: a checkout (ensure_connection and close on the stock engine with a pool), a raw query and an ORM query on a held
connection, each in one thread and in 16, and a one-query view called through the WSGI handler. Rounds of both kinds
alternate; the table shows medians over rounds, and the median of the differences within each pair of rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from typing import TYPE_CHECKING

import django
from tabulate import tabulate

if TYPE_CHECKING:
    from collections.abc import Callable


def configure() -> None:
    """Set Django up on DATABASE_URL with a pool, without pool_doctor among its apps."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    from django.conf import settings

    settings.INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = []
    settings.LOGGING_CONFIG = None
    settings.POOL_DOCTOR = {"DIRECTORY": tempfile.mkdtemp()}
    settings.DATABASES["default"]["OPTIONS"] = {"pool": {"min_size": 16, "max_size": 16}}
    django.setup()


def one_query(request: object) -> object:
    """Answer with what one query returned."""
    from django.http import HttpResponse

    with django.db.connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


def url_patterns() -> list[object]:
    """Return the routes of the benchmark's one view."""
    from django.urls import path

    return [path("one-query/", one_query)]


def checkouts(number: int) -> None:
    """Check a connection out and give it back."""
    connection = django.db.connection
    for _ in range(number):
        connection.ensure_connection()
        connection.close()


def raw_queries(number: int) -> None:
    """Run a query on a connection that is held."""
    connection = django.db.connection
    connection.ensure_connection()
    for _ in range(number):
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    connection.close()


def orm_queries(number: int) -> None:
    """Run an ORM query that returns one row on a connection that is held."""
    from django.contrib.contenttypes.models import ContentType

    for _ in range(number):
        ContentType.objects.order_by().values_list("pk").first()
    django.db.connection.close()


def requests(number: int) -> None:
    """Serve a view of one query through the WSGI handler."""
    from django.core.handlers.wsgi import WSGIHandler
    from django.test import RequestFactory

    handler = WSGIHandler()
    factory = RequestFactory()
    for _ in range(number):
        environ = factory.get("/one-query/").environ
        response = handler(environ, lambda *_: None)
        b"".join(response)
        response.close()


def in_threads(work: Callable[[int], None], number: int, threads: int) -> float:
    """Return the seconds that ``number`` repetitions in all take, spread over threads."""
    if threads == 1:
        began = time.perf_counter()
        work(number)
        return time.perf_counter() - began
    workers = [threading.Thread(target=work, args=(number // threads,)) for _ in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - began


def compare(work: Callable[[int], None], number: int, threads: int, rounds: int) -> tuple[float, float, float]:
    """Return microseconds for one repetition without and with pool_doctor, and the median difference."""
    from pool_doctor.adapters import startup

    plain, observed = [], []
    for turn in range(rounds * 2):
        if turn % 2:
            startup.install()
        django.db.connections.close_all()
        del django.db.connections["default"]
        in_threads(work, max(number // 20, threads), threads)
        elapsed = in_threads(work, number, threads) / number * 1e6
        (observed if turn % 2 else plain).append(elapsed)
        startup.uninstall()
    differences = [after - before for before, after in zip(plain, observed, strict=True)]
    return statistics.median(plain), statistics.median(observed), statistics.median(differences)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15, help="pairs of rounds for each line")
    rounds = parser.parse_args().rounds
    configure()
    globals()["urlpatterns"] = url_patterns()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    rows = []
    for name, work, number, threads in (
        ("checkout", checkouts, 4000, 1),
        ("checkout", checkouts, 4000, 16),
        ("raw query", raw_queries, 3000, 1),
        ("raw query", raw_queries, 3200, 16),
        ("ORM query", orm_queries, 1000, 1),
        ("ORM query", orm_queries, 1600, 16),
        ("request of one query", requests, 800, 1),
    ):
        plain, observed, difference = compare(work, number, threads, rounds)
        rows.append((name, threads, plain, observed, difference, plain / observed))
    headers = ("work", "threads", "plain us", "observed us", "more us", "plain/observed")
    print(tabulate(rows, headers, floatfmt=("", "", ".1f", ".1f", ".2f", ".3f")))


if __name__ == "__main__":
    main()
