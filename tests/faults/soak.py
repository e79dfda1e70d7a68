"""Many requests with random faults, on the releasing engine: nothing may be lost, doubled, in half, or still in use.

    python -m tests.faults.soak [--requests 100000] [--seed 1] [--threads 16]

A server of the run's own, behind a proxy that cuts connections; Django's WSGI handler in this process, called by many
threads. Backends are terminated, sockets cut at each point, connections refused, and the server is stopped and crashed.
What a client was told is compared with what the server has at the end. The exit status is 1 where they differ, or where
the pool is not whole. The same seed gives the same requests and faults; how they meet is up to the machine.
"""

from __future__ import annotations

import argparse
import gc
import logging
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import django
from django.conf import settings
from django.core.signals import got_request_exception

from example_project.databases import django_database
from tests.faults.proxy import ANSWER, HALF_ANSWER, REQUEST, Proxy
from tests.faults.server import RestartableServer, restartable_server

if TYPE_CHECKING:
    from tests.faults.writers import Ledger

ENGINE = "pool_doctor.backends.postgresql"
POOL = {"min_size": 2, "max_size": 4, "timeout": 10.0}
REQUESTS_BETWEEN_FAULTS = 25
RESTARTS = 4
# What views raise by themselves, and what Django calls a lost connection, a timeout and a full pool.
EXPECTED = {"RefusedError", "OperationalError", "InterfaceError"}
MARKERS = (b"COMMIT", b"BEGIN", b"INSERT", b"SAVEPOINT", b"ROLLBACK", b"SELECT", b"FETCH", b"SET", b"DISCARD")
TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'soak' ORDER BY random() LIMIT %s"
)


