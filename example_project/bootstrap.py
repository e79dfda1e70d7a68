"""Gives the example project a Python environment, with nothing but the standard library and pip.

The environment is this checkout's own, `.venv-example-…`, named after what it is made of: the interpreter and
the requirements of pyproject.toml. Where the running interpreter has all of them, no other environment is made.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from example_project import guard

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
COMPLETE = "complete-for-"
# The first pip with --python.
OLDEST_PIP = (22, 3)
# Where and for whom pip installs is decided here, whatever its configuration says for other environments.
PIP_OVERRIDES = {"PIP_USER": "0", "PIP_REQUIRE_VIRTUALENV": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
PIP_DESTINATIONS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON")


class BootstrapError(Exception):
    """No environment can be made; the message is one sentence that says why."""


@dataclass(frozen=True)
class Requirements:
    """What a verb needs: a name for it, and PEP 508 requirements."""

    name: str
    items: tuple[str, ...]

    def key(self) -> str:
        """Return what changes whenever the requirements change."""
        return hashlib.sha256("\n".join(self.items).encode()).hexdigest()[:12]

    def met_here(self) -> bool:
        """Whether the running interpreter has all of them."""
        return all(_installed(requirement) for requirement in self.items)


def enter_environment(verb: str, arguments: Sequence[str]) -> None:
    """Return if this interpreter has what `verb` needs; else start `arguments` anew in an environment that has it.

    Raises BootstrapError when that environment cannot be made.
    """
    requirements = _requirements(verb)
    if _is_own(Path(sys.prefix), requirements) or requirements.met_here():
        return
    python = _environment(requirements)
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONHOME", "PYTHONPATH"}}
    sys.stdout.flush()
    os.execve(python, [str(python), *arguments], environment)


def _requirements(verb: str) -> Requirements:
    """Read from pyproject.toml what `test`, or any other verb, needs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    extras: dict[str, list[str]] = project["project"]["optional-dependencies"]
    items = [*project["project"]["dependencies"], *extras["example"]]
    if verb == "test":
        items += [item for extra in extras.values() for item in extra]
        items += _group(project["dependency-groups"], "test")
    return Requirements("test" if verb == "test" else "example", tuple(dict.fromkeys(items)))


def _group(groups: dict[str, list[Any]], name: str) -> Iterator[str]:
    """Yield the requirements of a dependency group, and of those that it includes (PEP 735)."""
    for item in groups[name]:
        if isinstance(item, str):
            yield item
        else:
            yield from _group(groups, item["include-group"])


def _installed(requirement: str) -> bool:
    """Whether this interpreter has a requirement, as far as `name[extra]>=version` and `==` say."""
    found = re.fullmatch(r"([\w.-]+)(?:\[([\w,. -]+)\])?(?:(>=|==)([\w.]+))?", requirement.replace(" ", ""))
    if found is None:
        return False
    name, extras, operator, wanted = found.groups()
    try:
        distribution = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    version = _numbers(distribution.version)
    if operator and not (version >= _numbers(wanted) if operator == ">=" else version == _numbers(wanted)):
        return False
    parts = [f'extra == "{extra}"' for extra in extras.split(",")] if extras else []
    optional = [line.replace("'", '"') for line in distribution.requires or () if "extra ==" in line]
    return all(_named_installed(line) for line in optional if any(part in line for part in parts))


def _named_installed(requirement: str) -> bool:
    name = re.match(r"[\w.-]+", requirement)
    return name is not None and bool(list(importlib.metadata.Distribution.discover(name=name[0])))


def _numbers(version: str) -> tuple[int, ...]:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    return (*numbers, 0, 0, 0)[:3]


def _interpreter_key() -> str:
    """Return what tells one base interpreter from another: an environment is of use only beside its own."""
    origin = f"{sys.base_prefix} {sys.implementation.cache_tag} {sys.version}"
    version = ".".join(str(number) for number in sys.version_info[:2])
    return f"{version}-{hashlib.sha256(origin.encode()).hexdigest()[:8]}"


