"""Work in processes beside this one, where that is worth it and possible; the results are the same either way.

The processes are spawned, not forked: the caller may have threads. A spawned process imports the program's main
module again, so a program that asks for more than one process must begin its work under ``if __name__ ==
"__main__"``, as manage.py does. Where no process can be made, the caller does the work itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LARGE = 20_000
"""With fewer checkouts, a process takes longer to start than to do its part."""

UNAVAILABLE = (BrokenProcessPool, OSError)
"""What is raised where processes cannot be made, or do not stay."""

_shared: Any = None


def processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def helpers(number: int, shared: object) -> Iterator[ProcessPoolExecutor | None]:
    """Give ``number`` processes that have ``shared`` for `with_shared`; None where there shall or can be none."""
    # multiprocessing's own pools and Celery's make daemons, which may not have children.
    if number < 1 or multiprocessing.current_process().daemon:
        yield None
        return
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(number, mp_context=context, initializer=_begin, initargs=(shared,))
    try:
        yield executor
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def with_shared(function: Callable[..., Any], *arguments: object) -> Any:
    """Call ``function`` with what this process was given at its beginning, then ``arguments``."""
    return function(_shared, *arguments)


def _begin(shared: object) -> None:
    global _shared  # noqa: PLW0603 - sent once, not with each call
    _shared = shared
    # Ctrl-C reaches all processes of a terminal; what it means is decided by the one that was started there.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
