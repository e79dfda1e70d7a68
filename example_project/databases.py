"""The shop's database: Django's form of its URL, and its content."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from psycopg.conninfo import conninfo_to_dict

from example_project import guard

ROOT = Path(__file__).resolve().parent.parent
_NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


class DatabaseError(Exception):
    """The shop's database cannot be prepared; the message is one sentence."""


def django_database(url: str, *, engine: str = "django.db.backends.postgresql", **options: Any) -> dict[str, Any]:
    """Return an entry of DATABASES for a URL; what has no place of its own in Django goes into OPTIONS.

    Raises psycopg.ProgrammingError where libpq does not accept the URL.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    settings = {django_name: parts.pop(name, "") for name, django_name in _NAMES.items()}
    return {"ENGINE": engine, **settings, "OPTIONS": {**parts, **options}}


def prepare_database(url: str) -> None:
    """Make the shop's tables and content where they are missing.

    Raises DatabaseError when that fails; the command has said why on the standard error output.
    """
    environment = {**os.environ, "DATABASE_URL": url, "SHOP_MAX_SIZE": "0", "SHOP_DEBUG": "0"}
    manage = [sys.executable, str(ROOT / "example_project" / "manage.py")]
    if guard.run([*manage, "seed", "--migrate", "--verbosity", "0"], env=environment):
        raise DatabaseError("The shop's tables and content could not be made: the lines above say why.")
