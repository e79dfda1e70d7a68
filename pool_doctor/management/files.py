"""Writes a command's output to a file, whole or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from django.core.management.base import CommandError


def replace_file(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step: a reader sees the old content or the new one, never a part.

    A link is followed. Raises CommandError where that cannot be done.
    """
    try:
        target = path.resolve()
        mode = _mode(target)
        _replace(target, text, mode)
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror or error}.") from error


def _mode(target: Path) -> int:
    """Return the mode that the file has, or that a new one gets."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask
    if not stat.S_ISREG(mode):
        # Replacing would turn a device or a pipe into a file.
        raise CommandError(f"Cannot write {target}: it is not a regular file.")
    return stat.S_IMODE(mode)


def _replace(target: Path, text: str, mode: int) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
