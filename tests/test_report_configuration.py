"""What settings.DATABASES says of an alias, as the report has it."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from django.db.utils import ConnectionHandler
from psycopg_pool import ConnectionPool

from pool_doctor.recording.snapshot import PoolSettings
from pool_doctor.report.configuration import configuration_of
from pool_doctor.report.model import Configuration, ReportError

STOCK = "django.db.backends.postgresql"
DEFAULTS = {name: found.default for name, found in inspect.signature(ConnectionPool.__init__).parameters.items()}


def configured(*, engine: str = STOCK, pool: Any = None, **settings: Any) -> Configuration:
    options = {} if pool is None else {"pool": pool}
    database = {"ENGINE": engine, "NAME": "shop", "OPTIONS": options, **settings}
    return configuration_of(ConnectionHandler({"default": database})["default"])


def test_what_the_project_leaves_out_has_the_defaults_of_the_installed_psycopg_pool() -> None:
    found = configured(pool=True)

    assert found.pool == PoolSettings(
        DEFAULTS["min_size"],
        DEFAULTS["min_size"],  # what psycopg_pool makes of max_size=None
        DEFAULTS["timeout"],
        DEFAULTS["max_waiting"],
        DEFAULTS["max_lifetime"],
        DEFAULTS["max_idle"],
    )
    assert (found.policy, found.pool_options) == ("request", ())


def test_what_the_project_sets_is_told_apart_from_defaults() -> None:
    found = configured(pool={"max_size": 9, "timeout": 2}, CONN_HEALTH_CHECKS=True)

    assert found.pool is not None
    assert (found.pool.max_size, found.pool.timeout, found.pool.max_idle) == (9, 2.0, DEFAULTS["max_idle"])
    assert sorted(found.pool_options) == ["max_size", "timeout"]
    assert found.health_checks is True


@pytest.mark.parametrize(("age", "policy"), [(0, "unpooled"), (60, "persistent"), (None, "persistent")])
def test_without_a_pool_the_age_of_connections_decides(age: int | None, policy: str) -> None:
    found = configured(CONN_MAX_AGE=age)

    assert (found.engine, found.policy, found.pool, found.conn_max_age) == (STOCK, policy, None, age)


def test_the_settings_of_a_queue_pool_are_in_the_words_of_the_report() -> None:
    pytest.importorskip("dj_db_conn_pool")
    found = configured(
        engine="dj_db_conn_pool.backends.postgresql",
        POOL_OPTIONS={"POOL_SIZE": 3, "MAX_OVERFLOW": 2, "RECYCLE": -1, "TIMEOUT": 4},
    )
    assert found.pool == PoolSettings(0, 5, 4.0, 0, float("inf"), float("inf"))
    assert sorted(set(found.pool_options)) == ["max_lifetime", "max_size", "timeout"]


@pytest.mark.parametrize("pool", [{"min_size": "4"}, {"max_size": [8]}, {"timeout": "soon"}, {"max_idle": None}])
def test_a_setting_that_is_no_number_is_one_sentence(pool: dict[str, Any]) -> None:
    with pytest.raises(ReportError, match=r"^The pool of DATABASES\['default'\] has a setting that is no number: "):
        configured(pool=pool)
