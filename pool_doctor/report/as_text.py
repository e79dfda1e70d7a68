"""The report for a terminal: sentences and plain tables that fit its width."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tabulate import tabulate

from pool_doctor.report.blocks import Block, Code, Facts, Points, Section, Table
from pool_doctor.report.headline import Mood
from pool_doctor.report.sections import advice_to_record, chapters, title
from pool_doctor.report.words import cut, width

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pool_doctor.report.model import Report

_UNIT = re.compile(r"(?<=\d) (?=(?:%|µs|ms|s|min|h|d)(?![a-z]))")

WIDTH = 100
"""Columns that a report takes at most."""

_LEAST_WIDTH = 80
_INDENT = "  "
_POINT = "  - "
_GAP = 2
"""Columns that tabulate's format "plain" puts between two columns."""


@dataclass(frozen=True, slots=True)
class Palette:
    """How the parts of a report look on a terminal; by default plain."""

    heading: Callable[[str], str] = str
    calm: Callable[[str], str] = str
    busy: Callable[[str], str] = str
    stuck: Callable[[str], str] = str

    def headline(self, mood: Mood) -> Callable[[str], str]:
        """Return the look of a headline."""
        return {Mood.CALM: self.calm, Mood.BUSY: self.busy, Mood.STUCK: self.stuck}[mood]


def render_text(report: Report, *, columns: int = WIDTH, palette: Palette | None = None) -> str:
    """Return the report as text of at most ``columns`` columns (never more than 100, nor less than 80)."""
    columns = max(_LEAST_WIDTH, min(columns, WIDTH))
    return "\n".join(_lines(report, columns, palette or Palette())) + "\n"


def _lines(report: Report, columns: int, palette: Palette) -> Iterator[str]:
    yield from _wrap(title(report), columns)
    if advice := advice_to_record(report):
        yield ""
        yield from (palette.busy(line) for line in _wrap(advice, columns))
    for chapter in chapters(report):
        yield ""
        paint = palette.headline(chapter.mood)
        yield from (paint(line) for line in _wrap(chapter.headline, columns))
        for section in chapter.sections:
            yield ""
            yield palette.heading(section.title)
            yield from _section(section, columns, palette)


def _section(section: Section, columns: int, palette: Palette) -> Iterator[str]:
    for number, block in enumerate(section.blocks):
        if number and isinstance(block, str):
            yield ""
        yield from _block(block, columns)
    for note in section.notes:
        yield from (palette.busy(line) for line in _wrapped(note, columns))


def _block(block: Block, columns: int) -> Iterator[str]:
    match block:
        case str():
            yield from _wrapped(block, columns)
        case Code():
            # To be copied, so never wrapped.
            yield from (f"{_INDENT * 2}{line}" for line in block.text.splitlines())
        case Points():
            yield f"{_INDENT}{block.heading}:"
            for sentence in block.sentences:
                yield from _wrapped(sentence, columns, _POINT)
        case Table() | Facts():
            lines = _table(block, columns) if isinstance(block, Table) else _facts(block, columns)
            yield from (f"{_INDENT}{line}" for line in lines)
            if block.more:
                yield from _wrapped(block.more, columns)


def _wrapped(text: str, columns: int, first: str = _INDENT) -> list[str]:
    rest = " " * len(first)
    return _wrap(text, columns, first, rest)


def _facts(facts: Facts, columns: int) -> Iterator[str]:
    names = max(len(name) for name, _ in facts.rows)
    room = columns - len(_INDENT) - names - _GAP
    for name, text in facts.rows:
        for number, line in enumerate(_wrap(text, room)):
            yield f"{'' if number else name:<{names}}{' ' * _GAP}{line}"


def _table(table: Table, columns: int) -> list[str]:
    """Lay a table out with tabulate, its widest cells cut where it would not fit otherwise."""
    widths = _widths(table, columns - len(_INDENT))
    rows = [
        [
            cut(cell, room, keep_end=column.keep_end)
            for cell, room, column in zip(row, widths, table.columns, strict=True)
        ]
        for row in table.rows
    ]
    titles = [column.title for column in table.columns]
    rules = ["-" * room for room in widths]
    # As rows of their own, for tabulate makes each column two wider than its header.
    text = tabulate(
        [titles, rules, *rows],
        tablefmt="plain",
        colalign=["right" if column.right else "left" for column in table.columns],
        disable_numparse=True,
    )
    return [line.rstrip() for line in text.splitlines()]


def _widths(table: Table, columns: int) -> list[int]:
    """Return how wide each column may be: the widest one that can be cut gives way first."""
    widths = [
        max(width(column.title), *(width(row[number]) for row in table.rows))
        for number, column in enumerate(table.columns)
    ]
    excess = sum(widths) + _GAP * (len(widths) - 1) - columns
    while excess > 0:
        room, number = max(
            (widths[number] - column.least, number) for number, column in enumerate(table.columns) if column.least
        )
        if room <= 0:
            break
        widths[number] -= 1
        excess -= 1
    return widths


def _wrap(text: str, columns: int, first: str = "", rest: str = "") -> list[str]:
    # A number and its unit stay together.
    lines = textwrap.wrap(
        _UNIT.sub("\N{NO-BREAK SPACE}", text),
        columns,
        initial_indent=first,
        subsequent_indent=rest,
        break_on_hyphens=False,
    )
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
