"""Waiting for a condition, for tests of processes and threads."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")


def until(condition: Callable[[], Found], *, seconds: float = 20.0, what: str = "the condition") -> Found:
    """Call `condition` until it returns something true, and return that; fail when it takes longer than `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        if found := condition():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {seconds} s")
        time.sleep(0.02)
