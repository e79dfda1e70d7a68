"""Django settings of the test suite: the shop's app on two databases, each behind Django's own pool."""

from __future__ import annotations

import os

from example_project.databases import django_database
from example_project.postgres import with_database

SECRET_KEY = "tests"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ALLOWED_HOSTS = ["*"]

INSTALLED_APPS = ["pool_doctor", "example_project.shop"]
ROOT_URLCONF = "example_project.shop.urls"
STATIC_URL = "static/"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# Without DATABASE_URL, conftest.py fills the address in when the first test asks for a database.
_URL = os.environ.get("DATABASE_URL") or "postgresql:///shop"
_POOL = {"min_size": 1, "max_size": 4, "timeout": 5}
DATABASES = {
    "default": django_database(_URL, pool=_POOL),
    "other": django_database(with_database(_URL, "shop_other"), pool=_POOL),
}
