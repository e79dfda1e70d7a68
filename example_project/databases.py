"""Django's form of a database URL."""

from __future__ import annotations

from typing import Any

from psycopg.conninfo import conninfo_to_dict

_NAMES = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}


def django_database(
    url: str, *, engine: str = "django.db.backends.postgresql", **options: Any
) -> dict[str, Any]:
    """Return an entry of DATABASES for a URL; what has no place of its own in Django goes into OPTIONS.

    Raises psycopg.ProgrammingError where libpq does not accept the URL.
    """
    parts = {name: str(value) for name, value in conninfo_to_dict(url).items() if value is not None}
    settings = {django_name: parts.pop(name, "") for name, django_name in _NAMES.items()}
    return {"ENGINE": engine, **settings, "OPTIONS": {**parts, **options}}
