"""Several worker processes: each has its own file, and what one recorded outlives it."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool_doctor.recording.snapshot import ProcessSnapshot
    from tests.truth.conftest import Driven


def workers(shop: Driven) -> list[ProcessSnapshot]:
    """Return the processes that have served a request with a query."""
    return [process for process in shop.processes() if process.aliases]


def use_all(shop: Driven, number: int) -> int:
    """Make requests until so many living workers have served one; return how many requests that took."""
    made = 0
    while sum(process.alive for process in workers(shop)) < number:
        shop.drive(["/api-call/?ms=20"] * 8, clients=8)
        made += 8
        assert made < 400
    return made


def test_what_each_worker_recorded_outlives_it(serve: Callable[..., Driven]) -> None:
    shop = serve(workers=2, threads=4, max_size=4)
    made = use_all(shop, 2)
    shop.totals("GET api-call/", made)
    found = workers(shop)
    assert len({process.pid for process in found}) == 2
    assert all(process.alive and process.kind == "wsgi" and process.command == "gunicorn" for process in found)
    assert sum(process.aliases["default"].checkouts for process in found) == made

    victim = found[0]
    os.kill(victim.pid, signal.SIGKILL)
    until(lambda: not next(process for process in shop.processes() if process.pid == victim.pid).alive)
    (dead,) = [process for process in shop.processes() if process.pid == victim.pid]
    before, after = victim.aliases["default"], dead.aliases["default"]
    assert (after.checkouts, after.hold.total, after.scopes) == (before.checkouts, before.hold.total, before.scopes)
    assert (after.in_use, after.open) == (0, [])
    more = use_all(shop, 2)  # gunicorn has a new worker
    shop.totals("GET api-call/", made + more)
    assert len(workers(shop)) == 3

    shop.server.stop()
    assert not any(process.alive for process in shop.processes())
    shop.totals("GET api-call/", made + more)


def test_workers_forked_from_one_application_and_recycled(serve: Callable[..., Driven]) -> None:
    shop = serve(workers=1, threads=1, max_size=1, env={"GUNICORN_CMD_ARGS": "--preload --max-requests 5"})
    for _ in range(12):
        assert shop.get("/quick/").status == 200
    shop.totals("GET quick/", 12)
    found = workers(shop)
    assert len(found) >= 3
    assert sum(process.alive for process in found) <= 2
    assert shop.server.pid not in {process.pid for process in shop.processes()}
