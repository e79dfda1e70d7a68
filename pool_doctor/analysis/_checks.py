"""Bad numbers get one clear sentence: what is wrong, with which value, and what is accepted."""

from __future__ import annotations

import math


def whole(name: str, value: object, least: int) -> int:
    """Return ``value`` if it is an integer of at least ``least``; raise ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return value


def number(name: str, value: object, unit: str, *, positive: bool = False) -> float:
    """Return ``value`` as a float if it is finite and 0 or more (``positive``: above 0), else raise ValueError."""
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not usable or value < 0 or (positive and value == 0):  # type: ignore[operator]
        least = "greater than 0" if positive else "0 or more"
        raise ValueError(f"{name} must be a number of {unit}, {least}, not {value!r}.")
    return float(value)  # type: ignore[arg-type]


def share(name: str, value: object) -> float:
    """Return ``value`` as a float if it lies between 0 and 1, both included; raise ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a share between 0 and 1, not {value!r}.")
    return float(value)
