"""A program whose main thread is interrupted by a signal at different points of its work with the database.

    python -m tests.faults.interrupted ENGINE DATABASE_URL DIRECTORY SIGNAL PLACE ...

It prints what it saw at each place as JSON: the class that was raised, what the same thread can do after it, what is
written, and what is wrong with the pool (null where nothing is). tests/faults/test_interrupts.py runs it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import django
import psycopg
from django.conf import settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.databases import Database

ALIAS = "interrupted"
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE application_name = %s AND query ~ 'pg_sleep|FETCH' AND state = 'active'"
)
SLEEP = "SELECT pg_sleep(20)"


def query(database: Database) -> None:
    """Wait for the answer to a query."""
    database.query(SLEEP)


def transaction(database: Database) -> None:
    """Wait for the answer to a query in a transaction that has written."""
    with database.atomic():
        database.insert("a", 1)
        database.query(SLEEP)


def savepoint(database: Database) -> None:
    """Wait for the answer to a query in a savepoint."""
    with database.atomic():
        database.insert("a", 1)
        with database.atomic():
            database.insert("a", 2)
            database.query(SLEEP)


def by_hand(database: Database) -> None:
    """Wait for the answer to a query in a transaction that is not atomic()'s; end it as the engines can."""
    database.connection.set_autocommit(False)
    try:
        database.insert("a", 1)
        database.query(SLEEP)
    finally:
        database.connection.rollback()
        database.connection.set_autocommit(True)


def fetch(database: Database) -> None:
    """Wait for rows of a server-side cursor."""
    with database.atomic(), database.connection.chunked_cursor() as cursor:
        cursor.execute("SELECT CASE WHEN n > 5 THEN pg_sleep(20)::text ELSE '' END FROM generate_series(1, 10) AS n")
        for _ in range(2):
            cursor.fetchmany(5)


def copy(database: Database) -> None:
    """Wait for rows of a COPY."""
    statement = f"COPY ({SLEEP}) TO STDOUT"
    with database.connection.cursor() as cursor, cursor.copy(statement) as rows:
        list(rows)


def waiting(database: Database) -> None:
    """Wait for a connection of the pool, all of which another thread has."""
    database.query("SELECT 1")


PLACES: dict[str, Callable[[Database], None]] = {
    work.__name__: work for work in (query, transaction, savepoint, by_hand, fetch, copy, waiting)
}


def main(engine: str, url: str, directory: str, number: str, *places: str) -> None:
    """Run the places on one engine, and print what was seen."""
    settings.configure(
        INSTALLED_APPS=["pool_doctor"], DATABASES={}, POOL_DOCTOR={"DIRECTORY": directory}, LOGGING_CONFIG=None
    )
    django.setup()
    from tests.faults.databases import database

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    pool = {"min_size": 1, "max_size": 1, "timeout": 20.0}
    seen = {}
    for place in places:
        with database(ALIAS, url, engine, pool=pool) as used:
            seen[place] = interrupt(used, PLACES[place], int(number), url)
    print(json.dumps(seen))


def interrupt(database: Database, work: Callable[[Database], None], number: int, url: str) -> dict[str, Any]:
    """Return what is seen when the work is interrupted once it waits."""
    from tests.faults.databases import outcome, request

    database.open_pool()
    over = threading.Event()
    threads = [threading.Thread(target=hold, args=(database, over))] if work is waiting else []
    for thread in threads:
        thread.start()
    if work is waiting:
        wait_for(lambda: not database.pool._pool)
        asks = lambda: bool(database.pool._waiting)  # noqa: E731
    else:
        admin = psycopg.connect(url, autocommit=True)
        asks = lambda: admin.execute(RUNNING, [ALIAS]).fetchone() == (1,)  # noqa: E731
    threads.append(threading.Thread(target=send, args=(asks, number)))
    threads[-1].start()
    raised = None
    try:
        with request():
            work(database)
    except BaseException as error:
        raised = type(error).__name__
    over.set()
    for thread in threads:
        thread.join()
    seen: dict[str, Any] = {"raised": raised, "after": outcome(lambda: database.query("SELECT 1"))}
    try:
        seen["written"] = database.query("SELECT work, part FROM written")
        database.connection.close()
        database.check_whole()
    except Exception as error:
        return {**seen, "wrong": repr(error)}
    return {**seen, "wrong": None}


def hold(database: Database, over: threading.Event) -> None:
    """Hold the pool's only connection until it is over."""
    with database.atomic():
        database.query("SELECT 1")
        over.wait(30)
    database.connection.close()


def send(asks: Callable[[], bool], number: int) -> None:
    """Send a signal to this process once the main thread waits."""
    wait_for(asks)
    os.kill(os.getpid(), number)


def wait_for(condition: Callable[[], Any]) -> None:
    """Return when the condition is true, or after 20 s."""
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


if __name__ == "__main__":
    main(*sys.argv[1:])
