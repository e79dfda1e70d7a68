"""Numbers as one would say them to a colleague."""

from __future__ import annotations


def percent(share: float) -> str:
    """Return a share as a percentage, with as many digits as mean something."""
    value = share * 100
    if value == 0:
        return "0%"
    if value < 0.01:
        return "<0.01%"
    if value < 1:
        return f"{value:.2g}%"
    # 99.97 % must not become 100 %: whoever reads that looks no further.
    if 99.5 <= value < 100:
        return f"{min(value, 99.9):.1f}%"
    return f"{value:.2g}%" if value < 10 else f"{value:.0f}%"


def duration(seconds: float) -> str:
    """Return a duration in seconds with its unit, to three digits."""
    if seconds == 0:
        return "0 ms"
    if seconds < 0.001:
        return f"{seconds * 1e6:.3g} \N{MICRO SIGN}s"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.3g} ms"
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
