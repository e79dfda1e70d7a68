"""Backends that are terminated, and servers that stop or crash, under load: no row lost or doubled, the pool whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.writers import Ledger, write_through
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.databases import Database
    from tests.faults.proxy import Proxy
    from tests.faults.server import RestartableServer

# What a driver may say of a connection that is gone.
LOST = {"OperationalError", "InterfaceError"}
POOL = {"max_size": 4, "min_size": 4, "timeout": 20.0}


def under_load(
    database: Database, server: RestartableServer, disturb: Callable[[], None], *, commits: int = 40
) -> None:
    """Write while `disturb` runs and until some more is committed after it; check what was written."""
    database.open_pool()
    at_end = [0]

    def during() -> None:
        disturb()
        at_end[0] = -1

    def enough(ledger: Ledger) -> bool:
        if at_end[0] < 0:
            at_end[0] = len(ledger.acknowledged) + commits
        return len(ledger.acknowledged) >= at_end[0]

    ledger = write_through(database, during, enough=enough)
    assert ledger.errors, "nothing was disturbed"
    assert set(ledger.errors) <= LOST
    ledger.check(server)


def test_terminated_backends(on_both: Any, server: RestartableServer) -> None:
    def scenario(database: Database) -> None:
        def terminate() -> None:
            with server.admin() as admin:
                for _ in range(20):
                    # Only those that are at work, else all of them would be idle ones of a moment ago.
                    until(
                        lambda: admin.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s "
                            "AND (state <> 'idle' OR random() < 0.2) LIMIT 1",
                            [database.alias],
                        ).fetchone()
                    )

        under_load(database, server, terminate)

    on_both(scenario, pool=POOL)


def test_sockets_that_are_cut_at_random(on_both: Any, server: RestartableServer, proxy: Proxy) -> None:
    def scenario(database: Database) -> None:
        def cut() -> None:
            for number in range(20):
                before = proxy.cuts_done
                at = ("request", "answer", "half an answer")[number % 3]
                proxy.cut(at, (b"COMMIT", b"INSERT", b"'single")[number // 3 % 3])
                until(lambda before=before: proxy.cuts_done > before, what="a cut")

        under_load(database, server, cut)

    on_both(scenario, pool=POOL)


@pytest.mark.parametrize("crash", [False, True], ids=["stopped", "crashed"])
def test_a_server_that_starts_again(on_both: Any, server: RestartableServer, crash: bool) -> None:
    def scenario(database: Database) -> None:
        def restart() -> None:
            server.restart(crash=crash)

        under_load(database, server, restart)

    on_both(scenario, pool=POOL)
