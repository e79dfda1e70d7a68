"""A PostgreSQL server that can be stopped, crashed and started again on the same port with the same data."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from example_project import postgres
from example_project.guard import Guard
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from example_project.guard import User

DATABASE = "faults"


class RestartableServer:
    """The server of one data directory. `url` names an empty database on it."""

    def __init__(self, binaries: postgres.Binaries, data: Path, user: User | None, password: str, **settings: str):
        port = postgres.free_port()
        self._command = [str(binaries.directory / "postgres"), "-D", str(data), "-p", str(port)]
        # What was acknowledged has to survive a crash here.
        for name, value in {**postgres.SERVER_SETTINGS, "synchronous_commit": "on", **settings}.items():
            self._command += ["-c", f"{name}={value}"]
        self._user = user
        self._log = data.parent / "log"
        self._guard: Guard | None = None
        self.port = port
        self.admin_url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
        self.url = postgres.with_database(self.admin_url, DATABASE)

    def start(self) -> None:
        """Start the server, and return when it answers."""
        with self._log.open("ab") as log:
            self._guard = Guard(self._command, output=log, user=self._user, env=postgres._environment(), cwd=Path("/"))
        until(self._answers, seconds=60, what="the start of PostgreSQL")

    def stop(self) -> None:
        """End the server as an administrator does: transactions are aborted, clients told."""
        if self._guard is not None:
            self._guard.stop()
            self._guard = None

    def crash(self) -> None:
        """End the server at once; it recovers from its log when it is started again."""
        assert self._guard is not None
        assert self._guard.pid is not None
        os.kill(self._guard.pid, signal.SIGQUIT)
        self._guard.wait()
        self.stop()

    def restart(self, *, crash: bool = False, seconds_away: float = 0.0) -> None:
        """Stop or crash the server, and start it again after a while."""
        self.crash() if crash else self.stop()
        time.sleep(seconds_away)
        self.start()

    def admin(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return a connection of the test's own to the database of `url`."""
        return psycopg.connect(self.url, autocommit=True, application_name="admin")

    def _answers(self) -> bool:
        assert self._guard is not None
        assert self._guard.running(), self._log.read_text()
        try:
            psycopg.connect(self.admin_url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True


@contextmanager
def restartable_server(**settings: str) -> Iterator[RestartableServer]:
    """Yield a running server with an empty database; `settings` are added to its command line.

    Raises example_project.postgres.PostgresError where there is no PostgreSQL to run.
    """
    user = postgres._server_user()
    directory = Path(tempfile.mkdtemp(prefix="pool_doctor-faults-", dir=postgres._base_directory(user)))
    server = None
    try:
        binaries = postgres.find_binaries()
        if user is not None:
            directory.chmod(0o755)
            binaries = postgres._readable_binaries(binaries, user, directory)
        data = postgres._initialise(binaries, directory, user, "faults")
        server = RestartableServer(binaries, data, user, "faults", **settings)
        server.start()
        postgres.create_database(server.admin_url, DATABASE)
        yield server
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(directory, ignore_errors=True)
