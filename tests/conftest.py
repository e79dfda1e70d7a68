"""A PostgreSQL server for the tests that ask for one, and the example project under real web servers."""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections

from example_project import postgres
from example_project.databases import django_database, prepare_database
from example_project.servers import RunningServer, ServerOptions, running_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


# A shell starts its background jobs deaf to Ctrl-C, and so would be every program that a test interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The address of the server: DATABASE_URL, else one of our own, which subprocesses then find there too."""
    with postgres.provide() as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATABASE_URL", url)
        yield url


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None, postgres_url: str) -> None:
    """Point the aliases of tests/settings.py at the server before pytest-django makes their databases."""
    for alias in ("default", "other"):
        settings = connections.settings[alias]
        found = django_database(postgres_url)
        settings.update({name: found[name] for name in ("HOST", "PORT", "USER", "PASSWORD")})


@pytest.fixture(scope="session")
def database_url(postgres_url: str) -> Iterator[str]:
    """A URL of an empty database of this session's own."""
    with _database(postgres_url, "scratch") as url:
        yield url


@pytest.fixture(scope="session")
def shop_database_url(postgres_url: str) -> Iterator[str]:
    """A URL of a database with the shop's tables and content."""
    with _database(postgres_url, "shop") as url:
        prepare_database(url)
        yield url


@pytest.fixture
def live_server_process(shop_database_url: str, tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """A function that serves the shop until the end of the test.

    It takes the fields of ServerOptions, and `env`, a dict to add to the environment. It returns when the server
    answers. Each server records into a directory of its own.
    """
    with contextlib.ExitStack() as stack:

        def start(*, env: dict[str, str] | None = None, **options: Any) -> RunningServer:
            directory = tmp_path / f"recordings-{len(list(tmp_path.glob('recordings-*'))) + 1}"
            directory.mkdir(mode=0o700)
            context = running_server(ServerOptions(**options), shop_database_url, directory, env=env)
            return stack.enter_context(context)

        yield start


@contextlib.contextmanager
def _database(server_url: str, purpose: str) -> Iterator[str]:
    # The process's number, so that two runs on one server do not take each other's database.
    name = f"test_{purpose}_{os.getpid()}"
    yield postgres.create_database(server_url, name)
    postgres.drop_database(server_url, name)
