"""Settings of the programs that the tests of the engine run in processes of their own."""

from __future__ import annotations

import os

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES, INSTALLED_APPS

DEBUG = False
INSTALLED_APPS = [*INSTALLED_APPS, "django.contrib.contenttypes", "django.contrib.staticfiles", "debug_toolbar"]
DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "IS_RUNNING_TESTS": False}
DEBUG_TOOLBAR_PANELS = ["debug_toolbar.panels.sql.SQLPanel"]

_max_size = int(os.environ.get("POOL_DOCTOR_TEST_MAX_SIZE", "1"))
for _database in DATABASES.values():
    _database["ENGINE"] = os.environ.get("POOL_DOCTOR_TEST_ENGINE", "pool_doctor.backends.postgresql")
    if "dj_db_conn_pool" in _database["ENGINE"]:
        _database["OPTIONS"].pop("pool")
        _database["POOL_OPTIONS"] = {"POOL_SIZE": _max_size, "MAX_OVERFLOW": 0, "TIMEOUT": 10}
    else:
        _database["OPTIONS"]["pool"] = {"min_size": 1, "max_size": _max_size, "timeout": 10}
DATABASES["other"]["NAME"] = f"{DATABASES['default']['NAME']}_other"
