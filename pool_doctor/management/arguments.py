"""The arguments of pool_report: declared, and read with one clear sentence for each mistake."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError

from pool_doctor.management.targets import add_target_arguments, read_targets, span

if TYPE_CHECKING:
    from collections.abc import Mapping

    from django.core.management.base import CommandParser

    from pool_doctor.report.advice import Targets

FORMATS = ("table", "json", "markdown")
WATCH_INTERVAL = 2.0
_LEAST_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class ReportArguments:
    """What the caller of pool_report asked for. Durations are seconds."""

    format: str
    aliases: tuple[str, ...]
    last: float | None
    watch: float | None
    output: Path | None
    targets: Targets | None
    """What the advice has to reach; None where there shall be no advice."""


def add_report_arguments(parser: CommandParser) -> None:
    """Declare the arguments of pool_report."""
    # Values are checked in read_report_arguments: argparse would end with status 2, which has a meaning of its own.
    parser.add_argument(
        "--format",
        default="table",
        metavar="{" + ",".join(FORMATS) + "}",
        help="How to print the report (default: table).",
    )
    parser.add_argument(
        "--database",
        action="append",
        default=[],
        metavar="ALIAS",
        help="Report on this alias of settings.DATABASES only; repeatable (default: all PostgreSQL ones).",
    )
    parser.add_argument(
        "--since",
        metavar="SPAN",
        help="Count what happened in the last SPAN only, such as 90s, 10m, 2h, 1d (default: all recorded).",
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        const=str(WATCH_INTERVAL),
        metavar="SECONDS",
        help=f"Show the report on the whole terminal, anew every SECONDS (default: {WATCH_INTERVAL:g}).",
    )
    parser.add_argument("--output", metavar="FILE", help="Write the report to FILE, replacing it in one step.")
    parser.add_argument("--no-advice", action="store_true", help="Leave the advice out, which takes the longest.")
    add_target_arguments(parser)


def read_report_arguments(options: Mapping[str, Any]) -> ReportArguments:
    """Check and convert the options of pool_report; raises CommandError."""
    chosen = options["format"]
    if chosen not in FORMATS:
        raise CommandError(f"--format {chosen} is not known; use {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    watch, output = options["watch"], options["output"]
    if watch is not None and output is not None:
        raise CommandError("--watch shows the report on a terminal, so it cannot be used with --output.")
    if watch is not None and chosen != "table":
        raise CommandError(f"--watch shows the table on a terminal, so it cannot be used with --format {chosen}.")
    aliases = options["database"] or ()
    # Read in any case: a mistake is a mistake. What is shown anew every second has no time for a replay.
    targets = read_targets(options)
    return ReportArguments(
        format=chosen,
        # Without repetitions. From Python, one alias may come as it is.
        aliases=tuple(dict.fromkeys([aliases] if isinstance(aliases, str) else aliases)),
        last=None if options["since"] is None else span(str(options["since"])),
        watch=None if watch is None else _interval(watch),
        output=None if output is None else Path(output),
        targets=None if options["no_advice"] or watch is not None else targets,
    )


def _interval(value: str | float) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not _LEAST_INTERVAL <= seconds < math.inf:
        raise CommandError(f"--watch {value} is no interval; use a number of seconds from {_LEAST_INTERVAL:g} on.")
    return seconds
