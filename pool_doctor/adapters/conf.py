"""The one module that reads settings.POOL_DOCTOR: checks it, fills in defaults, and says what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.utils.module_loading import import_string

from pool_doctor.recording.directory import default_directory

if TYPE_CHECKING:
    from collections.abc import Callable

SETTING = "POOL_DOCTOR"

MIN_RING_SIZE = 1_024
MAX_RING_SIZE = 4_194_304


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of settings.POOL_DOCTOR in lower case. Durations are seconds."""

    enabled: bool = True
    """Whether anything is observed and recorded."""
    directory: Path = Path()
    """Where the processes of this project keep their ring files."""
    ring_size: int = 65_536
    """Events that each process keeps; an event takes 80 bytes."""
    retention: float = 86_400.0
    """Seconds that the file of an ended process is kept."""
    health_check_bypass: float = 0.5
    """With CONN_HEALTH_CHECKS, a releasing engine checks a connection that has been idle for longer than this."""
    per_connection_receivers: tuple[str, ...] = ()
    """Dotted paths of connection_created receivers that a releasing engine calls once for each physical connection."""
    target_wait: float = 0.005
    """What the advice is for: no more than a few checkouts shall wait longer than this."""
    target_share: float = 0.99
    """This share of all checkouts shall wait no longer than that."""
    threads: int | None = None
    """How many requests a process serves at once at most; None: what its web server says."""
    workers: int | None = None
    """How many processes use the database on each host; None: as many as are seen."""
    hosts: int = 1
    """On how many machines they run."""
    deploy_surge: float = 0.25
    """How many more processes there are while a new version replaces the old one, for each one of the usual."""
    request_deadline: float | None = None
    """After how long nobody waits for the answer to a request any more; None: not known."""


def get_settings() -> Settings:
    """Return the checked settings.

    Raises ImproperlyConfigured, naming key, value and what is accepted, at the first thing that is wrong.
    """
    return _checked(settings)


@lru_cache(maxsize=1)
def _checked(source: Any) -> Settings:
    given = getattr(source, SETTING, {})
    if not isinstance(given, Mapping):
        raise ImproperlyConfigured(f"{SETTING} is {given!r}; it must be a dict.")
    values: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _CHECKS:
            accepted = ", ".join(sorted(_CHECKS))
            raise ImproperlyConfigured(f"{SETTING}[{key!r}] is not a setting of pool_doctor; there are {accepted}.")
        accepts, convert, wanted = _CHECKS[key]
        if not accepts(value):
            raise ImproperlyConfigured(f"{SETTING}[{key!r}] is {value!r}; it must be {wanted}.")
        values[key.lower()] = convert(value)
    if "directory" not in values:
        values["directory"] = default_directory(project())
    return Settings(**values)


def _is_duration(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def _is_positive(value: Any) -> bool:
    return _is_duration(value) and value > 0


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_importable(path: Any) -> bool:
    try:
        return callable(import_string(path))
    except (ImportError, AttributeError):
        return False


_CHECKS: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any], str]] = {
    "ENABLED": (lambda value: isinstance(value, bool), bool, "True or False"),
    "DIRECTORY": (
        lambda value: isinstance(value, str | Path) and Path(value).is_absolute() and "\0" not in str(value),
        Path,
        "the absolute path of a directory",
    ),
    "RING_SIZE": (
        lambda value: isinstance(value, int) and MIN_RING_SIZE <= value <= MAX_RING_SIZE,
        int,
        f"a whole number of events from {MIN_RING_SIZE} to {MAX_RING_SIZE}",
    ),
    "RETENTION": (_is_duration, float, "a number of seconds, 0 or more"),
    "HEALTH_CHECK_BYPASS": (_is_duration, float, "a number of seconds, 0 or more"),
    "PER_CONNECTION_RECEIVERS": (
        lambda value: isinstance(value, list | tuple) and all(_is_importable(path) for path in value),
        tuple,
        "a list of dotted paths of functions that can be imported",
    ),
    "TARGET_WAIT": (_is_duration, float, "a number of seconds, 0 or more"),
    "TARGET_SHARE": (
        lambda value: isinstance(value, float) and 0 < value < 1,
        float,
        "a number between 0 and 1, neither of them included",
    ),
    "THREADS": (_is_count, int, "a whole number, 1 or more"),
    "WORKERS": (_is_count, int, "a whole number, 1 or more"),
    "HOSTS": (_is_count, int, "a whole number, 1 or more"),
    "DEPLOY_SURGE": (_is_duration, float, "a number, 0 or more"),
    "REQUEST_DEADLINE": (_is_positive, float, "a number of seconds greater than 0"),
}


def project() -> str:
    """Return what all processes of this project have in common: the home of its settings package.

    Not the settings module's own name, because manage.py and the workers may use different modules of one package.
    """
    module = os.environ.get("DJANGO_SETTINGS_MODULE") or getattr(settings, "SETTINGS_MODULE", None) or ""
    package = module.partition(".")[0]
    try:
        spec = find_spec(package) if package else None
    except ValueError:  # a module that was not imported from a file, such as a script's __main__
        spec = None
    if spec is not None and spec.submodule_search_locations:
        return str(Path(next(iter(spec.submodule_search_locations))).resolve())
    if spec is not None and spec.origin:
        return str(Path(spec.origin).resolve().with_suffix(""))
    return str(Path(sys.argv[0] or ".").resolve())


def _forget(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        _checked.cache_clear()


setting_changed.connect(_forget, dispatch_uid="pool_doctor.conf")
