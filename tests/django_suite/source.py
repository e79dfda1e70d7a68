"""Provides the `tests` directory of the installed Django's source distribution."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.django_suite.errors import SuiteError


def default_cache() -> Path:
    """Return the directory for downloads that the user's environment names."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pool_doctor" / "django-suite"


def suite_directory(version: str, cache: Path) -> Path:
    """Return Django's `tests` directory for a version, from the cache or else from the package index.

    Raises SuiteError where pip cannot get it or where the distribution has no tests.
    """
    kept = cache / f"django-{version}"
    if not kept.is_dir():
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as scratch:
                archive = _download(version, Path(scratch))
                _publish(_unpack(archive, Path(scratch)), kept)
        except OSError as error:
            raise SuiteError(f"Django's tests cannot be kept in {cache}: {error.strerror or error}.") from None
    return kept


def _download(version: str, directory: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary=django"]
    done = subprocess.run(
        [*command, f"--dest={directory}", f"django=={version}"], capture_output=True, text=True, check=False
    )
    archives = list(directory.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        reason = (done.stderr.strip().splitlines() or ["it left no message"])[-1]
        raise SuiteError(f"pip cannot download the source distribution of Django {version}: {reason}")
    return archives[0]


def _unpack(archive: Path, directory: Path) -> Path:
    with tarfile.open(archive) as tar:
        wanted = [member for member in tar if member.name.split("/")[1:2] == ["tests"]]
        # Python 3.11 before 3.11.4 has no filters.
        safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        tar.extractall(directory, members=wanted, **safely)
    found = list(directory.glob("*/tests/runtests.py"))
    if len(found) != 1:
        raise SuiteError(f"{archive.name} holds no tests/runtests.py.")
    return found[0].parent


def _publish(tests: Path, kept: Path) -> None:
    """Move a complete tree into place; another process may have done the same in the meantime."""
    try:
        tests.rename(kept)
    except OSError:
        if not kept.is_dir():
            raise
        shutil.rmtree(tests)
