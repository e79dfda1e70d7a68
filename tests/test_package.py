"""What is built for the package index: everything that is needed, and nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pool_doctor

if TYPE_CHECKING:
    from email.message import Message

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pool_doctor"

pytestmark = pytest.mark.skipif(not PACKAGE.is_dir(), reason="this is no checkout: the package is installed")


def _build(source: Path, destination: Path, *targets: str) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(destination)]
    done = subprocess.run([*command, *targets], cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _wheel_in(directory: Path) -> zipfile.ZipFile:
    (path,) = directory.glob("*.whl")
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the wheel and the source distribution of this checkout."""
    directory = tmp_path_factory.mktemp("dist")
    _build(ROOT, directory)
    return directory


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    return _wheel_in(built)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """The wheel's METADATA."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    return message_from_bytes(wheel.read(name))


def _package_files() -> set[str]:
    files = (path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(ROOT).as_posix() for path in files if path.suffix != ".pyc"}


def test_the_wheel_has_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if not name.endswith("/")}
    assert {name for name in names if ".dist-info/" not in name} == _package_files()
    assert "pool_doctor/py.typed" in names


def test_the_wheel_carries_its_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert metadata["License-Expression"] == "MIT"
    assert metadata["License-File"] == "LICENSE"
    (name,) = (name for name in wheel.namelist() if name.endswith("/licenses/LICENSE"))
    assert wheel.read(name).decode() == (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_the_metadata_says_what_is_needed(metadata: Message) -> None:
    assert metadata["Name"] == "django-pool-doctor"
    assert metadata["Version"] == pool_doctor.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    core = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert [re.split(r"[<>=!~ ]", line)[0] for line in core] == ["django", "psycopg[pool]", "tabulate"]


def test_the_source_distribution_builds_the_same_wheel(built: Path, wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        # Python 3.11 before 3.11.4 has no filters.
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    unpacked = tmp_path / source.name.removesuffix(".tar.gz")
    _build(unpacked, tmp_path / "again", "--target", "wheel")
    again = _wheel_in(tmp_path / "again")
    assert {name: again.read(name) for name in again.namelist()} == {
        name: wheel.read(name) for name in wheel.namelist()
    }
    for path in ("tests/test_package.py", "docs", "example_project/run.py", "CHANGELOG.md", "pyproject.toml"):
        assert (unpacked / path).exists(), path
