"""What the web server in front knows of a request: how long it has waited, and how many more can run beside it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from pool_doctor.recording.layout import UNKNOWN_QUEUED

if TYPE_CHECKING:
    from collections.abc import Mapping

HEADERS = ("HTTP_X_REQUEST_START", "HTTP_X_QUEUE_START")
"""The headers in which a proxy says when it got the request, as WSGI names them."""

HEADERS_IN_BYTES = tuple(name.removeprefix("HTTP_").replace("_", "-").lower().encode() for name in HEADERS)
"""The same as ASGI names them."""

_UNITS = (1e9, 1e6, 1e3, 1.0)
_YEAR_2000 = 946_684_800.0
_LONGEST_QUEUE = 600.0
"""What is further away is a clock that is wrong, or a forged header; in seconds."""


def queued(header: str, now: float) -> int:
    """Return the milliseconds from the moment in ``header`` until ``now`` (seconds since the epoch).

    The header has seconds, milliseconds, microseconds or nanoseconds since the epoch, with or without ``t=`` before it,
    as nginx, Heroku and the APM agents write it. Return UNKNOWN_QUEUED where it has none of that.
    """
    try:
        number = float(header.split(",", 1)[0].strip().removeprefix("t="))
    except ValueError:
        return UNKNOWN_QUEUED
    for unit in _UNITS:
        if number / unit > _YEAR_2000:
            waited = now - number / unit
            if abs(waited) > _LONGEST_QUEUE:
                break
            # Clocks of two machines differ by some milliseconds: what comes from the future has just come.
            return min(max(0, round(waited * 1000)), UNKNOWN_QUEUED - 1)
    return UNKNOWN_QUEUED


def threads(environ: Mapping[str, Any]) -> int:
    """Return how many requests the WSGI server that called this serves at once in this process; 0 if it does not say.

    PEP 3333 has a flag for one at a time. gunicorn's number of threads is in the worker, which stands in the stack.
    """
    if not environ.get("wsgi.multithread", True):
        return 1
    gthread = sys.modules.get("gunicorn.workers.gthread")
    if gthread is None:
        return 0
    frame = sys._getframe()  # noqa: SLF001 - as in recording.callsite
    while frame.f_back is not None:
        frame = frame.f_back
        worker = frame.f_locals.get("self")
        if isinstance(worker, gthread.ThreadWorker):
            return int(worker.cfg.threads)
    return 0
