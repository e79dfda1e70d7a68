"""Settings of a run of Django's suite: Django's own for it, on the databases of the plan."""

from __future__ import annotations

from test_sqlite import *  # noqa: F403  (Django's own module beside its runtests.py)

from tests.django_suite.plan import current_plan

DATABASES = current_plan().databases
TEST_RUNNER = "tests.django_suite.runner.RecordingRunner"
