"""Tells `run.py manage` about a running `run.py serve` of the same checkout and user."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parent.parent


@contextlib.contextmanager
def published(environment: Mapping[str, str]) -> Iterator[None]:
    """Let others find the environment variables of a server while the block runs.

    The file stays locked for as long as this process lives, so a file that is not locked is a dead server's.
    """
    directory = _directory()
    if directory is None:
        yield
        return
    final = directory / f"{os.getpid()}.json"
    draft = final.with_suffix(".draft")
    with draft.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        json.dump(dict(environment), file)
        file.flush()
        draft.rename(final)
        try:
            yield
        finally:
            final.unlink(missing_ok=True)


def running() -> dict[str, str] | None:
    """Return the environment variables of the server that was started last and still runs, if there is one."""
    directory = _directory()
    found: list[tuple[float, dict[str, str]]] = []
    for path in directory.glob("*.json") if directory is not None else ():
        with contextlib.suppress(OSError, ValueError), path.open() as file:
            if _is_locked(file.fileno()):
                found.append((path.stat().st_mtime, json.load(file)))
            else:
                path.unlink()
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _is_locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _directory() -> Path | None:
    """Return a directory that only this user can have filled, or None where somebody else has taken its name."""
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:12]
    directory = Path(tempfile.gettempdir()) / f"pool_doctor-serve-{os.getuid()}-{checkout}"
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, exist_ok=True)
        found = directory.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
            return directory
    return None
