"""What is recorded is what was driven: against the clients' own measurements, a witness in the pool, and PostgreSQL."""

from __future__ import annotations

import contextlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from example_project.servers import ServerOptions, running_server
from pool_doctor.recording.histogram import RELATIVE_ERROR
from tests.truth.conftest import Driven
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pool_doctor.recording.histogram import Histogram

MS = 0.001


@dataclass
class Witness:
    """What the witness in the worker has seen since the last mark()."""

    path: Path
    seen: int = 0

    def mark(self) -> float:
        """Forget what was until now; return the time (seconds since the epoch)."""
        self.seen = len(self.path.read_text().splitlines())
        return time.time()

    def _events(self, key: str) -> list[Any]:
        events = [json.loads(line) for line in self.path.read_text().splitlines()[self.seen :]]
        return [event[key] for event in events if key in event]

    @property
    def waits(self) -> list[float]:
        """The seconds that each getconn() took."""
        return self._events("wait")

    @property
    def holds(self) -> list[float]:
        """The seconds that each connection was out."""
        return self._events("hold")

    @property
    def peak(self) -> int:
        """How many were out at the same time at the most."""
        return max(self._events("out"))

    @property
    def failures(self) -> list[str]:
        """The errors of getconn()."""
        return self._events("failed")


@pytest.fixture(scope="module")
def servers(
    shop_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[Driven, Witness]]]:
    """A function that serves from one worker with a witness in it, warm, until the end of this module's tests."""
    with contextlib.ExitStack() as stack:

        def serve(*, env: dict[str, str] | None = None, **options: Any) -> tuple[Driven, Witness]:
            directory = tmp_path_factory.mktemp("witnessed")
            directory.chmod(0o700)
            witness = Witness(tmp_path_factory.mktemp("witness") / "events.jsonl")
            witnessed = {"DJANGO_SETTINGS_MODULE": "tests.truth.witnessed_settings", "WITNESS": str(witness.path)}
            chosen = ServerOptions(workers=1, **options)
            shop = Driven(
                stack.enter_context(
                    running_server(chosen, shop_database_url, directory, env={**witnessed, **(env or {})})
                )
            )
            shop.get("/quick/")  # makes the pool, which the first checkout waits for outside of getconn()
            until(lambda: shop.alias().in_use == 0)
            return shop, witness

        yield serve


@pytest.fixture(scope="module")
def roomy(servers: Callable[..., tuple[Driven, Witness]]) -> tuple[Driven, Witness]:
    """A server with four connections for six threads."""
    return servers(threads=6, max_size=4)


@pytest.fixture(scope="module")
def narrow(servers: Callable[..., tuple[Driven, Witness]]) -> tuple[Driven, Witness]:
    """A server with one connection for four threads, which wait for half a second at the most."""
    return servers(threads=4, max_size=1, env={"SHOP_TIMEOUT": "0.5"})


@pytest.fixture(scope="module")
def uvicorn(servers: Callable[..., tuple[Driven, Witness]]) -> Driven:
    """A server with an event loop."""
    return servers(server="uvicorn", max_size=20)[0]


def agrees(histogram: Histogram, measured: list[float]) -> None:
    """Check counts, sum, maximum and quantiles against exact measurements.

    Ours start and end some lines of Python apart from the witness's: on a busy machine, a millisecond in the mean.
    """
    measured = sorted(measured)
    assert histogram.count == len(measured)
    assert abs(histogram.total - sum(measured)) <= RELATIVE_ERROR * sum(measured) + MS * len(measured)
    assert abs(histogram.maximum - measured[-1]) <= 2 * RELATIVE_ERROR * measured[-1] + 5 * MS
    for quantile in (0.25, 0.5, 0.75, 0.9):
        position = quantile * len(measured)
        # The neighbours too: which value is the quantile is a convention.
        low, high = (measured[min(max(int(position) + step, 0), len(measured) - 1)] for step in (-1, 1))
        found = histogram.quantile(quantile)
        assert low * (1 - RELATIVE_ERROR) - 2 * MS <= found <= high * (1 + RELATIVE_ERROR) + 2 * MS, quantile


