"""The directory of ring files: private, checked before use, and cleared of what is past its time."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import stat
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from collections.abc import Iterator

SUFFIX = ".ring"
DRAFT_SUFFIX = ".new"
"""What a ring file is called until it is whole."""
MAX_ENDED_FILES = 64
"""Files of ended processes that are kept at the most, newest first: an autoreloader ends a process at each save."""

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class DirectoryRefusedError(OSError):
    """The directory can't be trusted or used; the message says why, in one sentence."""


def default_directory(project: str) -> Path:
    """Return the directory for a project below the system's temporary directory: one per user and project.

    ``project`` is any text that tells projects of one user apart, and is the same in all its processes.
    """
    digest = hashlib.sha256(project.encode()).hexdigest()[:12]
    name = re.sub(r"[^A-Za-z0-9_-]", "_", Path(project).name)[:40] or "project"
    return Path(tempfile.gettempdir()) / f"pool_doctor-{os.getuid()}" / f"{name}-{digest}"


def prepare(directory: Path) -> None:
    """Make the directory (mode 0700) where it is missing, and check it and each directory made for it.

    Raises DirectoryRefusedError where it is a link, belongs to another user, is open to others, or can't be made.
    """
    missing = [directory]
    while not os.path.lexists(missing[-1].parent):
        missing.append(missing[-1].parent)
    if _is_our_parent(directory.parent):
        missing.append(directory.parent)
    for path in reversed(missing):
        try:
            path.mkdir(mode=0o700)
        except FileExistsError:
            pass
        except OSError as error:
            raise DirectoryRefusedError(f"{path} can't be made: {error.strerror}.") from error
        check(path)


def look_ahead(directory: Path) -> None:
    """Raise what prepare() would raise, without making anything: the workers may run as another user."""
    nearest = directory
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    if nearest == directory or _is_our_parent(nearest):
        check(nearest)
    elif not os.access(nearest, os.W_OK | os.X_OK):
        raise DirectoryRefusedError(f"{directory} can't be made: {nearest} is not writable.")


def _is_our_parent(path: Path) -> bool:
    return path.name == f"pool_doctor-{os.getuid()}"


def check(directory: Path) -> None:
    """Raise DirectoryRefusedError unless the directory is real, this user's own, and closed to all others."""
    try:
        found = directory.lstat()
    except OSError as error:
        raise DirectoryRefusedError(f"{directory} can't be used: {error.strerror}.") from error
    if stat.S_ISLNK(found.st_mode):
        raise DirectoryRefusedError(f"{directory} is a link; a directory of this user's own is needed.")
    if not stat.S_ISDIR(found.st_mode):
        raise DirectoryRefusedError(f"{directory} is not a directory.")
    if found.st_uid != os.geteuid():
        raise DirectoryRefusedError(f"{directory} belongs to user id {found.st_uid}, not to this process's user.")
    if found.st_mode & _OTHERS:
        mode = stat.S_IMODE(found.st_mode)
        raise DirectoryRefusedError(f"{directory} has mode {mode:04o}, open to other users; 0700 is needed.")


def refusal(directory: Path) -> str | None:
    """Say why a reader must not trust the directory; None where it may, or where there is none yet.

    The superuser may read what belongs to another user: the workers often run as one.
    """
    try:
        check(directory)
    except DirectoryRefusedError as error:
        if not os.path.lexists(directory):
            return None
        if os.geteuid() == 0 and not directory.is_symlink() and directory.is_dir():
            return None
        return str(error)
    return None


def files(directory: Path) -> list[Path]:
    """Return the ring files in the directory, by name; empty where there is no directory."""
    return _with_suffix(directory, SUFFIX)


def _with_suffix(directory: Path, suffix: str) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == suffix)
    except OSError:
        return []


@contextmanager
def opened_for_reading(path: Path) -> Iterator[int]:
    """Open a file without following a link; yield its descriptor."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_owned(descriptor: int) -> bool:
    """Say whether the process that writes the file still lives: it holds the file's lock as long as it does."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return False


def clear(directory: Path, older_than: float) -> None:
    """Remove files of ended processes last changed before ``older_than`` (s since the epoch), or past the cap.

    Raises nothing.
    """
    ended = sorted((entry for entry in map(_ended_at, files(directory)) if entry), reverse=True)
    for position, (changed, path) in enumerate(ended):
        if changed < older_than or position >= MAX_ENDED_FILES:
            _remove(path)
    # A process that was killed while it made its file leaves the draft of it; one that is being made is seconds old.
    for draft in _with_suffix(directory, DRAFT_SUFFIX):
        ended_draft = _ended_at(draft)
        if ended_draft and ended_draft[0] < min(older_than, time.time() - 60):
            _remove(draft)


def _remove(path: Path) -> None:
    with suppress(OSError):  # a directory, or another process was faster
        path.unlink()


def _ended_at(path: Path) -> tuple[float, Path] | None:
    """Return when a file was last written to; None where a process owns it, or where it has gone."""
    # Writing to mapped memory may not show in the file's date; a damaged header may say anything.
    try:
        with opened_for_reading(path) as descriptor:
            if is_owned(descriptor):
                return None
            changed = os.fstat(descriptor).st_mtime
            header = os.pread(descriptor, layout.HEADER_BYTES, 0)
            return max(changed, min(layout.last_minute(header), time.time())), path
    except (OSError, ValueError):
        with suppress(OSError):
            return path.lstat().st_mtime, path
    return None
