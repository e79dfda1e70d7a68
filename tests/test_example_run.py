"""run.py from outside: its sentences, serve, manage, and what is left when it ends."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from example_project.servers import ROOT
from tests.test_example_guard import alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.heavy

RUN = [sys.executable, str(ROOT / "example_project" / "run.py")]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


class Serve:
    """A running `run.py serve`, with what it started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = until(process.stdout.readline, what="the line that says where the shop is")
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        self.url = found[0]
        self.processes = psutil.Process(process.pid).children(recursive=True)

    def get(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path) as response:
            body: bytes = response.read()
        return body.decode()

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture
def serve() -> Iterator[Callable[..., Serve]]:
    """A function that starts `run.py serve`, on a PostgreSQL of its own."""
    with contextlib.ExitStack() as stack:

        def start(*arguments: str) -> Serve:
            environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
            process = subprocess.Popen([*RUN, "serve", *arguments], env=environment, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.terminate)
            return Serve(process)

        yield start


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["dance"], "'dance'"),
        (["serve", "--workers", "0"], "'0'"),
        (["serve", "--max-size", "many"], "'many'"),
        (["serve", "--port", "65536"], "'65536'"),
        (["serve", "--engine", "warp"], "'warp'"),
        (["serve", "--server", "uvicorn", "--threads", "4"], "--threads"),
        (["serve", "extra"], "extra"),
        (["demo", "--fast"], "--fast"),
    ],
)
def test_bad_arguments_get_one_line_that_names_them(arguments: list[str], named: str) -> None:
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert named in result.stderr


def test_a_taken_port_is_one_sentence(postgres_url: str) -> None:
    port = psycopg.conninfo.conninfo_to_dict(postgres_url)["port"]
    result = run("serve", "--port", str(port))
    assert (result.returncode, result.stderr) == (
        1,
        f"run.py: Port {port} of 127.0.0.1 cannot be used: Address already in use.\n",
    )


@pytest.mark.parametrize("server", ["gunicorn", "uvicorn"])
def test_serve_ends_with_ctrl_c_and_leaves_nothing(serve: Callable[..., Serve], server: str) -> None:
    shop = serve("--server", server, "--workers", "2")
    assert "For sale" in shop.get("/")
    assert shop.end(signal.SIGINT) == 0
    assert not alive(shop.processes)


def test_kill_9_of_serve_leaves_nothing(serve: Callable[..., Serve]) -> None:
    shop = serve()
    names = " ".join(" ".join(process.cmdline()) for process in shop.processes)
    assert "gunicorn" in names
    assert "postgres" in names
    shop.end(signal.SIGKILL)
    until(lambda: not alive(shop.processes), what="the end of the web server and PostgreSQL")


def test_manage_uses_the_database_of_a_running_serve_even_beside_another(serve: Callable[..., Serve]) -> None:
    first, second = serve(), serve("--max-size", "3")
    assert first.url != second.url
    code = (
        "from django.conf import settings; from example_project.shop.models import Product;"
        "Product.objects.create(name='Left by manage', price=1, stock=1);"
        "print(settings.DATABASES['default']['OPTIONS'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    result = subprocess.run(
        [*RUN, "manage", "shell", "--no-imports", "--command", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "'max_size': 3" in result.stdout
    assert second.get("/quick/") == '{"products": 101}'
    assert first.get("/quick/") == '{"products": 100}'


def test_manage_alone_gets_a_filled_database_and_passes_the_status_on() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    code = "from example_project.shop.models import Order; print('orders', Order.objects.count()); raise SystemExit(7)"
    result = subprocess.run(
        [*RUN, "manage", "shell", "--command", code], env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 7
    assert "orders 500" in result.stdout
    assert "gone when the command has ended" in result.stderr


def test_manage_uses_database_url(shop_database_url: str) -> None:
    result = run("manage", "nosuchcommand", DATABASE_URL=shop_database_url)
    assert result.returncode == 1
    assert "Unknown command: 'nosuchcommand'" in result.stderr
    assert "new database" not in result.stderr


def test_a_database_that_is_not_there_is_one_sentence() -> None:
    result = run("serve", DATABASE_URL="postgresql://127.0.0.1:1/none")
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "DATABASE_URL" in result.stderr


def test_test_hands_its_arguments_to_pytest() -> None:
    result = run("test", "--co", "-q", "tests/test_example_run.py", "-k", "hands_its_arguments")
    assert result.returncode == 0
    assert "test_test_hands_its_arguments_to_pytest" in result.stdout
