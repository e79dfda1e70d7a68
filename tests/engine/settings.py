"""Settings of the programs that the tests of the engine run in processes of their own."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

ENGINE = os.environ.get("POOL_DOCTOR_TEST_ENGINE", "pool_doctor.backends.postgresql")
for _database in DATABASES.values():
    _database["ENGINE"] = ENGINE
    _database["OPTIONS"]["pool"] = {"min_size": 1, "max_size": 1, "timeout": 10}
DEBUG = False
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.contenttypes"]
