"""Forks: a child sends nothing on its parent's sockets, has a pool of its own, and waits for nobody's lock."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import psutil
import pytest

from tests.engine.forking import PROGRAMS
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fork(name: str, database_url: str, tmp_path: Path) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url, "DJANGO_SETTINGS_MODULE": "tests.engine.settings"}
    command = [sys.executable, "-W", "ignore", "-m", "tests.engine.forking", name]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "well\n"), done.stderr
    assert "Traceback" not in done.stderr


CONFIGURATION = '''
def pre_fork(server, worker):
    """Query in the process that all workers are forked from."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        with open({path!r}, "a") as file:
            file.write(f"{{cursor.fetchone()[0]}}\\n")
'''


def fetch(url: str) -> str:
    """Return the body of a page."""
    with urlopen(url, timeout=20) as response:
        return str(response.read().decode())


@pytest.mark.parametrize("preload", [True, False])
def test_gunicorn(preload: bool, live_server_process: Callable[..., Any], tmp_path: Path) -> None:
    """With --preload, workers are forked from a process that has used the database, and goes on using it."""
    said = tmp_path / "backends"
    arguments = ""
    if preload:
        configuration = tmp_path / "gunicorn.conf.py"
        configuration.write_text(CONFIGURATION.format(path=str(said)))
        arguments = f"--preload --config {configuration}"
    # One connection each: of several, the first process would use the one that came back last.
    options = {"engine": "release", "workers": 2, "threads": 2, "max_size": 1}
    server = live_server_process(**options, env={"GUNICORN_CMD_ARGS": arguments})
    for _ in range(10):
        assert '"products"' in fetch(f"{server.url}/quick/")
        assert '"order"' in fetch(f"{server.url}/atomic/?ms=0")
    if not preload:
        return
    until(lambda: len(said.read_text().split()) == 2, what="two workers")
    os.kill(next(iter(children(server.pid))), 9)
    until(lambda: len(said.read_text().split()) == 3, what="a third worker")
    assert len(set(said.read_text().split())) == 1, "the first process still has its connection"
    for _ in range(10):
        assert '"products"' in fetch(f"{server.url}/quick/")


def children(pid: int) -> Iterator[int]:
    """Yield the processes that a process has started."""
    for child in psutil.Process(pid).children(recursive=True):
        if not child.children():
            yield child.pid
