"""Shows a text that changes on the whole terminal, like top."""

from __future__ import annotations

import contextlib
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

# The alternate screen leaves the terminal's history alone. Lines are cut by the terminal, not wrapped, so that each
# takes one row whatever its colours and wide characters.
_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
_LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME = "\x1b[H"
_END_OF_LINE = "\x1b[K\n"
_CLEAR_BELOW = "\x1b[J"


def watch(frame: Callable[[int], str], interval: float, write: Callable[[str], None]) -> None:
    """Show ``frame(columns)`` anew every ``interval`` seconds, until Ctrl-C or SIGTERM.

    ``write`` brings a text to the terminal at once. Rows that do not fit are left out, and the last row says how
    many. Frames begin an interval apart; one that takes longer is followed by the next at once.
    """
    with _alternate_screen(write), contextlib.suppress(KeyboardInterrupt):
        while True:
            started = time.monotonic()
            columns, rows = shutil.get_terminal_size()
            lines = _fitting(frame(columns), rows)
            write(_HOME + "".join(line + _END_OF_LINE for line in lines) + _CLEAR_BELOW)
            time.sleep(max(0.0, started + interval - time.monotonic()))


def _fitting(text: str, rows: int) -> list[str]:
    lines = text.splitlines()
    # The cursor stands in the row below the last line.
    room = max(2, rows - 1)
    if len(lines) <= room:
        return lines
    return [*lines[: room - 1], f"{len(lines) - room + 1} more lines do not fit this terminal (Ctrl-C to end)"]


@contextlib.contextmanager
def _alternate_screen(write: Callable[[str], None]) -> Iterator[None]:
    with _sigterm_as_interrupt():
        write(_ENTER)
        try:
            yield
        finally:
            write(_LEAVE)


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the watch as Ctrl-C does: a process that dies in the alternate screen leaves it behind."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
