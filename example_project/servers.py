"""Starts the shop under gunicorn or uvicorn, and stops it for certain."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from example_project.guard import Guard
from example_project.postgres import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
START_DEADLINE = 60.0


class ServerError(Exception):
    """The web server did not start; the message says why."""


@dataclass(frozen=True)
class ServerOptions:
    """How to serve the shop. `threads` is gunicorn's; `max_size` is the pool's, per worker, and 0 means no pool."""

    engine: str = "native"
    server: str = "gunicorn"
    workers: int = 2
    threads: int = 8
    port: int | None = None
    max_size: int = 4

    def environment(self, database_url: str, directory: Path) -> dict[str, str]:
        """Return what the shop's settings read, with the module path that finds them from anywhere."""
        return {
            "DATABASE_URL": database_url,
            "SHOP_ENGINE": self.engine,
            "SHOP_MAX_SIZE": str(self.max_size),
            "SHOP_DIRECTORY": str(directory),
            "DJANGO_SETTINGS_MODULE": "example_project.shop.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    def command(self, port: int) -> list[str]:
        """Return the command line of the web server."""
        if self.server == "uvicorn":
            options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(self.workers)]
            options += ["--log-level", "warning", "--lifespan", "off"]
            return [sys.executable, "-m", "uvicorn", *options, "example_project.shop.asgi:application"]
        options = [
            "--bind",
            f"127.0.0.1:{port}",
            "--workers",
            str(self.workers),
            "--threads",
            str(self.threads),
        ]
        options += ["--worker-class", "gthread", "--log-level", "warning", "--no-control-socket"]
        return [sys.executable, "-m", "gunicorn", *options, "example_project.shop.wsgi"]


@dataclass(frozen=True)
class RunningServer:
    """A web server that answers: where, its main process, and the directory of pool_doctor's recordings."""

    url: str
    pid: int
    directory: Path
    guard: Guard

    def stop(self) -> None:
        """Stop all its processes and wait for their end; the recordings stay where they are."""
        self.guard.stop()


@contextlib.contextmanager
def running_server(
    options: ServerOptions,
    database_url: str,
    directory: Path,
    *,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | None = None,
    remove: Sequence[Path] = (),
) -> Iterator[RunningServer]:
    """Serve the shop while the block runs.

    `env` is added to the environment; what the server writes goes to `output`, or is shown if it does not start.
    The directories of `remove` are deleted when it has ended.
    Raises ServerError when it ends, or does not answer within a minute.
    """
    port = options.port or free_port()
    environment = {**os.environ, **options.environment(database_url, directory), **(env or {})}
    with contextlib.ExitStack() as stack:
        log = output if output is not None else stack.enter_context(tempfile.TemporaryFile())
        guard = Guard(options.command(port), output=log, env=environment, cwd=ROOT, remove=remove)
        stack.callback(guard.stop)
        if guard.pid is None or not _answers(port, guard):
            guard.stop()
            raise ServerError(f"{options.server} did not start: {_written(log, output)}")
        yield RunningServer(f"http://127.0.0.1:{port}", guard.pid, directory, guard)


def _answers(port: int, guard: Guard) -> bool:
    """Wait until the server answers; return False when it ended instead, or took too long."""
    deadline = time.monotonic() + START_DEADLINE
    while guard.running() and time.monotonic() < deadline:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/nodb/")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return True
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.05)
    return False


def _written(log: IO[bytes], output: IO[bytes] | None) -> str:
    if output is not None:
        return "its output says why."
    log.seek(0)
    return log.read().decode(errors="replace").strip() or "it wrote nothing."
