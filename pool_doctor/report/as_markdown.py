"""The report as Markdown (GitHub's flavour), for an issue or a chat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tabulate import tabulate

from pool_doctor.report.blocks import Block, Code, Facts, Points, Section, Table
from pool_doctor.report.sections import advice_to_record, chapters, title

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.report.model import Report

# An underscore inside a word means nothing in this flavour, and max_size reads better than max\_size.
_SPECIAL = re.compile(r"[\\`*\[\]<>|~]|(?<!\w)_|_(?!\w)")


def render_markdown(report: Report) -> str:
    """Return the report as Markdown that ends with a newline."""
    return "\n\n".join(_blocks(report)) + "\n"


def _blocks(report: Report) -> Iterator[str]:
    yield f"# {_escaped(title(report))}"
    if advice := advice_to_record(report):
        yield _escaped(advice)
    for alias, chapter in zip(report.databases, chapters(report), strict=True):
        yield f"## {_escaped(alias)}"
        yield f"**{_escaped(chapter.headline)}**"
        for section in chapter.sections:
            yield f"### {_escaped(section.title)}"
            yield from _section(section)


def _section(section: Section) -> Iterator[str]:
    for block in section.blocks:
        yield from _block(block)
    for note in section.notes:
        yield f"> {_escaped(note)}"


def _block(block: Block) -> Iterator[str]:
    match block:
        case str():
            yield _escaped(block)
        case Code():
            yield f"```python\n{block.text}\n```"
        case Points():
            yield f"{block.heading}:"
            yield "\n".join(f"- {_escaped(sentence)}" for sentence in block.sentences)
        case Table() | Facts():
            yield _table(block) if isinstance(block, Table) else _facts(block)
            if block.more:
                yield _escaped(block.more)


def _facts(facts: Facts) -> str:
    return "\n".join(f"- {name}: {_escaped(text)}" for name, text in facts.rows)


def _table(table: Table) -> str:
    return tabulate(
        [[_escaped(cell) for cell in row] for row in table.rows],
        headers=[column.title for column in table.columns],
        tablefmt="pipe",
        colalign=["right" if column.right else "left" for column in table.columns],
        disable_numparse=True,
    )


def _escaped(text: str) -> str:
    return _SPECIAL.sub(r"\\\g<0>", text)
