"""A chart and a progress bar for a terminal, drawn by rich, which not everybody has installed."""

from __future__ import annotations

import io
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.bar import Bar
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from pool_doctor.analysis.wording import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pool_doctor.report.simulation import Simulated

WIDTH = 72
_BAR = 50
_PATIENCE = 1.0
"""Seconds before a progress bar appears."""


def chart(simulated: Simulated) -> str:
    """Return bars of the share of checkouts that wait, one for each size."""
    grid = Table.grid(padding=(0, 1))
    for justify in ("right", "left", "right", "left"):
        grid.add_column(justify=justify)
    for row in simulated.rows:
        share = row.p_wait.value
        mark = "knee" if row.max_size == simulated.knee else ""
        grid.add_row(str(row.max_size), Bar(1.0, 0.0, share, width=_BAR), Text(percent(share)), Text(mark))
    output = io.StringIO()
    console = Console(file=output, width=WIDTH, color_system=None, force_terminal=False)
    console.print("Share of checkouts that wait, by size", highlight=False)
    console.print(grid)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines()) + "\n"


@contextmanager
def progress(total: int, what: str) -> Iterator[Callable[[], None]]:
    """Give a function to call after each of ``total`` steps; a bar appears on a terminal when they take long."""
    bar = Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
    task = bar.add_task(what, total=total)
    timer = threading.Timer(_PATIENCE, bar.start)
    timer.start()
    try:
        yield lambda: bar.advance(task)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()
