"""The command line."""

from __future__ import annotations

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import NoReturn

from tests.django_suite.source import default_cache
from tests.django_suite.variants import DEFAULT_VARIANTS, VARIANTS

# What touches connections, transactions, cursors, threads and PostgreSQL's own features.
DEFAULT_LABELS = (
    "aggregation",
    "async",
    "auth_tests",
    "backends",
    "basic",
    "bulk_create",
    "contenttypes_tests",
    "db_functions",
    "delete",
    "get_or_create",
    "handlers",
    "m2m_through",
    "postgres_tests",
    "queries",
    "select_for_update",
    "serializers",
    "servers",
    "sessions_tests",
    "test_utils",
    "transaction_hooks",
    "transactions",
)


class Options(argparse.Namespace):
    """The checked command line."""

    labels: list[str]
    whole: bool
    variants: list[str]
    parallel: int
    database_url: str | None
    cache: Path
    output: Path | None
    stall_timeout: float


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message[:1].upper()}{message[1:]}{'' if message.endswith('.') else '.'}\n")


def parse_options(arguments: list[str]) -> Options:
    """Return the options; a bad one ends the process with status 2 and one sentence."""
    parser = _make_parser()
    options = parser.parse_args(arguments, namespace=Options())
    if options.whole and options.labels:
        parser.error("--whole runs all tests and takes no labels.")
    if options.parallel > 1 and multiprocessing.get_start_method() != "fork":
        parser.error("--parallel needs processes that fork, and this Python starts them otherwise; use 1.")
    options.labels = options.labels or ([] if options.whole else list(DEFAULT_LABELS))
    return options


def _make_parser() -> _Parser:
    rows = "\n".join(
        f"  {name:<16}{variant.meaning}" + (f" (against {variant.baseline})" if variant.baseline else "")
        for name, variant in VARIANTS.items()
    )
    parser = _Parser(
        prog="python -m tests.django_suite",
        description=__import__("tests.django_suite", fromlist=["__doc__"]).__doc__,
        epilog=f"variants:\n{rows}\n\nExit status: 0 no difference, 1 a difference, 2 nothing could be compared.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("labels", nargs="*", help="packages, modules, classes or tests of Django's suite")
    add("--whole", action="store_true", help="run all of the suite rather than the part about connections")
    add(
        "--variants",
        type=_variants,
        default=list(DEFAULT_VARIANTS),
        metavar="NAMES",
        help=f"comma-separated, or all (default: {','.join(DEFAULT_VARIANTS)}); baselines are added",
    )
    add(
        "--parallel",
        type=_count,
        default=1,
        metavar="N",
        help="processes of one run (default: %(default)s)",
    )
    add("--database-url", metavar="URL", help="a PostgreSQL server (default: DATABASE_URL, else one of its own)")
    add("--cache", type=Path, default=default_cache(), metavar="DIR", help="where Django's tests are kept")
    add("--output", type=Path, metavar="DIR", help="where logs and outcomes are kept")
    add(
        "--stall-timeout",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="end a run in which no test begins or ends for so long (default: %(default)g)",
    )
    return parser


def _variants(text: str) -> list[str]:
    names = list(VARIANTS) if text == "all" else text.split(",")
    for name in names:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(f"{name!r} is no variant; there are {', '.join(VARIANTS)}, and all.")
    return names


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a whole number from 1 (this machine has {os.cpu_count()} processors)."
        )
    return count


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0.")
    return seconds
