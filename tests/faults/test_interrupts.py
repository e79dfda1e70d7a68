"""KeyboardInterrupt and SystemExit inside of queries, by signals and between threads."""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from django.db import Error, connections

from tests.faults.databases import RELEASING, STOCK, Database, database, request
from tests.faults.interrupted import PLACES
from tests.faults.writers import write_atomic
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.server import RestartableServer

SIGNALS = {signal.SIGINT: "KeyboardInterrupt", signal.SIGTERM: "SystemExit"}
# psycopg_pool leaves the place of an interrupted client in its queue, where it swallows a connection.
STOCK_PLACES = sorted(set(PLACES) - {"waiting"})


@pytest.fixture(scope="module")
def interrupted(
    shared_server: RestartableServer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, signal.Signals], dict[str, Any]]:
    """What the program saw at each place, run once for an engine and a signal."""

    @cache
    def run(engine: str, number: signal.Signals) -> dict[str, Any]:
        places = PLACES if engine == RELEASING else STOCK_PLACES
        directory = str(tmp_path_factory.mktemp("recordings"))
        command = [sys.executable, "-m", "tests.faults.interrupted", engine, shared_server.url, directory]
        ended = subprocess.run(
            [*command, str(int(number)), *places],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert ended.stdout, ended.stderr
        seen: dict[str, Any] = json.loads(ended.stdout)
        return seen

    return run


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("place", PLACES)
def test_a_signal_in_the_main_thread(interrupted: Any, place: str, number: signal.Signals) -> None:
    seen = interrupted(RELEASING, number)[place]
    assert seen == {"raised": SIGNALS[number], "after": "done", "written": [], "wrong": None}


@pytest.mark.parametrize("place", STOCK_PLACES)
def test_the_stock_engine_raises_the_same(interrupted: Any, place: str) -> None:
    seen = interrupted(STOCK, signal.SIGINT)[place]
    assert (seen["raised"], seen["written"]) == ("KeyboardInterrupt", [])


class Interrupt:
    """Raises KeyboardInterrupt in the nth call of a block, or at its end: these are the moments of signals."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.where = ""

    def __call__(self, frame: Any, event: str, what: Any) -> None:
        """See sys.setprofile()."""
        if event not in {"call", "c_return"}:
            return
        if not self._left:
            sys.setprofile(None)
            self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {event} {what or ''}"
            raise KeyboardInterrupt
        self._left -= 1

    def during(self, work: Callable[[], Any]) -> None:
        """Interrupt the work."""
        sys.setprofile(self)
        try:
            work()
        except (KeyboardInterrupt, Error):  # atomic() that is interrupted in commit() may raise another error
            pass
        finally:
            sys.setprofile(None)


def close_with_an_open_cursor(used: Database) -> None:
    """Close a connection that is needed."""
    cursor = used.connection.cursor()
    cursor.execute("SELECT 1")
    used.connection.close()


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # raised in a callback of a weak reference
@pytest.mark.parametrize("kind", ["query", "transaction", "close"])
def test_a_signal_at_any_moment(server: RestartableServer, django_db_blocker: Any, kind: str) -> None:
    pool = {"min_size": 1, "max_size": 1, "timeout": 20.0}
    with django_db_blocker.unblock(), database("moments", server.url, RELEASING, pool=pool) as used:
        works = {
            "query": lambda: used.query("SELECT 1"),
            "transaction": lambda: write_atomic(used, "atomic"),
            "close": lambda: close_with_an_open_cursor(used),
        }
        work = works[kind]
        for number in itertools.count():
            work()
            interrupt = Interrupt(number)
            interrupt.during(work)
            used.connection.close()
            del connections[used.alias]  # interrupted in atomic(), Django's wrapper may be of no use any more
            until(used.has_all, seconds=5, what=f"a whole pool after {interrupt.where}: {used.state()}")
            if not interrupt.where:
                break
        assert number > 100
    with server.admin() as admin:
        assert admin.execute("SELECT DISTINCT count(*) % 2 FROM written GROUP BY work").fetchall() in ([], [(0,)])


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("atomic", [False, True])
def test_an_exception_sent_to_a_thread(
    on_both: Any, server: RestartableServer, kind: type[BaseException], atomic: bool
) -> None:
    running = "SELECT 1 FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND state = 'active' AND pid <> pg_backend_pid()"

    def scenario(database: Database) -> tuple[Any, ...]:
        raised: list[type[BaseException]] = []

        def work() -> None:
            database.insert("a", 1)
            database.query("SELECT pg_sleep(1)")

        def run() -> None:
            try:
                with request():
                    if atomic:
                        with database.atomic():
                            work()
                    else:
                        work()
            except BaseException as error:
                raised.append(type(error))
            finally:
                connections.close_all()

        thread = threading.Thread(target=run)
        thread.start()
        with server.admin() as admin:
            until(lambda: admin.execute(running).fetchone(), what="a query that runs")
        sent = ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(kind))
        assert sent == 1
        thread.join(30)
        return raised, database.query("SELECT work, part FROM written")

    assert on_both(scenario) == ([kind], [] if atomic else [("a", 1)])
