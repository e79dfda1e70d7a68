"""What reports for people are made of: headings, sentences, tables, facts, points, and code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pool_doctor.report.headline import Mood


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. With ``least`` it may be cut to that width, at its start if ``keep_end``."""

    title: str
    right: bool = False
    least: int = 0
    keep_end: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of clean text, and what was left out of them."""

    columns: tuple[Column, ...]
    rows: Sequence[tuple[str, ...]]
    more: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with a text each, and what was left out of them."""

    rows: Sequence[tuple[str, str]]
    more: str = ""


@dataclass(frozen=True, slots=True)
class Points:
    """Sentences of their own, under a few words that say what they are."""

    heading: str
    sentences: Sequence[str]


@dataclass(frozen=True, slots=True)
class Code:
    """Lines of Python to copy as they are."""

    text: str


Block = str | Table | Facts | Points | Code


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with sentences, tables and facts, and notes that deserve attention."""

    title: str
    blocks: list[Block] = field(default_factory=list)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chapter:
    """All about one database."""

    headline: str
    mood: Mood
    sections: list[Section]