class Soak:
    """One run: the clients, the faults, and what came of them."""

    def __init__(self, requests: int, seed: int, threads: int, server: RestartableServer, proxy: Proxy) -> None:
        from django.core.handlers.wsgi import WSGIHandler
        from django.test import RequestFactory

        from tests.faults.soak_views import VIEWS
        from tests.faults.writers import Ledger

        self.requests = requests
        self.threads = threads
        self.server = server
        self.proxy = proxy
        self.chance = random.Random(seed)
        self.plan = random.Random(seed).choices(list(VIEWS), k=requests)
        self.ledger: Ledger = Ledger()
        self.answers: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.begun = 0
        self._lock = threading.Lock()
        self._handler = WSGIHandler()
        self._factory = RequestFactory()
        got_request_exception.connect(self._note_error, weak=False)

    def run(self) -> None:
        """Send all requests, and disturb them."""
        clients = [threading.Thread(target=self._client) for _ in range(self.threads)]
        for client in clients:
            client.start()
        restarts = {self.requests * number // (RESTARTS + 1) for number in range(1, RESTARTS + 1)}
        next_fault = REQUESTS_BETWEEN_FAULTS
        while any(client.is_alive() for client in clients):
            if restarts and self.begun >= min(restarts):
                restarts.remove(min(restarts))
                crash = len(restarts) % 2 == 1
                self.faults["crash" if crash else "restart"] += 1
                self.server.restart(crash=crash)
            elif self.begun >= next_fault:
                next_fault = self.begun + REQUESTS_BETWEEN_FAULTS
                self._disturb()
            time.sleep(0.005)
        for client in clients:
            client.join()

    def _disturb(self) -> None:
        kind = self.chance.choice(["terminate", "cut", "cut", "cut", "cut", "sever", "refuse"])
        self.faults[kind] += 1
        if kind == "terminate":
            with self.server.admin() as admin:
                admin.execute(TERMINATE, [self.chance.randint(1, 3)])
        elif kind == "cut":
            self.proxy.cut(self.chance.choice([REQUEST, ANSWER, HALF_ANSWER]), self.chance.choice(MARKERS))
        elif kind == "sever":
            self.proxy.sever()
        else:
            self.proxy.refuse()
            time.sleep(0.05)
            self.proxy.refuse(False)

    def _client(self) -> None:
        while (number := self._next()) is not None:
            kind = self.plan[number]
            work = f"{kind} {number}"
            status = self._request(kind, work)
            with self._lock:
                self.answers[status] += 1
            if kind.startswith(("atomic", "single")):
                self.ledger.done(work) if status == 200 else self.ledger.broke(work, RuntimeError())
            if number % 5_000 == 0:
                print(f"{number} of {self.requests} requests", file=sys.stderr, flush=True)

    def _note_error(self, **_: Any) -> None:
        kind, error, _traceback = sys.exc_info()
        cause = type(error.__cause__).__name__ if error is not None and error.__cause__ else ""
        with self._lock:
            self.errors[f"{kind.__name__ if kind else ''} {cause}".strip()] += 1

    def _next(self) -> int | None:
        with self._lock:
            number = self.begun
            self.begun += 1
        return number if number < self.requests else None

    def _request(self, kind: str, work: str) -> int:
        response: Any = self._handler(self._factory.get(f"/{kind}/{work}/").environ, lambda *_: None)
        try:
            next(iter(response), None)  # of a stream, the first part only
        except Exception:
            return 500
        finally:
            response.close()
        return int(response.status_code)


def problems(soak: Soak) -> list[str]:
    """Return what is wrong after a run."""
    from django.db import connections

    from tests.faults.databases import Database

    # No thread is left; what they held, if anything, is the collector's.
    gc.collect()
    found: list[str] = []
    for check in (Database("default", POOL).check_whole, lambda: soak.ledger.check(soak.server)):
        try:
            check()
        except AssertionError as error:
            found.append(str(error))
    if Database("default", POOL).in_use():
        found.append(f"in use: {Database('default', POOL).state()}")
    unexpected = {error: count for error, count in soak.errors.items() if error.split()[0] not in EXPECTED}
    if unexpected:
        found.append(f"unexpected errors: {unexpected}")
    if not soak.answers[200] or not soak.answers[500]:
        found.append(f"all requests ended alike: {dict(soak.answers)}")
    connections["default"].close_pool()
    return found


def configure(server: RestartableServer, proxy: Proxy, directory: str) -> None:
    """Set Django up on the server, through the proxy."""
    url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
    settings.configure(
        INSTALLED_APPS=["pool_doctor"],
        DATABASES={"default": django_database(url, engine=ENGINE, pool=POOL, application_name="soak")},
        ROOT_URLCONF="tests.faults.soak_views",
        ALLOWED_HOSTS=["*"],
        LOGGING_CONFIG=None,
        POOL_DOCTOR={"DIRECTORY": directory},
    )
    # Faults are what is asked for; they are counted instead.
    logging.disable(logging.CRITICAL)
    django.setup()


def main() -> int:
    """Run, print what happened, and return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000, help="how many (default 100000)")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="of the requests and the faults")
    parser.add_argument("--threads", type=int, default=16, help="clients at a time (default 16)")
    options = parser.parse_args()
    print(f"seed {options.seed}, {options.requests} requests, {options.threads} threads", flush=True)
    with (
        tempfile.TemporaryDirectory() as directory,
        restartable_server() as server,
        Proxy("127.0.0.1", server.port) as proxy,
    ):
        configure(server, proxy, directory)
        from tests.faults.databases import TABLE

        with server.admin() as admin:
            admin.execute(TABLE)
        soak = Soak(options.requests, options.seed, options.threads, server, proxy)
        began = time.monotonic()
        soak.run()
        print(f"{time.monotonic() - began:.0f} s; answers {dict(soak.answers)}; faults {dict(soak.faults)}", end="")
        print(f"; connections cut in a message: {proxy.cuts_done}\nerrors {dict(soak.errors.most_common())}")
        found = problems(soak)
    print("\n".join(found) or f"whole: {len(soak.ledger.acknowledged)} acknowledged writes are there, none in half")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
