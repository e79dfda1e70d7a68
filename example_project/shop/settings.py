"""Settings of the shop, steered by environment variables that docs/example-project.md lists."""

from __future__ import annotations

import importlib.util
import os
import sys
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from example_project.databases import django_database

ENGINES = {"native": "django.db.backends.postgresql", "release": "pool_doctor.backends.postgresql"}


def _number(name: str, default: float, kind: type[int | float]) -> Any:
    text = os.environ.get(name, "")
    try:
        value = kind(text) if text else kind(default)
    except ValueError:
        value = kind(-1)
    if value < 0:
        accepted = "a whole number" if kind is int else "a number"
        raise ImproperlyConfigured(f"{name} is {text!r}; it has to be {accepted} of at least 0.")
    return value


def _database() -> dict[str, Any]:
    engine = os.environ.get("SHOP_ENGINE", "native")
    max_size = _number("SHOP_MAX_SIZE", 4, int)
    url = os.environ.get("DATABASE_URL")
    if not url:
        raise ImproperlyConfigured(
            "DATABASE_URL is not set; `example_project/run.py manage` provides a database and runs manage.py on it."
        )
    options: dict[str, Any] = {"application_name": "shop"}
    if max_size:
        options["pool"] = {"min_size": 1, "max_size": max_size, "timeout": _number("SHOP_TIMEOUT", 10, float)}
    return {
        **django_database(url, engine=ENGINES.get(engine, engine), **options),
        "CONN_MAX_AGE": _number("SHOP_CONN_MAX_AGE", 0, int),
    }


DEBUG = os.environ.get("SHOP_DEBUG") == "1"
SECRET_KEY = "a shop with nothing to steal"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "testserver"]
INTERNAL_IPS = ["127.0.0.1"]

INSTALLED_APPS = ["django.contrib.staticfiles", "pool_doctor", "example_project.shop"]
MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
ROOT_URLCONF = "example_project.shop.urls"
WSGI_APPLICATION = "example_project.shop.wsgi.application"
ASGI_APPLICATION = "example_project.shop.asgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

DATABASES = {"default": _database()}

POOL_DOCTOR: dict[str, Any] = {}
if "SHOP_DIRECTORY" in os.environ:
    POOL_DOCTOR["DIRECTORY"] = os.environ["SHOP_DIRECTORY"]

# The toolbar's tests expect DEBUG to be off.
if DEBUG and "test" not in sys.argv and importlib.util.find_spec("debug_toolbar"):
    from debug_toolbar.settings import PANELS_DEFAULTS

    INSTALLED_APPS += ["debug_toolbar"]
    MIDDLEWARE.insert(0, "debug_toolbar.middleware.DebugToolbarMiddleware")
    DEBUG_TOOLBAR_PANELS = list(PANELS_DEFAULTS)
    DEBUG_TOOLBAR_PANELS.insert(
        DEBUG_TOOLBAR_PANELS.index("debug_toolbar.panels.sql.SQLPanel") + 1, "pool_doctor.panel.PoolDoctorPanel"
    )
    if "SHOP_DIRECTORY" in os.environ:
        # Another worker may be asked for a panel than the one that served the page.
        CACHES = {
            "default": {
                "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
                "LOCATION": f"{os.environ['SHOP_DIRECTORY']}/toolbar",
            }
        }
        DEBUG_TOOLBAR_CONFIG = {"TOOLBAR_STORE_CLASS": "debug_toolbar.store.CacheStore"}
