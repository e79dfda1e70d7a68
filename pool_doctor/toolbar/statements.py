"""The text of a statement as the panel shows it: in one line, short, and without parameters."""

from __future__ import annotations

import re
from typing import Any

from psycopg.sql import SQL, Composed, Identifier

LONGEST = 160

_SPACE = re.compile(r"\s+")
# As the toolbar's SQL panel does it: the columns of a SELECT say less than what follows.
_COLUMNS = re.compile(r"\A(SELECT(?: DISTINCT)?) (?:(?!\bFROM\b).){24,}? FROM ", re.IGNORECASE)


def shown(sql: Any) -> str:
    """Return the text to show for what a cursor was given; "" for what has none."""
    text = _COLUMNS.sub(r"\1 ••• FROM ", _SPACE.sub(" ", _text(sql)).strip())
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _text(sql: Any) -> str:
    if isinstance(sql, str):
        return str(sql)
    if isinstance(sql, bytes):
        return sql.decode("utf-8", "replace")
    if isinstance(sql, Composed):
        return "".join(map(_text, sql))
    if isinstance(sql, SQL | Identifier):
        return sql.as_string(None)
    # A literal or a template's value is a parameter.
    return "" if sql is None else "%s"
