"""manage.py pool_simulate: what the recorded traffic would meet in pools of other sizes."""

from __future__ import annotations

import re
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from pool_doctor.adapters.conf import get_settings
from pool_doctor.analysis.beside import processors
from pool_doctor.analysis.simulate import WhatIf, outcomes
from pool_doctor.analysis.trace import POLICIES
from pool_doctor.management.targets import count, number, span
from pool_doctor.report.model import ReportError
from pool_doctor.report.simulation import (
    Simulated,
    recorded_traffic,
    simulation_as_csv,
    simulation_as_json,
    simulation_as_text,
)
from pool_doctor.report.words import clean

try:
    from pool_doctor.management import chart as drawing
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "rich":
        raise
    drawing = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from django.core.management.base import CommandParser

    from pool_doctor.report.traces import Traffic

FORMATS = {"table": simulation_as_text, "json": simulation_as_json, "csv": simulation_as_csv}
LARGEST = 1000
_SIZES = re.compile(r"(\d{1,4})(?:\.\.(\d{1,4}))?", re.ASCII)
_WITHOUT_RICH = 'For a chart and a progress bar: pip install "django-pool-doctor[terminal]".\n'


class Command(BaseCommand):
    """Prints a table of sizes; see docs/advice.md."""

    help = "Replay the recorded traffic through pools of other sizes, under another policy, load, or number of threads."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        # Values are checked in handle(): argparse would end with status 2, which has a meaning of its own.
        for name, metavar, text in (
            ("max-size", "SIZES", "Which sizes of each worker's pool to try, such as 8 or 1..16 (default: 1..16)."),
            ("policy", "{request,query}", "When connections go back (default: as recorded)."),
            ("load", "TIMES", "How many times as fast requests come (default: 1)."),
            ("threads", "N", "How many requests a worker serves at once (default: THREADS, or what its server says)."),
            ("workers", "N", "Deal the requests out to so many workers (default: each stays where it was)."),
            ("timeout", "SECONDS", "After how long a checkout gives up (default: the recorded pool's)."),
            ("target-wait", "SECONDS", "Longer waits count as too long (default: setting TARGET_WAIT)."),
            ("database", "ALIAS", "Of settings.DATABASES (default: the PostgreSQL one)."),
            ("since", "SPAN", "Replay what happened in the last SPAN, such as 90s, 10m, 2h (default: all recorded)."),
        ):
            parser.add_argument(f"--{name}", metavar=metavar, help=text)
        parser.add_argument(
            "--format", default="table", metavar="{" + ",".join(FORMATS) + "}", help="How to print it (default: table)."
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        chosen = options["format"]
        if chosen not in FORMATS:
            raise CommandError(f"--format {chosen} is not known; use table, json or csv.")
        sizes = _sizes(options["max_size"] or "1..16")
        last = None if options["since"] is None else span(str(options["since"]))
        what_if = _what_if(options)
        try:
            traffic = recorded_traffic(options["database"], last=last, threads=what_if.threads)
        except ReportError as error:
            raise CommandError(str(error)) from error
        what_if = _as_recorded(what_if, traffic, options)
        simulated = self._simulate(traffic, what_if, sizes)
        for note in traffic.notes:
            self.stderr.write(clean(note))
        self._write(FORMATS[chosen](simulated))
        if chosen == "table" and simulated.rows:
            self._write("\n" + (drawing.chart(simulated) if drawing else _WITHOUT_RICH))
        if simulated.left:
            self.stderr.write(f"Stopped: {_named(simulated.left)} not simulated.")

    def _simulate(self, traffic: Traffic, what_if: WhatIf, sizes: range) -> Simulated:
        rows = []
        bar: AbstractContextManager[Callable[[], None]] = nullcontext(lambda: None)
        if drawing:
            bar = drawing.progress(len(sizes), "Replaying")
        try:
            with bar as advance:
                for row in outcomes(traffic.trace, sizes, what_if, processes=min(2, processors())):
                    rows.append(row)
                    advance()
        except KeyboardInterrupt:
            # Who stops it wants what is done, not a traceback.
            pass
        return Simulated(traffic, what_if, sizes, rows)

    def _write(self, text: str) -> None:
        # A terminal that knows less than Unicode gets a question mark, not a traceback.
        encoding = self.stdout.encoding or "utf-8"
        self.stdout.write(text.encode(encoding, "replace").decode(encoding), ending="")
        self.stdout.flush()


def _sizes(text: str) -> range:
    match = _SIZES.fullmatch(str(text))
    first = int(match[1]) if match else 0
    last = int(match[2] or match[1]) if match else 0
    if not 1 <= first <= last <= LARGEST:
        raise CommandError(f"--max-size {text} cannot be; use a size or a range from 1 to {LARGEST}, such as 1..16.")
    return range(first, last + 1)


def _named(sizes: Sequence[int]) -> str:
    return f"size {sizes[0]} was" if len(sizes) == 1 else f"sizes {sizes[0]} to {sizes[-1]} were"


def _what_if(options: Mapping[str, Any]) -> WhatIf:
    """Read what to change; raises CommandError."""
    policy = options["policy"] or POLICIES[0]
    if policy not in POLICIES:
        raise CommandError(f"--policy {policy} is not known; use {' or '.join(POLICIES)}.")
    target_wait = number(options, "target-wait", "a number of seconds, 0 or more", least=0.0)
    return WhatIf(
        policy=policy,
        load=number(options, "load", "a number greater than 0, such as 2.0", over=0.0) or 1.0,
        threads=count(options, "threads"),
        workers=count(options, "workers"),
        timeout=number(options, "timeout", "a number of seconds greater than 0", over=0.0),
        target_wait=get_settings().target_wait if target_wait is None else target_wait,
    )


def _as_recorded(what_if: WhatIf, traffic: Traffic, options: Mapping[str, Any]) -> WhatIf:
    """Put what was recorded where nothing else was asked for."""
    policy = traffic.trace.policy
    if options["policy"] is None and (policy == "request" or policy == "query"):  # noqa: PLR1714 - narrows the type
        what_if = replace(what_if, policy=policy)
    return replace(what_if, timeout=what_if.timeout or traffic.trace.timeout)
