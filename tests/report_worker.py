"""A process of the shop whose pool is exhausted: each connection is held by a thread, and one more thread waits.

Prints "ready" when it has come to that, and ends when its standard input does.
"""

from __future__ import annotations

import sys
import threading
import time

import django
from django.conf import settings
from django.db import OperationalError, connection


def main() -> None:
    """Exhaust the pool and stay so."""
    django.setup()
    size = settings.DATABASES["default"]["OPTIONS"]["pool"]["max_size"]
    holding = threading.Barrier(size + 1)
    over = threading.Event()

    def hold() -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        holding.wait()
        over.wait()
        connection.close()

    def wait() -> None:
        try:
            connection.ensure_connection()
        except OperationalError:
            return
        connection.close()

    threads = [threading.Thread(target=hold, name=f"holder-{number}") for number in range(size)]
    for thread in threads:
        thread.start()
    holding.wait()
    threads.append(threading.Thread(target=wait, name="waiter"))
    threads[-1].start()
    while not connection.pool.get_stats().get("requests_waiting"):
        time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.read()
    over.set()
    for thread in threads:
        thread.join()
    connection.close_pool()


if __name__ == "__main__":
    main()
