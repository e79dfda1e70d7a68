"""A project that Django's own command has just made, with one line more in INSTALLED_APPS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import pool_doctor

if TYPE_CHECKING:
    from collections.abc import Callable

ADDED = """
from psycopg.conninfo import conninfo_to_dict

INSTALLED_APPS.append("pool_doctor")
_parts = conninfo_to_dict({url!r})
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.postgresql",
        **{{name: str(_parts.get(part, "")) for name, part in {parts!r}.items()}},
        "OPTIONS": {{"pool": {{"min_size": 1, "max_size": 2}}}},
    }}
}}
"""
PARTS = {"NAME": "dbname", "USER": "user", "PASSWORD": "password", "HOST": "host", "PORT": "port"}


@pytest.fixture
def manage(tmp_path: Path, database_url: str) -> Callable[..., str]:
    """A function that runs manage.py of a new project and returns what it printed."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    # Nothing is set for pool_doctor, so its directory is below the system's temporary one.
    environment |= {"TMPDIR": str(temporary), "PYTHONPATH": str(Path(pool_doctor.__file__).parent.parent)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("-m", "django", "startproject", "bakery", ".")
    with (tmp_path / "bakery" / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write(ADDED.format(url=database_url, parts=PARTS))
    return lambda *arguments: run("manage.py", *arguments)


def test_one_line_in_installed_apps_is_enough(manage: Callable[..., str]) -> None:
    manage("check", "--fail-level", "WARNING")
    assert "nothing recorded" in manage("pool_report").splitlines()[0]
    manage("migrate", "--verbosity", "0")

    report = json.loads(manage("pool_report", "--format", "json"))
    database = report["databases"]["default"]
    assert database["policy"] == "request"
    assert database["demand"]["checkouts"] >= 1
    assert [scope["name"] for scope in database["scopes"]] == ["command migrate"]
    assert database["server"]["max_connections"] > 0
