"""What the soak asks for: requests that read, write, fail, stream, leak and pin, each in its own way."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connection, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path

if TYPE_CHECKING:
    from collections.abc import Iterator


class RefusedError(Exception):
    """What views raise that are meant to fail."""


def insert(work: str, *parts: int) -> None:
    """Write rows, each in a statement and a cursor of its own."""
    for part in parts:
        with connection.cursor() as cursor:
            cursor.execute("INSERT INTO written VALUES (%s, %s)", [work, part])


def read(request: HttpRequest, work: str) -> HttpResponse:
    """Run a few queries."""
    for _ in range(3):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM (SELECT 1 FROM written LIMIT 10) AS few")
            cursor.fetchone()
    return HttpResponse()


def single(request: HttpRequest, work: str) -> HttpResponse:
    """Write a row that commits itself."""
    insert(work, 0)
    return HttpResponse()


def atomic(request: HttpRequest, work: str) -> HttpResponse:
    """Write two rows in a transaction, the second in a savepoint, and read in a hook after it."""
    with transaction.atomic():
        insert(work, 0)
        transaction.on_commit(lambda: read(request, work), robust=True)
        with transaction.atomic():
            insert(work, 1)
    return HttpResponse()


def by_hand(request: HttpRequest, work: str) -> HttpResponse:
    """Write two rows in a transaction that is not atomic()'s."""
    connection.set_autocommit(False)
    try:
        insert(work, 0, 1)
        connection.commit()
    finally:
        connection.rollback()
        connection.set_autocommit(True)
    return HttpResponse()


def never(request: HttpRequest, work: str) -> HttpResponse:
    """Fail in a transaction that has written."""
    with transaction.atomic():
        insert(work, 0)
        raise RefusedError


def never_in_time(request: HttpRequest, work: str) -> HttpResponse:
    """Write, and take longer than a statement may."""
    with transaction.atomic(), connection.cursor() as cursor:
        insert(work, 0)
        cursor.execute("SET LOCAL statement_timeout = 5")
        cursor.execute("SELECT pg_sleep(10)")
    return HttpResponse()


def wrong(request: HttpRequest, work: str) -> HttpResponse:
    """Run a statement that is an error, and go on."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            insert(work, 1)
            cursor.execute("SELECT nothing")
    except Exception:
        insert(work, 0)
    return HttpResponse()


def stream(request: HttpRequest, work: str) -> StreamingHttpResponse:
    """Send rows while they are read through a server-side cursor; the client leaves half-way."""
    return StreamingHttpResponse(_rows())


def _rows() -> Iterator[str]:
    with connection.chunked_cursor() as cursor:
        cursor.execute("SELECT generate_series(1, 500)")
        while rows := cursor.fetchmany(50):
            yield str(rows)


def leak(request: HttpRequest, work: str) -> HttpResponse:
    """Leave a cursor open, in a cycle that only the collector finds."""
    cursor: Any = connection.cursor()
    cursor.execute("SELECT 1")
    cycle: list[Any] = [cursor]
    cycle.append(cycle)
    return HttpResponse()


def pin(request: HttpRequest, work: str) -> HttpResponse:
    """Change the session."""
    with connection.cursor() as cursor:
        cursor.execute("SET search_path TO nowhere, public")
    return read(request, work)


def thread(request: HttpRequest, work: str) -> HttpResponse:
    """Query in a thread that ends without closing its connection, and with a transaction open."""

    def run() -> None:
        with suppress(DatabaseError):
            connection.set_autocommit(False)
            insert(work, 0)

    worker = threading.Thread(target=run)
    worker.start()
    worker.join()
    return HttpResponse()


VIEWS = {
    "read": read,
    "single": single,
    "atomic": atomic,
    "atomic-by-hand": by_hand,
    "never": never,
    "never-in-time": never_in_time,
    "single-wrong": wrong,
    "read-stream": stream,
    "read-leak": leak,
    "read-pin": pin,
    "never-thread": thread,
}
urlpatterns = [path(f"{name}/<work>/", view) for name, view in VIEWS.items()]
