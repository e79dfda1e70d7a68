"""What run.py's verbs do, in an environment that has all that they need."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from example_project import demo, manage, postgres, state
from example_project.databases import DatabaseError, prepare_database
from example_project.servers import ROOT, ServerError, ServerOptions, running_server

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

USUAL_PORT = 8000


class UsageError(Exception):
    """The verb cannot do what was asked for; the message is one sentence that says why."""


def run(verb: str, options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a verb and return the exit status; what cannot be done is said in one sentence."""
    # An ordinary end of the program, so that servers are stopped and directories removed in their order.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit)
    try:
        if verb == "test":
            test(rest)
        if verb == "manage":
            return run_manage(rest)
        if verb == "serve":
            return serve(options)
        return demo.run()
    except (UsageError, DatabaseError, postgres.PostgresError, ServerError) as error:
        message = str(error)
    except subprocess.CalledProcessError as error:
        message = f"manage.py {error.cmd[2]} failed: the lines above say why."
    print(f"run.py: {message}", file=sys.stderr)
    return 1


def test(arguments: Sequence[str]) -> NoReturn:
    """Become pytest; tests/conftest.py provides the database."""
    os.chdir(ROOT)
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "pytest", *arguments])


def run_manage(arguments: Sequence[str]) -> int:
    """Run manage.py on the database of a running serve, of DATABASE_URL, or of a server for this one command."""
    served = state.running()
    url = os.environ.get("DATABASE_URL")
    if served is not None and url in {None, "", served["DATABASE_URL"]}:
        os.environ.update(served)
        manage.main(arguments)
    elif url:
        manage.main(arguments)
    else:
        print("No serve is running: this is a new database, gone when the command has ended.", file=sys.stderr)
        with postgres.provide() as own:
            os.environ["DATABASE_URL"] = own
            prepare_database(own)
            manage.main(arguments)
    return 0


def serve(options: argparse.Namespace) -> int:
    """Serve the shop until Ctrl-C."""
    chosen = ServerOptions(
        engine=options.engine,
        server=options.server,
        workers=options.workers,
        threads=options.threads or 8,
        port=_free_port(options.port),
        max_size=options.max_size,
    )
    if chosen.engine == "release" and not demo.has_releasing_engine():
        raise UsageError("There is no pool_doctor.backends.postgresql in this checkout; use --engine native.")
    with postgres.provide() as url:
        directory = Path(tempfile.mkdtemp(prefix="pool_doctor-recordings-"))
        environment = {**chosen.environment(url, directory), "SHOP_DEBUG": "1"}
        prepare_database(url)
        with (
            running_server(
                chosen, url, directory, env={"SHOP_DEBUG": "1"}, output=sys.stderr.buffer, remove=[directory]
            ) as server,
            state.published(environment),
        ):
            print(f"The shop is at {server.url}/ ({_description(chosen)}). Ctrl-C stops it.", flush=True)
            try:
                status = server.guard.wait()
            except KeyboardInterrupt:
                print()
                return 0
    raise UsageError(f"{chosen.server} ended by itself with status {status}.")


def _free_port(wanted: int | None) -> int | None:
    """Return the port to serve on, or None for any, where nobody asked for the usual one and it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted or USUAL_PORT))
        except OSError as error:
            if wanted is None:
                return None
            raise UsageError(f"Port {wanted} of 127.0.0.1 cannot be used: {error.strerror}.") from None
    return wanted or USUAL_PORT


def _description(options: ServerOptions) -> str:
    threads = f" x {options.threads} threads" if options.server == "gunicorn" else ""
    workers = f"{options.workers} worker{'s' if options.workers > 1 else ''}"
    return f"{options.server}, {workers}{threads}, {options.engine} engine, pool of {options.max_size} a worker"


def _exit(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
