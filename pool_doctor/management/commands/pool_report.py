"""manage.py pool_report: what the pools of the running processes do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand, CommandError

from pool_doctor.analysis.beside import processors
from pool_doctor.management.arguments import ReportArguments, add_report_arguments, read_report_arguments
from pool_doctor.management.files import replace_file
from pool_doctor.management.screen import watch
from pool_doctor.report.as_json import render_json
from pool_doctor.report.as_markdown import render_markdown
from pool_doctor.report.as_text import Palette, render_text
from pool_doctor.report.collect import collect_report
from pool_doctor.report.model import Report, ReportError
from pool_doctor.report.server import ServerProbe
from pool_doctor.report.words import clean

if TYPE_CHECKING:
    from django.core.management.base import CommandParser, OutputWrapper
    from django.core.management.color import Style


class Command(BaseCommand):
    """Prints the report; see docs/report.md."""

    help = "Report on the PostgreSQL connection pools of the running processes, from outside."
    # The report is asked for when something is wrong, so nothing else that is wrong may stand in its way.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        add_report_arguments(parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        arguments = read_report_arguments(options)
        painted = _may_paint(self.stdout, forced=options["force_color"])
        palette = _palette(self.style) if painted else Palette()
        try:
            if arguments.watch is None:
                self._once(arguments, palette)
            else:
                self._watch(arguments, arguments.watch, palette)
        except ReportError as error:
            raise CommandError(str(error)) from error

    def _once(self, arguments: ReportArguments, palette: Palette) -> None:
        report = collect_report(
            arguments.aliases, last=arguments.last, targets=arguments.targets, processes=min(2, processors())
        )
        for problem in report.problems:
            self.stderr.write(clean(problem))
        if arguments.output is not None:
            replace_file(arguments.output, _render(report, arguments.format, Palette()))
        else:
            self._write(_render(report, arguments.format, palette))

    def _watch(self, arguments: ReportArguments, interval: float, palette: Palette) -> None:
        if not self.stdout.isatty():
            raise CommandError("--watch needs a terminal to show the report on.")
        probe = ServerProbe()

        def frame(columns: int) -> str:
            report = collect_report(arguments.aliases, last=arguments.last, probe=probe)
            text = render_text(report, columns=columns, palette=palette)
            return "\n".join([text, *map(clean, report.problems)])

        watch(frame, interval, self._write)

    def _write(self, text: str) -> None:
        # A terminal that knows less than Unicode gets a question mark, not a traceback.
        encoding = self.stdout.encoding or "utf-8"
        self.stdout.write(text.encode(encoding, "replace").decode(encoding), ending="")
        self.stdout.flush()


def _render(report: Report, chosen: str, palette: Palette) -> str:
    match chosen:
        case "json":
            return render_json(report)
        case "markdown":
            return render_markdown(report)
        case _:
            return render_text(report, palette=palette)


def _may_paint(stdout: OutputWrapper, *, forced: bool) -> bool:
    """Say whether colours may be used: on a terminal, and nowhere if NO_COLOR is set (https://no-color.org)."""
    return not os.environ.get("NO_COLOR") and (forced or stdout.isatty())


def _palette(style: Style) -> Palette:
    return Palette(
        heading=style.MIGRATE_HEADING,
        calm=style.SUCCESS,
        busy=style.WARNING,
        stuck=style.ERROR,
    )
