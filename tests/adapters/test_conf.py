"""settings.POOL_DOCTOR: what is accepted, and the sentence for what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from pool_doctor.adapters import conf

if TYPE_CHECKING:
    from collections.abc import Mapping


def checked(value: Any) -> conf.Settings:
    """Return what is read from a value of the setting."""
    with override_settings(POOL_DOCTOR=value):
        return conf.get_settings()


def test_nothing_has_to_be_set() -> None:
    with override_settings(POOL_DOCTOR={}):
        found = conf.get_settings()
    assert found.enabled
    assert found.directory.is_absolute()
    assert found.ring_size == 65_536
    assert found.retention == 86_400.0


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("ENABLED", False, False),
        ("ENABLED", True, True),
        ("DIRECTORY", "/var/lib/shop", Path("/var/lib/shop")),
        ("DIRECTORY", Path("/var/lib/shop"), Path("/var/lib/shop")),
        ("RING_SIZE", 1024, 1024),
        ("RING_SIZE", 4_194_304, 4_194_304),
        ("RETENTION", 0, 0.0),
        ("RETENTION", 12.5, 12.5),
        ("HEALTH_CHECK_BYPASS", 0, 0.0),
        ("HEALTH_CHECK_BYPASS", 0.25, 0.25),
        ("PER_CONNECTION_RECEIVERS", [], ()),
        ("PER_CONNECTION_RECEIVERS", ["os.path.join"], ("os.path.join",)),
        ("TARGET_WAIT", 0, 0.0),
        ("TARGET_WAIT", 0.02, 0.02),
        ("TARGET_SHARE", 0.999, 0.999),
        ("THREADS", 1, 1),
        ("WORKERS", 12, 12),
        ("HOSTS", 3, 3),
        ("DEPLOY_SURGE", 0, 0.0),
        ("DEPLOY_SURGE", 1, 1.0),
        ("REQUEST_DEADLINE", 30, 30.0),
    ],
)
def test_good_values(key: str, value: Any, expected: Any) -> None:
    found = getattr(checked({key: value}), key.lower())
    assert found == expected
    assert type(found) is type(expected) or isinstance(found, Path)


@pytest.mark.parametrize(
    ("key", "value", "accepted"),
    [
        ("ENABLED", 1, "True or False"),
        ("ENABLED", "False", "True or False"),
        ("ENABLED", None, "True or False"),
        ("DIRECTORY", "recordings", "the absolute path of a directory"),
        ("DIRECTORY", "~/recordings", "the absolute path of a directory"),
        ("DIRECTORY", "", "the absolute path of a directory"),
        ("DIRECTORY", "/tmp/with\0nul", "the absolute path of a directory"),
        ("DIRECTORY", b"/tmp", "the absolute path of a directory"),
        ("DIRECTORY", None, "the absolute path of a directory"),
        ("RING_SIZE", 1023, "a whole number of events from 1024 to 4194304"),
        ("RING_SIZE", 4_194_305, "a whole number of events from 1024 to 4194304"),
        ("RING_SIZE", 2048.0, "a whole number of events from 1024 to 4194304"),
        ("RING_SIZE", True, "a whole number of events from 1024 to 4194304"),
        ("RING_SIZE", "65536", "a whole number of events from 1024 to 4194304"),
        ("RETENTION", -1, "a number of seconds, 0 or more"),
        ("RETENTION", float("nan"), "a number of seconds, 0 or more"),
        ("RETENTION", float("inf"), "a number of seconds, 0 or more"),
        ("RETENTION", True, "a number of seconds, 0 or more"),
        ("RETENTION", "1 day", "a number of seconds, 0 or more"),
        ("HEALTH_CHECK_BYPASS", -0.1, "a number of seconds, 0 or more"),
        ("HEALTH_CHECK_BYPASS", None, "a number of seconds, 0 or more"),
        ("PER_CONNECTION_RECEIVERS", "os.path.join", "a list of dotted paths of functions that can be imported"),
        ("PER_CONNECTION_RECEIVERS", ["no.such.module"], "a list of dotted paths of functions that can be imported"),
        ("PER_CONNECTION_RECEIVERS", ["os.nothing"], "a list of dotted paths of functions that can be imported"),
        ("PER_CONNECTION_RECEIVERS", [print], "a list of dotted paths of functions that can be imported"),
        ("TARGET_WAIT", -0.001, "a number of seconds, 0 or more"),
        ("TARGET_WAIT", "5ms", "a number of seconds, 0 or more"),
        ("TARGET_SHARE", 1, "a number between 0 and 1, neither of them included"),
        ("TARGET_SHARE", 0.0, "a number between 0 and 1, neither of them included"),
        ("TARGET_SHARE", 99.0, "a number between 0 and 1, neither of them included"),
        ("TARGET_SHARE", float("nan"), "a number between 0 and 1, neither of them included"),
        ("THREADS", 0, "a whole number, 1 or more"),
        ("WORKERS", 2.0, "a whole number, 1 or more"),
        ("WORKERS", True, "a whole number, 1 or more"),
        ("HOSTS", None, "a whole number, 1 or more"),
        ("DEPLOY_SURGE", -0.5, "a number, 0 or more"),
        ("DEPLOY_SURGE", float("inf"), "a number, 0 or more"),
        ("REQUEST_DEADLINE", 0, "a number of seconds greater than 0"),
        ("REQUEST_DEADLINE", "30", "a number of seconds greater than 0"),
    ],
)
def test_a_bad_value_is_named_with_what_is_accepted(key: str, value: Any, accepted: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        checked({key: value})
    assert str(caught.value) == f"POOL_DOCTOR[{key!r}] is {value!r}; it must be {accepted}."


def test_every_key_has_good_and_bad_values_here() -> None:
    """A new key needs its cases above."""
    for test in (test_good_values, test_a_bad_value_is_named_with_what_is_accepted):
        (cases,) = [mark.args[1] for mark in test.pytestmark if mark.name == "parametrize"]  # type: ignore[attr-defined]
        assert {case[0] for case in cases} >= set(conf._CHECKS)


@pytest.mark.parametrize("key", ["RINGSIZE", "enabled", 3, None, ("DIRECTORY",)])
def test_an_unknown_key_is_named_with_those_there_are(key: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        checked({key: 1})
    known = ", ".join(sorted(conf._CHECKS))
    assert str(caught.value) == f"POOL_DOCTOR[{key!r}] is not a setting of pool_doctor; there are {known}."


@pytest.mark.parametrize("value", [None, [], "ENABLED", True, {"ENABLED"}])
def test_what_is_no_dict(value: Any) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        checked(value)
    assert str(caught.value) == f"POOL_DOCTOR is {value!r}; it must be a dict."


def test_changed_settings_are_read_anew() -> None:
    assert checked({"RETENTION": 1}).retention == 1
    assert checked({"RETENTION": 2}).retention == 2


def _project(directory: Path) -> Mapping[str, str]:
    """Make a project with a package of settings modules, and one in a single module; return the environment."""
    package = directory / "config" / "settings"
    package.mkdir(parents=True)
    text = "SECRET_KEY = 'x'\nINSTALLED_APPS = ['pool_doctor']\n"
    for module in ("__init__", "web", "worker"):
        (package / f"{module}.py").write_text(text)
    (directory / "config" / "__init__.py").write_text("")
    (directory / "single.py").write_text(text)
    root = Path(conf.__file__).parents[2]
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    return {**environment, "PYTHONPATH": f"{directory}{os.pathsep}{root}"}


def _directory(environment: Mapping[str, str], settings: str, cwd: Path, *arguments: str) -> str:
    code = (
        "import django; django.setup(); from pool_doctor.adapters.conf import get_settings; "
        "print(get_settings().directory)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**environment, "DJANGO_SETTINGS_MODULE": settings},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.strip()


def test_all_processes_of_a_project_share_a_directory(tmp_path: Path) -> None:
    environment = _project(tmp_path)
    found = {
        _directory(environment, f"config.settings.{module}", cwd)
        for module, cwd in (("web", tmp_path), ("worker", Path("/")))
    }
    (directory,) = found
    assert Path(directory).name.startswith("config-")
    assert Path(directory).parent.name == f"pool_doctor-{os.getuid()}"
    assert _directory(environment, "single", tmp_path) != directory


def test_settings_configured_by_hand_have_a_directory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setattr(conf, "settings", SimpleNamespace())
    assert conf.project() == str(Path(sys.argv[0]).resolve())
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # as in a script
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "__main__")
    assert conf.project() == str(Path(sys.argv[0]).resolve())
