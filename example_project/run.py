#!/usr/bin/env python3
"""The example project in one command; needs Python 3.11 or newer and pip, and brings the rest.

python3 example_project/run.py                   the demonstration
python3 example_project/run.py test [ARGS...]    all tests; ARGS go to pytest
python3 example_project/run.py serve [OPTIONS]   the shop, until Ctrl-C
python3 example_project/run.py manage ARGS...    manage.py, on the database of a running serve
"""

from __future__ import annotations

import sys

# Before anything that an older interpreter cannot read.
if sys.version_info < (3, 11):  # noqa: UP036 this file is what meets the interpreters that are too old
    sys.exit("run.py: Python 3.11 or newer is needed; this is %d.%d." % sys.version_info[:2])  # noqa: UP031

import argparse
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
# This directory holds modules with names of other packages' modules; the checkout has everything under its full name.
sys.path[:] = [str(ROOT), *(path for path in sys.path if Path(path).resolve() != ROOT / "example_project")]

from example_project import bootstrap  # noqa: E402


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"run.py: {message[0].upper()}{message[1:].rstrip('.')}. `run.py --help` lists what there is.\n")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 1000")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port; ports are whole numbers from 1 to 65535")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser)
    verbs.add_parser("demo", help="traffic on both engines, and what pool_doctor says about it (default)")
    verbs.add_parser("test", help="all tests; arguments go to pytest")
    verbs.add_parser("manage", help="manage.py; arguments go to it")
    serve = verbs.add_parser("serve", help="the shop under a real web server, until Ctrl-C", allow_abbrev=False)
    serve.add_argument("--engine", choices=["native", "release"], default="native", help="default: native")
    serve.add_argument("--server", choices=["gunicorn", "uvicorn"], default="gunicorn", help="default: gunicorn")
    serve.add_argument("--workers", type=_count, default=2, help="processes (default: 2)")
    serve.add_argument("--threads", type=_count, help="threads of a gunicorn worker (default: 8)")
    serve.add_argument("--port", type=_port, help="on 127.0.0.1 (default: 8000, or any other where that is taken)")
    serve.add_argument("--max-size", type=_count, default=4, help="connections of a worker's pool (default: 4)")
    return parser


def main(arguments: list[str]) -> int:
    """Run one verb and return the exit status."""
    parser = _parser()
    verb = arguments[0] if arguments else "demo"
    if verb in {"test", "manage"}:
        options, rest = argparse.Namespace(), arguments[1:]
    else:
        options, rest = parser.parse_args(arguments or ["demo"]), []
        if verb == "serve" and options.server == "uvicorn" and options.threads is not None:
            parser.error("--threads is an option of gunicorn; uvicorn gives each request a thread of its own")
    try:
        bootstrap.enter_environment(verb, [__file__, *arguments])
    except bootstrap.BootstrapError as error:
        print(f"run.py: {error}", file=sys.stderr)
        return 1
    from example_project import verbs  # noqa: PLC0415 its imports need the environment

    return verbs.run(verb, options, rest)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
