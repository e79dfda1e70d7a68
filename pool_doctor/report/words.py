"""Numbers, durations and names in the words of a report for people."""

from __future__ import annotations

import math
import unicodedata
from datetime import datetime

NOTHING = "-"
"""Stands for a fact that there is none of."""

_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def duration(seconds: float | None) -> str:
    """Return a duration with three significant digits below a minute, with its two largest units above.

    >>> duration(0.0521), duration(724)
    ('52.1 ms', '12 min 4 s')
    """
    if seconds is None:
        return NOTHING
    if math.isinf(seconds):
        return "unlimited"
    if seconds >= 59.95:
        return _long_duration(round(seconds))
    # Rounded first: 999.9 microseconds are a millisecond.
    seconds = float(f"{seconds:.3g}")
    if seconds == 0:
        return "0 s"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return "<1 µs"


def age(seconds: float) -> str:
    """Return how long something has lasted, in whole seconds at the finest."""
    return _long_duration(round(seconds)) or "0 s"


def _long_duration(seconds: int) -> str:
    parts: list[tuple[int, str]] = []
    for size, unit in _SPANS:
        number, seconds = divmod(seconds, size)
        if number or parts:
            parts.append((number, unit))
    return " ".join(f"{number} {unit}" for number, unit in parts[:2] if number)


def count(number: float) -> str:
    """Return a whole number with its thousands set apart."""
    return f"{number:,.0f}"


def rate(number: float) -> str:
    """Return a number with three significant digits, and never in scientific notation."""
    if number >= 100 or number == 0:
        return count(number)
    return f"{number:.3g}" if number >= 0.001 else "<0.001"


def share(part: float, whole: float) -> str:
    """Return a share in whole per cent; 0 % and 100 % only where it is exactly that."""
    if not whole:
        return NOTHING
    percent = 100 * part / whole
    if 0 < percent < 1:
        return "<1 %"
    if 99 < percent < 100:
        return ">99 %"
    return f"{percent:.0f} %"


def plural(number: int, noun: str, several: str = "") -> str:
    """Return a number with its noun: ``1 request``, ``5 requests``."""
    return f"{count(number)} {noun if number == 1 else several or noun + 's'}"


def moment(timestamp: float, now: float) -> str:
    """Return a local time of day, with the date where that is another day than ``now``."""
    when, today = datetime.fromtimestamp(timestamp), datetime.fromtimestamp(now)
    return f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M:%S}"


def clean(text: str) -> str:
    """Return a name that came from outside without the characters that could steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)


def width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int, *, keep_end: bool = False) -> str:
    """Shorten a text to so many columns, with an ellipsis where something is missing."""
    if width(text) <= columns:
        return text
    characters = reversed(text) if keep_end else iter(text)
    kept: list[str] = []
    room = columns - 1
    for character in characters:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "…" + "".join(reversed(kept)) if keep_end else "".join(kept) + "…"
