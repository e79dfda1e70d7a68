"""The load driver sends what it says and reports what came back."""

from __future__ import annotations

import collections
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from example_project.postgres import free_port
from example_project.traffic import MIX, Outcome, drive, shop_requests
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator


class Shop(ThreadingHTTPServer):
    """Counts requests and the most that it served at once; `/hold/` answers when `gate` is open."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: collections.Counter[str] = collections.Counter()
        self.now = self.peak = 0
        self.lock = threading.Lock()
        self.gate = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.paths[self.path] += 1
            self.server.now += 1
            self.server.peak = max(self.server.peak, self.server.now)
        if self.path == "/hold/":
            self.server.gate.wait(20)
        self.send_response(503 if self.path == "/broken/" else 200)
        self.end_headers()
        with self.server.lock:
            self.server.now -= 1

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[Shop]:
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()


def test_each_request_is_sent_once(shop: Shop) -> None:
    paths = shop_requests(200)
    outcome = drive(shop.url, paths, clients=8)
    assert shop.paths == collections.Counter(paths)
    assert len(outcome.responses) == 200
    assert not outcome.failures
    assert outcome.rate == pytest.approx(200 / outcome.seconds)


def test_so_many_clients_send_at_once(shop: Shop) -> None:
    def open_when_all_are_there() -> None:
        until(lambda: shop.now >= 5, what="five requests at once")
        shop.gate.set()

    doorkeeper = threading.Thread(target=open_when_all_are_there)
    doorkeeper.start()
    drive(shop.url, ["/hold/"] * 12, clients=5)
    doorkeeper.join()
    assert shop.peak == 5


def test_failures_are_told_from_answers(shop: Shop) -> None:
    outcome = drive(shop.url, ["/fine/", "/broken/"] * 3, clients=2)
    assert len(outcome.responses) == 3
    assert outcome.failures == ["/broken/: status 503"] * 3


def test_a_server_that_is_not_there_is_a_failure() -> None:
    outcome = drive(f"http://127.0.0.1:{free_port()}", ["/"], clients=1)
    assert outcome.failures == ["/: ConnectionRefusedError"]
    assert outcome.quantile(0.5) is None


def test_with_a_rate_requests_come_on_time_whatever_the_answers_take(shop: Shop) -> None:
    def open_when_all_are_there() -> None:
        until(lambda: shop.now >= 12, what="all requests at once")
        shop.gate.set()

    doorkeeper = threading.Thread(target=open_when_all_are_there)
    doorkeeper.start()
    outcome = drive(shop.url, ["/hold/"] * 12, clients=16, rate=100.0)
    doorkeeper.join()
    assert len(outcome.responses) == 12
    assert drive(shop.url, ["/fine/"] * 12, clients=16, rate=100.0).rate < 400


def test_the_visitor_comes_once_while_others_are_served(shop: Shop) -> None:
    seen: list[int] = []

    def visit() -> None:
        until(lambda: shop.now > 0, what="a request that is being served")
        seen.append(shop.now)
        shop.gate.set()

    drive(shop.url, ["/fine/"] * 4 + ["/hold/"] * 8, clients=12, during=visit)
    assert len(seen) == 1
    assert 0 < seen[0] <= 8


def test_the_mix_is_the_same_each_time_and_has_all_of_it() -> None:
    assert shop_requests(500) == shop_requests(500)
    assert shop_requests(500) != shop_requests(500, seed=2)
    kinds = {path.partition("?")[0].split("/")[1] for path in shop_requests(3000)}
    assert kinds == {path.partition("?")[0].split("/")[1] for path in MIX}


def test_progress_is_plain_lines_where_there_is_no_terminal(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    drive(shop.url, ["/fine/"] * 8, clients=2, label="traffic")
    assert capsys.readouterr().err.splitlines() == [f"traffic: {number} of 8 requests" for number in (2, 4, 6, 8)]


def test_quantiles() -> None:
    outcome = Outcome(seconds=2.0, responses=[0.4, 0.1, 0.3, 0.2])
    assert outcome.quantile(0.0) == 0.1
    assert outcome.quantile(0.5) == 0.3
    assert outcome.quantile(1.0) == 0.4
    assert outcome.rate == 2.0