def _directories() -> Iterator[Path]:
    """Yield where the environment may be: in the checkout, or where that is somebody else's, below the user's cache."""
    name = f".venv-example-{_interpreter_key()}"
    yield ROOT / name
    checkout = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 Path raises without a home
    yield Path(cache) / "pool_doctor" / f"{name}-{checkout}"
    yield Path(tempfile.gettempdir()) / f"pool_doctor-example-{os.getuid()}" / f"{name}-{checkout}"


def _marker(directory: Path, requirements: Requirements) -> Path:
    return directory / f"{COMPLETE}{requirements.name}-{requirements.key()}"


def _is_own(directory: Path, requirements: Requirements) -> bool:
    """Whether a directory is an environment of ours that is complete."""
    return _marker(directory, requirements).exists() and os.access(directory / "bin" / "python", os.X_OK)


def _environment(requirements: Requirements) -> Path:
    """Return the interpreter of an environment that meets the requirements, made now if there is none."""
    for directory in _directories():
        if _is_own(directory, requirements):
            return directory / "bin" / "python"
        if _writable(directory):
            with _locked(directory) as lock:
                if not _is_own(directory, requirements):
                    _make(directory, requirements, lock)
            return directory / "bin" / "python"
    raise BootstrapError(f"There is no place for a Python environment: neither {ROOT} nor a cache can be written.")


def _writable(directory: Path) -> bool:
    """Whether this user may make, or has made, the directory; nobody else's is used below a shared place."""
    with contextlib.suppress(OSError):
        if directory.parent != ROOT:
            directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = directory if directory.exists() else directory.parent
        return os.access(target, os.W_OK) and (directory.parent == ROOT or target.stat().st_uid == os.getuid())
    return False


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[int]:
    """Let one process at a time make an environment, by a lock on the directory that it is in; yield the lock."""
    descriptor = os.open(directory.parent, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _make(directory: Path, requirements: Requirements, lock: int) -> None:
    """Make an environment, or add to one that was completed for another verb."""
    usable = any(directory.glob(f"{COMPLETE}*")) and os.access(directory / "bin" / "python", os.X_OK)
    print(f"Setting up a Python environment in {directory} (once) ...", flush=True)
    if not usable:
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", str(directory)], "The environment could not be made", lock)
    python = directory / "bin" / "python"
    # Until pip has ended well, the environment is no verb's.
    for marker in directory.glob(f"{COMPLETE}*"):
        marker.unlink()
    install = _install_command(python, lock)
    _run([*install, "--quiet", *requirements.items], "The packages could not be installed", lock)
    _marker(directory, requirements).touch()
    # What the tests need contains what the other verbs need.
    if requirements.name == "test":
        _marker(directory, _requirements("demo")).touch()


def _install_command(python: Path, lock: int) -> list[str]:
    """Return the command that installs packages into the environment of `python`, which has no pip itself."""
    for host in dict.fromkeys([sys.executable, os.path.realpath(sys.executable)]):
        if _pip_version(host) >= OLDEST_PIP:
            return [host, "-m", "pip", "--python", str(python), "install"]
    if importlib.util.find_spec("ensurepip"):
        _run([str(python), "-m", "ensurepip", "--default-pip"], "pip could not be installed", lock)
        return [str(python), "-m", "pip", "install"]
    if uv := shutil.which("uv"):
        return [uv, "pip", "install", "--python", str(python)]
    raise BootstrapError(f"{sys.executable} has no pip of version 22.3 or newer; install it, or run this with uv.")


def _pip_version(python: str) -> tuple[int, ...]:
    answer = subprocess.run([python, "-m", "pip", "--version"], capture_output=True, text=True, check=False).stdout
    return _numbers(answer.removeprefix("pip ").partition(" ")[0])


def _run(command: Sequence[str], failed: str, lock: int) -> None:
    """Run a step; the lock is held until it has ended, also when this process is killed in the middle."""
    kept = {name: value for name, value in os.environ.items() if name not in PIP_DESTINATIONS}
    environment = {**kept, **PIP_OVERRIDES}
    for name in ("PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV"):
        environment.pop(name, None)
    if guard.run(command, env=environment, locks=[lock]):
        raise BootstrapError(f"{failed}: the lines above say why.")
