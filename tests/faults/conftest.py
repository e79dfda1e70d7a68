"""A server of the tests' own behind a proxy, and both engines side by side on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.db.backends.base.base import RAN_DB_VERSION_CHECK

from example_project import postgres
from pool_doctor.adapters.lifecycle import forget_checkouts
from pool_doctor.recording.recorder import Options, recorder
from tests.faults.databases import RELEASING, STOCK, TABLE, Database, database
from tests.faults.proxy import Proxy
from tests.faults.server import RestartableServer, restartable_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ENGINES = {"stock": STOCK, "releasing": RELEASING}


@pytest.fixture(scope="session")
def shared_server() -> Iterator[RestartableServer]:
    """A server that every test of faults uses, and leaves running."""
    try:
        with restartable_server(max_connections="30") as server, server.admin() as admin:
            admin.execute(TABLE)
            yield server
    except postgres.PostgresError as error:
        pytest.skip(f"there is no PostgreSQL to restart: {error}")


@pytest.fixture
def server(shared_server: RestartableServer) -> RestartableServer:
    """The server, with nothing written yet."""
    with shared_server.admin() as admin:
        admin.execute("TRUNCATE written")
    return shared_server


@pytest.fixture
def proxy(server: RestartableServer) -> Iterator[Proxy]:
    """A proxy before the server."""
    with Proxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture(autouse=True)
def recording(tmp_path: Path) -> Iterator[None]:
    """Record into a directory of the test's own; a failure that was swallowed there fails the test."""
    before = recorder.options
    recorder.stop()
    forget_checkouts()
    recorder.start(Options(tmp_path / "recordings", 4096, 86_400.0, "pytest"))
    recorder._failed = False
    yield
    failed, recorder._failed = recorder._failed, False
    forget_checkouts()
    recorder.stop()
    if before is not None:
        recorder.start(before)
    assert not failed, "recording failed, see the log"


@pytest.fixture
def on_both(
    server: RestartableServer, proxy: Proxy, django_db_blocker: Any
) -> Iterator[Callable[[Callable[[Database], Any]], Any]]:
    """A function that runs a scenario on the stock and on the releasing engine, each with a pool of its own.

    The scenario gets a Database and returns what an application sees, which has to be the same on both: that is
    returned. After it, the releasing pool has to be whole. Keywords are added to the entry of DATABASES; `pool` to the
    pool's options (one connection, a timeout of 5 s).
    """
    url = server.url.replace(f":{server.port}/", f":{proxy.port}/")
    RAN_DB_VERSION_CHECK.update(ENGINES)

    def run(scenario: Callable[[Database], Any], **settings: Any) -> Any:
        pool = {"min_size": 1, "max_size": 1, "timeout": 5.0, **settings.pop("pool", {})}
        seen = {}
        for name, engine in ENGINES.items():
            with server.admin() as admin:
                admin.execute("TRUNCATE written")
            with database(name, url, engine, pool=pool, **settings) as used:
                seen[name] = scenario(used)
                if name == "releasing":
                    used.check_whole()
        assert seen["releasing"] == seen["stock"]
        return seen["releasing"]

    with django_db_blocker.unblock():
        yield run
