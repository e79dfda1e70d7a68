"""Finds the statements whose effect outlives their transaction: after one, the session is not like any other.

The text is looked at, not the server's command tag: an advisory lock or set_config() answers with the tag of any
SELECT. The ORM's texts come with placeholders, so there are few different ones, and each is looked at once. What a
function or procedure of the database does inside can't be seen.
"""

from __future__ import annotations

import re

MAX_KNOWN = 4_096
MAX_LENGTH = 4_096
"""A longer text is looked at each time, instead of being kept."""

_COMMENTS = r"(?:\s|--[^\n]*\n|/\*.*?\*/)*+"  # possessive: a failed match tries each comment once
_BEGIN = re.compile(
    rf"""(?:\A|;){_COMMENTS}
    (?: (?P<SET>SET)\s++(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)
      | (?P<RESET>RESET)\b
      | (?P<DISCARD>DISCARD)\b
      | (?P<LISTEN>LISTEN)\b
      | (?P<PREPARE>PREPARE)\s++(?!TRANSACTION\b)
      | (?P<LOAD>LOAD)\b
      | (?P<DO>DO)\b .* \bSET\s++(?!LOCAL\b)
    )""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_ANYWHERE = re.compile(
    r"""
      (?P<advisory_lock>\bpg_(?:try_)?advisory_lock(?:_shared)?"?\s*\()
    | (?P<set_config>\bset_config"?\s*\( (?! [^()]* ,\s*true\s*\) ))
    | (?P<temporary_table>\b(?:CREATE(?:\s+OR\s+REPLACE)?|INTO)\s+(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\b
        (?! .* \bON\s+COMMIT\s+DROP\b))
    | (?P<temporary_object>\bCREATE\b[^;]*\bpg_temp\b"?\.)
    | (?P<with_hold>\bWITH\s+HOLD\b)
    | (?P<sequence>\b(?:nextval|setval)"?\s*\()
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_WORDS = ("advisory_lock", "set_config", "temp", "hold", "nextval", "setval")

harmless: set[str] = set()
"""Texts that were looked at and leave nothing behind."""


def outlives(sql: str) -> str:
    """Return what kind of statement in ``sql`` outlives its transaction; "" where none does."""
    found = _BEGIN.match(sql) if ";" not in sql else _BEGIN.search(sql)
    if found is None and any(word in sql.lower() for word in _WORDS):
        found = _ANYWHERE.search(sql)
    if found is not None:
        return str(found.lastgroup).replace("_", " ")
    if len(sql) <= MAX_LENGTH:
        if len(harmless) >= MAX_KNOWN:
            harmless.clear()
        harmless.add(sql)
    return ""