def test_a_view_that_calls_an_api(roomy: tuple[Driven, Witness]) -> None:
    shop, witness = roomy
    since = witness.mark()
    answers = shop.drive(["/api-call/?ms=50"] * 40, clients=4)
    assert {answer.status for answer in answers} == {200}
    totals = shop.totals("GET api-call/", 40)
    assert totals.checkouts == 40
    assert totals.queries == 80
    # The database is idle for the 50 ms of each call, and for hardly more.
    idle = (totals.hold - totals.needed) / 40
    assert 50 * MS <= idle < 80 * MS
    assert totals.query_time <= totals.needed
    assert totals.needed / 40 < 40 * MS
    found = shop.alias(since)
    assert found.policy == "request"
    assert (found.timeouts, found.errors, found.in_use, found.waiting, found.open) == (0, 0, 0, 0, [])
    assert found.checkouts == 40
    agrees(found.hold, witness.holds)
    agrees(found.wait, witness.waits)
    # A client waits longer than the view holds, never shorter.
    latencies = sorted(answer.latency for answer in answers)
    assert 50 * MS <= found.hold.quantile(0.5) <= latencies[20] * (1 + RELATIVE_ERROR)


def test_the_peak_is_the_real_one(roomy: tuple[Driven, Witness]) -> None:
    shop, witness = roomy
    shop.drive(["/async/?ms=200"] * 6, clients=6)
    witness.seen = 0
    assert shop.alias().peak_in_use == witness.peak == 4
    assert 2 <= shop.alias().peak_waiting <= 6


def test_a_transaction_needs_its_connection_all_the_time(roomy: tuple[Driven, Witness]) -> None:
    shop, _ = roomy
    shop.drive(["/atomic/?ms=50"] * 10, clients=2)
    totals = shop.totals("GET atomic/", 10)
    assert totals.needed >= 10 * 50 * MS
    assert totals.hold - totals.needed < 10 * 5 * MS
    assert totals.query_time < totals.needed - 10 * 45 * MS


def test_a_statement_that_takes_its_time_is_query_time(roomy: tuple[Driven, Witness]) -> None:
    shop, _ = roomy
    shop.drive(["/sql/?ms=40"] * 10, clients=2)
    totals = shop.totals("GET sql/", 10)
    assert (totals.checkouts, totals.queries) == (10, 10)
    assert 10 * 40 * MS <= totals.query_time <= totals.needed <= totals.hold


def test_hooks_after_a_commit_need_no_connection(roomy: tuple[Driven, Witness]) -> None:
    shop, _ = roomy
    shop.drive(["/on-commit/?ms=50"] * 6, clients=2)
    totals = shop.totals("GET on-commit/", 6)
    assert totals.hold - totals.needed >= 6 * 50 * MS


def test_postgresql_sees_the_same(roomy: tuple[Driven, Witness], shop_database_url: str) -> None:
    shop, _ = roomy
    with (
        psycopg.connect(shop_database_url, autocommit=True) as server,
        ThreadPoolExecutor(3) as clients,
    ):

        def states() -> dict[str, int]:
            rows = server.execute(
                "SELECT query LIKE 'SELECT pg_sleep%%', state, count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' GROUP BY 1, 2"
            )
            return {state: number for sleeps, state, number in rows if sleeps}

        def seen() -> bool:
            before, found, after = states(), shop.alias(), states()
            rows = sorted((row.scope, row.idle_for > 0) for row in found.open)
            return (
                before == after == {"active": 2}
                and found.in_use == 3
                and rows == [("GET api-call/", True), ("GET sql/", False), ("GET sql/", False)]
            )

        requests = [clients.submit(shop.get, "/sql/?ms=2000") for _ in range(2)]
        requests.append(clients.submit(shop.get, "/api-call/?ms=2000"))
        until(seen, seconds=10, what="PostgreSQL and the recording saw 2 active connections and an idle one")
        assert {row.site.partition(":")[0] for row in shop.alias().open} == {"example_project/shop/views.py"}
        assert all(request.result().status == 200 for request in requests)
    until(lambda: shop.alias().in_use == 0)


