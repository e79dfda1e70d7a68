"""The app: what it starts, what it warns of, and what it leaves alone when it is switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.test import override_settings

from example_project.databases import django_database
from pool_doctor.adapters import startup
from pool_doctor.checks import check_databases, check_directory

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["manage.py", "runserver", "8000"], "manage.py runserver"),
        (["/srv/shop/manage.py", "createsuperuser", "--password=hunter2"], "manage.py createsuperuser"),
        (["/usr/bin/django-admin", "migrate"], "manage.py migrate"),
        (["/site-packages/django/__main__.py", "migrate"], "manage.py migrate"),
        (["manage.py", "--version"], "manage.py"),
        (["manage.py"], "manage.py"),
        (["/usr/bin/gunicorn", "shop.wsgi"], "gunicorn"),
        (["/site-packages/gunicorn/__main__.py", "shop.wsgi"], "gunicorn"),
        (["/site-packages/celery/__main__.py", "-A", "shop"], "celery"),
        (["-c"], "python"),
        ([""], "python"),
        ([], "python"),
    ],
)
def test_a_process_is_called_what_people_call_it(arguments: list[str], name: str) -> None:
    assert startup.command_name(arguments) == name


def test_a_directory_that_can_be_used_needs_no_warning(tmp_path: Path) -> None:
    with override_settings(POOL_DOCTOR={"DIRECTORY": str(tmp_path / "recordings")}):
        assert check_directory() == []


def _link(path: Path) -> str:
    path.symlink_to("/tmp")
    return "is a link"


def _file(path: Path) -> str:
    path.write_text("")
    return "is not a directory"


def _open(path: Path) -> str:
    path.mkdir()
    path.chmod(0o755)
    return "has mode 0755"


@pytest.mark.parametrize("make", [_link, _file, _open])
def test_a_directory_that_is_refused_is_w001(make: Callable[[Path], str], tmp_path: Path) -> None:
    path = tmp_path / "recordings"
    reason = make(path)
    with override_settings(POOL_DOCTOR={"DIRECTORY": str(path)}):
        (warning,) = check_directory()
    assert warning.id == "pool_doctor.W001"
    assert f"{path} {reason}" in warning.msg
    assert "docs/checks.md#w001" in warning.hint
    with override_settings(POOL_DOCTOR={"DIRECTORY": str(path), "ENABLED": False}):
        assert check_directory() == []


def test_each_hint_leads_to_a_heading() -> None:
    headings = (ROOT / "docs" / "checks.md").read_text().lower()
    for number in ("w001", "w002", "w003"):
        assert any(line.startswith("#") and number in line for line in headings.splitlines()), number


def in_process(code: str, tmp_path: Path, database_url: str = "", **settings: Any) -> str:
    """Run code after django.setup() in a process of its own, and return what it printed."""
    databases = {"default": django_database(database_url)} if database_url else {}
    configured = {"INSTALLED_APPS": ["pool_doctor"], "DATABASES": databases, "SECRET_KEY": "tests", **settings}
    start = f"from django.conf import settings; settings.configure(**{configured!r})\nimport django\ndjango.setup()\n"
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", start + code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path), "DJANGO_SETTINGS_MODULE": ""},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


STATE = """
from django.core import checks
from django.core.handlers.asgi import ASGIHandler
from django.core.management.base import BaseCommand
from django.core.signals import request_started
from django.db import connections
from django.db.utils import ConnectionHandler
with connections["default"].cursor() as cursor:
    cursor.execute("SELECT 1")
print(type(connections["default"]) is connections["default"].__class__)
for method in (ConnectionHandler.create_connection, ASGIHandler.__call__, BaseCommand.execute):
    print("pool_doctor/adapters" not in method.__code__.co_filename)
print(not any("pool_doctor" in str(receiver[0]) for receiver in request_started.receivers))
"""


def test_switched_off_it_installs_nothing(tmp_path: Path, database_url: str) -> None:
    found = in_process(STATE, tmp_path, database_url, POOL_DOCTOR={"ENABLED": False}).split()
    assert found == ["True"] * 5
    assert list(tmp_path.iterdir()) == []


def test_switched_on_it_observes_and_records(tmp_path: Path, database_url: str) -> None:
    found = in_process(STATE, tmp_path, database_url).split()
    assert found == ["False"] * 5
    (file,) = tmp_path.glob(f"pool_doctor-{os.getuid()}/*/*.ring")
    assert file.stat().st_mode & 0o777 == 0o600


def test_without_a_postgresql_database_there_is_w002(tmp_path: Path, database_url: str) -> None:
    code = "from django.core import checks\nprint([message.id for message in checks.run_checks()])"
    sqlite = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    assert "pool_doctor.W002" in in_process(code, tmp_path, DATABASES=sqlite)
    assert "pool_doctor.W002" in in_process(code, tmp_path)
    assert "W002" not in in_process(code, tmp_path, database_url)


def test_with_postgresql_there_is_no_w002() -> None:
    assert check_databases() == []


def test_wrong_settings_stop_the_start_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"POOL_DOCTOR\['RING_SIZE'\] is 3; it must be a whole number"):
        in_process("", tmp_path, POOL_DOCTOR={"RING_SIZE": 3})


def test_an_engine_that_cannot_be_imported_is_djangos_to_complain_about(tmp_path: Path) -> None:
    code = """
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
try:
    connections["default"]
except ImproperlyConfigured as error:
    print(error)
"""
    printed = in_process(code, tmp_path, DATABASES={"default": {"ENGINE": "no.such.engine", "NAME": "x"}})
    assert "'no.such.engine' isn't an available database backend" in printed


def test_a_check_makes_no_directory(tmp_path: Path) -> None:
    missing = tmp_path / "not" / "there"
    with override_settings(POOL_DOCTOR={"DIRECTORY": str(missing)}):
        assert check_directory() == []
    assert not missing.parent.exists()
