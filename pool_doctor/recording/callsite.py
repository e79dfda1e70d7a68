"""The first line of the application in a call stack: what a person would look for, not where the driver is called."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import FrameType


class Names(Protocol):
    """Keeps each name under a number, from 1 on."""

    def number(self, name: str) -> int:
        """Return the number of a name, which is a new one where the name is."""


_PACKAGES = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib")})
_STANDARD = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})
_OURS = str(Path(__file__).resolve().parents[1]) + os.sep
_MARKERS = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_PLUMBING = tuple(
    str(Path("/", part, "_"))[:-1]
    for part in (
        "django/db",
        "django/utils",
        "django/core/handlers",
        "psycopg",
        "psycopg_pool",
        "sqlalchemy",
        "asgiref",
        "debug_toolbar",
    )
)

APPLICATION, LIBRARY, PLUMBING = range(3)

# Files that were ranked already.
_application: set[str] = set()
_library: set[str] = set()
_plumbing: set[str] = set()
_files = {APPLICATION: _application, LIBRARY: _library, PLUMBING: _plumbing}


def rank(filename: str) -> int:
    """Say whether a file is the application's own, a library's, or the plumbing between those and the database."""
    if filename.startswith(("<", _OURS)):
        return PLUMBING
    if filename.startswith(_PACKAGES) or any(marker in filename for marker in _MARKERS):
        return PLUMBING if any(part in filename for part in _PLUMBING) else LIBRARY
    return PLUMBING if filename.startswith(_STANDARD) else APPLICATION


class CallSites:
    """Numbers the application's lines that calls come from."""

    def __init__(self, names: Names) -> None:
        self.sites = names
        # Working out a line number is slow; a place in the code is found at once.
        self._known: dict[tuple[str, int, int], int] = {}

    def site_of_call(self, depth: int) -> int:
        """Return the number in ``sites`` of the innermost application frame, ``depth`` frames up or higher.

        Its name is "file:line function". Where no frame is the application's, the innermost library frame is named; 0
        where there is none either.
        """
        frame: FrameType | None = sys._getframe(depth)  # noqa: SLF001 - inspect.stack reads files, at 1000 times the cost
        while frame is not None and frame.f_code.co_filename in _plumbing:
            frame = frame.f_back
        if frame is None or frame.f_code.co_filename not in _application:
            frame = _search(frame)
            if frame is None:
                return 0
        code = frame.f_code
        filename = code.co_filename
        place = (filename, code.co_firstlineno, frame.f_lasti)
        try:
            return self._known[place]
        except KeyError:
            number = self.sites.number(f"{_short(filename)}:{frame.f_lineno} {code.co_name}")
            self._known[place] = number
            return number


def _search(frame: FrameType | None) -> FrameType | None:
    """Return the innermost application frame from this one on, else the innermost library frame."""
    library = None
    while frame is not None:
        filename = frame.f_code.co_filename
        if filename in _application:
            return frame
        if filename in _library:
            library = library or frame
        elif filename not in _plumbing:
            _files[rank(filename)].add(filename)
            continue
        frame = frame.f_back
    return library


def _short(filename: str) -> str:
    """Return the path as an import would find it: below the nearest entry of sys.path."""
    # Whatever is no text, imports pass over too.
    entries = [entry.rstrip(os.sep) + os.sep for entry in sys.path if entry and isinstance(entry, str)]
    homes = [entry for entry in entries if filename.startswith(entry)]
    if homes:
        return filename[len(max(homes, key=len)) :]
    return str(Path(*Path(filename).parts[-3:]))