def test_a_pool_that_is_too_small_makes_requests_wait(narrow: tuple[Driven, Witness]) -> None:
    shop, witness = narrow
    since = witness.mark()
    answers = shop.drive(["/api-call/?ms=60"] * 8, clients=4)
    assert {answer.status for answer in answers} == {200}
    totals = shop.totals("GET api-call/", 8)
    found = shop.alias(since)
    assert found.peak_in_use == 1
    assert 2 <= found.peak_waiting <= 4
    agrees(found.wait, witness.waits)
    assert found.wait.maximum >= 120 * MS  # behind two others
    # Of the first four, three wait for one, two and three others.
    assert totals.wait >= (1 + 2 + 3) * 60 * MS


def test_timeouts_are_counted(narrow: tuple[Driven, Witness]) -> None:
    shop, witness = narrow
    since = witness.mark()
    answers = shop.drive(["/atomic/?ms=1500"] * 4, clients=4)
    assert sorted(answer.status for answer in answers) == [200, 500, 500, 500]
    totals = shop.totals("GET atomic/", 4)
    found = shop.alias(since)
    assert found.timeouts == len(witness.failures) == 3
    assert set(witness.failures) == {"PoolTimeout"}
    assert (found.checkouts, found.errors, found.hold.count) == (4, 0, 1)
    assert totals.checkouts == 4
    assert totals.wait >= 3 * 500 * MS
    agrees(found.wait, witness.waits)


def test_a_thread_that_never_closes_is_named(narrow: tuple[Driven, Witness]) -> None:
    shop, _ = narrow
    shop.get("/leak/")
    (row,) = shop.alias().open
    assert row.scope == "thread stock counter"


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_streams_hold_to_their_end(server: str, roomy: tuple[Driven, Witness], uvicorn: Driven) -> None:
    shop = uvicorn if server == "uvicorn" else roomy[0]
    answers = shop.drive(["/stream/"] * 4, clients=2)
    assert all(answer.status == 200 and answer.body.count(b"\n") > 100 for answer in answers)
    totals = shop.totals("GET stream/", 4)
    assert (totals.checkouts, totals.queries) == (4, 4)


def test_asynchronous_views_under_uvicorn(uvicorn: Driven) -> None:
    paths = ["/async/?ms=50", "/sql/?ms=5", "/api-call/?ms=20", "/nodb/"] * 8
    answers = uvicorn.drive(paths, clients=16)
    assert {answer.status for answer in answers} == {200}
    for name, queries in (("GET async/", 2), ("GET sql/", 1), ("GET api-call/", 2)):
        totals = uvicorn.totals(name, 8)
        assert (totals.checkouts, totals.queries) == (8, 8 * queries)
    totals = uvicorn.totals("GET async/", 8)
    assert totals.hold - totals.needed >= 8 * 50 * MS
    (process,) = uvicorn.processes()
    assert process.kind == "asgi"


@pytest.mark.parametrize(("age", "policy"), [("0", "unpooled"), ("60", "persistent")])
def test_without_a_pool(age: str, policy: str, serve: Callable[..., Driven]) -> None:
    shop = serve(workers=1, threads=2, max_size=0, env={"SHOP_CONN_MAX_AGE": age})
    shop.drive(["/api-call/?ms=20"] * 10, clients=2)
    totals = shop.totals("GET api-call/", 10)
    assert (totals.checkouts, totals.queries) == (10, 20)
    assert totals.hold - totals.needed >= 10 * 20 * MS
    found = shop.alias()
    assert (found.policy, found.pool, found.in_use, found.peak_in_use) == (policy, None, 0, 2)
    assert (found.size > 0) == (policy == "persistent")


def test_under_the_debug_toolbar(serve: Callable[..., Driven]) -> None:
    if int(pytest.importorskip("debug_toolbar").VERSION.split(".")[0]) < 7:
        pytest.skip("the example project wants a toolbar of version 7 or newer")
    shop = serve(workers=1, threads=2, max_size=2, env={"SHOP_DEBUG": "1"})
    page = shop.get("/")
    assert page.status == 200
    assert b"djDebug" in page.body
    totals = shop.totals("GET /", 1)
    assert (totals.checkouts, totals.queries) == (1, 2)
    assert totals.needed < totals.hold
