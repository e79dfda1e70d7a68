"""gunicorn's gevent workers: greenlets wait for each other's connections as threads do."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from example_project.postgres import free_port
from example_project.servers import ServerOptions
from pool_doctor.recording.reader import read_directory
from tests.waiting import until

pytest.importorskip("gevent")

ROOT = Path(__file__).parents[2]
PAGES = ("quick/", "api-call/?ms=20", "atomic/?ms=10", "stream/", "on-commit/?ms=10", "leak/")


def answers(url: str) -> bool:
    """Say whether a page comes."""
    try:
        with urlopen(url, timeout=30) as response:
            return bool(response.status == 200 and response.read())
    except URLError:
        return False


def test_greenlets(shop_database_url: str, tmp_path: Path) -> None:
    """Sixteen clients at once on two connections: all are answered, and nothing stays out."""
    directory = tmp_path / "recordings"
    directory.mkdir(mode=0o700)
    options = ServerOptions(engine="release", max_size=2)
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--worker-class", "gevent"]
    command += ["--no-control-socket", "example_project.shop.wsgi"]
    environment = {**os.environ, **options.environment(shop_database_url, directory)}
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: answers(f"http://127.0.0.1:{port}/nodb/"), what="an answer")
        urls = [f"http://127.0.0.1:{port}/{page}" for page in PAGES * 16]
        with ThreadPoolExecutor(16) as clients:
            assert all(clients.map(answers, urls))
        (worker,) = (process for process in read_directory(directory).processes if process.kind == "wsgi")
        found = worker.aliases["default"]
        assert (found.in_use, found.timeouts, found.errors, found.open) == (0, 0, 0, [])
        assert found.peak_in_use == 2
    finally:
        server.terminate()
        server.wait(30)
