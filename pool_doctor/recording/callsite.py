"""The first line of the application in a call stack: what a person would look for, not where the driver is called."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path

_PACKAGES = tuple({sysconfig.get_path(name) for name in ("purelib", "platlib")})
_STANDARD = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib")})
_OURS = str(Path(__file__).resolve().parents[1])
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
_ranks: dict[str, int] = {}
_names: dict[tuple[str, int], str] = {}


def rank(filename: str) -> int:
    """Say whether a file is the application's own, a library's, or the plumbing between those and the database."""
    if filename.startswith(("<", _OURS)):
        return PLUMBING
    if filename.startswith(_PACKAGES) or any(marker in filename for marker in _MARKERS):
        return PLUMBING if any(part in filename for part in _PLUMBING) else LIBRARY
    return PLUMBING if filename.startswith(_STANDARD) else APPLICATION


def call_site(depth: int) -> str:
    """Return "file:line function" of the innermost application frame, ``depth`` frames up or higher.

    Where no frame is the application's, the innermost library frame is named; "" where there is none either.
    """
    frame = sys._getframe(depth)  # noqa: SLF001 - inspect.stack reads source files, at a thousand times the cost
    library = None
    ranks = _ranks
    while frame is not None:
        filename = frame.f_code.co_filename
        try:
            found = ranks[filename]
        except KeyError:
            found = ranks[filename] = rank(filename)
        if found == APPLICATION:
            return _name(filename, frame.f_lineno, frame.f_code.co_name)
        if found == LIBRARY and library is None:
            library = frame
        frame = frame.f_back
    if library is None:
        return ""
    return _name(library.f_code.co_filename, library.f_lineno, library.f_code.co_name)


def _name(filename: str, line: int, function: str) -> str:
    key = (filename, line)
    name = _names.get(key)
    if name is None:
        name = f"{_short(filename)}:{line} {function}"
        _names[key] = name
    return name


def _short(filename: str) -> str:
    """Return the path as an import would find it: below the nearest entry of sys.path."""
    homes = [entry for entry in sys.path if entry and filename.startswith(entry.rstrip(os.sep) + os.sep)]
    if homes:
        return filename[len(max(homes, key=len).rstrip(os.sep)) + 1 :]
    return str(Path(*Path(filename).parts[-3:]))
