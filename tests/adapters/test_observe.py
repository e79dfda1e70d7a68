"""Observation in place: every engine, exact numbers, and Django none the wiser."""

from __future__ import annotations

import gc
import inspect
import time
import weakref
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.base import BaseHandler
from django.core.management.base import BaseCommand
from django.core.signals import request_finished, request_started
from django.db.backends.postgresql.base import DatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.utils import ConnectionHandler

from pool_doctor.adapters import observe, startup
from pool_doctor.adapters.lifecycle import LifecycleMixin
from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.work import begin, end
from tests.adapters.conftest import ALIAS, POOL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.adapters.conftest import Recording, Work

STOCK = "django.db.backends.postgresql"
THIRD_PARTY = "tests.adapters.third_party"
QUEUE_POOL = "dj_db_conn_pool.backends.postgresql"
POSTGIS = "django.contrib.gis.db.backends.postgis"

ENGINES = [
    pytest.param({"pool": POOL}, "request", id="pool"),
    pytest.param({"CONN_MAX_AGE": 0}, "unpooled", id="no pool"),
    pytest.param({"CONN_MAX_AGE": 60}, "persistent", id="persistent"),
    pytest.param({"CONN_MAX_AGE": None}, "persistent", id="persistent for ever"),
    pytest.param({"engine": THIRD_PARTY, "pool": POOL}, "request", id="third party"),
    pytest.param({"engine": THIRD_PARTY}, "unpooled", id="third party without pool"),
    pytest.param({"engine": QUEUE_POOL, "POOL_OPTIONS": {"POOL_SIZE": 1, "MAX_OVERFLOW": 1}}, "request", id="dj pool"),
    pytest.param({"engine": POSTGIS, "pool": POOL}, "request", id="postgis"),
]


@pytest.fixture(autouse=True)
def no_queue_pool_left() -> Any:
    """Close the pools of django-db-connection-pool, which live until the process ends."""
    yield
    try:
        from dj_db_conn_pool.core import pool_container
    except ImportError:
        return
    pool_container.dispose()
    pool_container.clear()


def require(engine: str) -> None:
    """Skip the test where the engine's own requirements are missing."""
    if engine == QUEUE_POOL:
        pytest.importorskip("dj_db_conn_pool")
    if engine == POSTGIS:
        try:
            import_module(f"{engine}.base")
        except (ImproperlyConfigured, ImportError) as error:
            pytest.skip(f"PostGIS's engine needs GDAL and GEOS: {str(error).splitlines()[0]}")


@pytest.mark.parametrize(("settings", "policy"), ENGINES)
def test_every_engine_is_observed(
    settings: dict[str, Any], policy: str, recording: Recording, connect: Callable[..., Any]
) -> None:
    require(settings.get("engine", STOCK))
    connection = connect(**settings)
    scope = begin("the work", "block")
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.03)")
    except ImproperlyConfigured as error:  # PostGIS's engine looks for the extension when it connects
        pytest.skip(str(error))
    time.sleep(0.03)
    with connection.cursor() as cursor:
        cursor.execute("SELECT %s", [1])
    (held,) = recording.alias().open
    assert held.scope == "the work"
    assert held.site.startswith("tests/adapters/test_observe.py:")
    assert held.site.endswith(" test_every_engine_is_observed")
    if policy != "persistent":
        connection.close()
    end(scope)

    found = recording.alias()
    assert found.engine == settings.get("engine", STOCK)
    assert found.policy == policy
    assert (found.pool is not None) == (policy == "request")
    assert (found.checkouts, found.timeouts, found.errors) == (1, 0, 0)
    assert (found.in_use, found.peak_in_use, found.waiting, found.open) == (0, 1, 0, [])
    assert 0.06 <= found.hold.maximum < 0.5
    assert 0.03 <= found.needed.maximum <= found.hold.maximum - 0.03
    totals = found.scopes["the work"]
    assert (totals.requests, totals.checkouts, totals.queries) == (1, 1, 2)
    assert 0.03 <= totals.query_time <= totals.needed
    assert totals.wait > 0


@pytest.mark.parametrize("age", [60, None])
def test_a_persistent_connection_is_a_new_checkout_for_each_run(
    age: int | None, recording: Recording, connect: Callable[..., Any]
) -> None:
    connection = connect(CONN_MAX_AGE=age)
    for _ in range(3):
        scope = begin("the work", "block")
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        end(scope)
    found = recording.alias()
    assert (found.checkouts, found.in_use, found.size) == (3, 0, 1)
    assert found.scopes["the work"].requests == 3
    assert found.scopes["the work"].queries == 3
    connection.close()
    assert recording.alias().size == 0


def test_an_engine_and_its_subclass_count_once_each(recording: Recording, connect: Callable[..., Any]) -> None:
    for engine, alias in ((STOCK, "one"), (THIRD_PARTY, "two")):
        connection = connect(engine, pool=POOL, alias=alias)
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        connection.close()
    for alias in ("one", "two"):
        found = recording.alias(alias)
        assert (found.checkouts, found.hold.count, found.in_use) == (1, 1, 0)


def test_a_subclass_made_from_the_observed_engines_module_is_itself(connect: Callable[..., Any]) -> None:
    connection = connect(THIRD_PARTY)
    connection.ensure_connection()
    wrapper_class = import_module(f"{THIRD_PARTY}.base").DatabaseWrapper
    assert connection.__class__ is wrapper_class
    assert isinstance(connection, LifecycleMixin)
    assert connection.connected == 1


def test_receivers_for_the_engines_class_hear_from_it(connect: Callable[..., Any]) -> None:
    heard = []

    def receiver(*, sender: type, connection: Any, **_: Any) -> None:
        heard.append((sender, connection))

    connection_created.connect(receiver, sender=DatabaseWrapper)
    try:
        connection = connect()
        connection.ensure_connection()
    finally:
        connection_created.disconnect(receiver, sender=DatabaseWrapper)
    assert heard == [(DatabaseWrapper, connection)]


def test_a_copy_is_observed_and_counts_for_itself(pooled: Any, recording: Recording) -> None:
    copy = pooled.copy()
    with pooled.cursor(), copy.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert recording.alias().in_use == 2
    copy.close()
    pooled.close()
    assert (recording.alias().checkouts, recording.alias().in_use) == (2, 0)


def test_a_cursor_without_a_database_is_no_checkout(pooled: Any, recording: Recording) -> None:
    with pooled._nodb_cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("postgres",)
    pooled.ensure_connection()
    assert list(recording.process().aliases) == [ALIAS]
    assert recording.alias().checkouts == 1


def test_a_temporary_connection_goes_back(pooled: Any, recording: Recording, work: Work) -> None:
    with pooled.temporary_connection() as cursor:
        cursor.execute("SELECT 1")
    assert (recording.alias().checkouts, recording.alias().in_use) == (1, 0)
    assert len(work.queries) == 1


def test_a_connection_made_past_the_wrapper_is_left_alone(connect: Callable[..., Any], recording: Recording) -> None:
    wrapper = connect()
    raw = wrapper.get_new_connection(wrapper.get_connection_params())
    try:
        with raw.cursor() as cursor:
            assert cursor.execute("SELECT 1").fetchone() == (1,)
    finally:
        raw.close()
    wrapper.ensure_connection()
    wrapper.close()
    assert recording.alias().in_use == 0


def test_a_wrapper_that_lost_its_connection_begins_a_new_checkout(
    pooled: Any, recording: Recording, work: Work
) -> None:
    pooled.ensure_connection()
    raw, pooled.connection = pooled.connection, None
    pooled.ensure_connection()
    assert (recording.alias().checkouts, recording.alias().in_use) == (2, 1)
    raw._pool.putconn(raw)


def test_the_pools_own_numbers_are_shown(pooled: Any, recording: Recording) -> None:
    pooled.pool.open(wait=True)
    pooled.ensure_connection()
    pooled.close()
    found = recording.alias()
    assert found.pool is not None
    assert (found.pool.min_size, found.pool.max_size, found.pool.timeout) == (1, 2, 0.3)
    assert (found.size, found.available) == (1, 1)


def _state() -> dict[str, Any]:
    """Return all that install() could change outside of this package."""
    gc.collect()  # receivers of apps that are gone already are gone for each comparison
    owners = (ConnectionHandler, BaseHandler, ASGIHandler, BaseCommand, DatabaseWrapper)
    state: dict[str, Any] = {
        f"{owner.__qualname__}.{name}": vars(owner)[name] for owner in owners for name in vars(owner)
    }
    for module in (import_module(f"{STOCK}.base"), import_module(f"{THIRD_PARTY}.base")):
        state |= {f"{module.__name__}.{name}": value for name, value in vars(module).items()}
    for name, signal in (("started", request_started), ("finished", request_finished)):
        state[f"request_{name}"] = _receivers(signal)
    if (celery := _module("celery.signals")) is not None:
        for name in ("task_prerun", "task_postrun"):
            state[name] = _receivers(getattr(celery, name))
    if (tasks := _module("django.tasks")) is not None:
        state |= {f"Task.{name}": value for name, value in vars(tasks.Task).items()}
    return state


def _receivers(signal: Any) -> set[Any]:
    """Return the keys of the receivers that live; connecting another one forgets the others."""
    entries = [(entry[0], entry[1]) for entry in signal.receivers]
    return {key for key, receiver in entries if not isinstance(receiver, weakref.ref) or receiver() is not None}


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


def test_installing_twice_is_once_and_uninstalling_restores_everything(recording: Recording) -> None:
    installed = _state()
    startup.install()
    assert _state() == installed
    options = recorder.options
    startup.uninstall()
    try:
        plain = _state()
        startup.uninstall()
        assert _state() == plain
    finally:
        startup.install()
        recorder.start(options)
    changed = {name for name in plain if plain[name] != installed[name]}
    assert _same_methods(_state(), installed)
    assert changed >= {"ConnectionHandler.create_connection", "ASGIHandler.__call__", "BaseCommand.execute"}
    for name in changed - {"request_started", "request_finished", "task_prerun", "task_postrun"}:
        assert not str(inspect.getsourcefile(plain[name].__code__)).startswith(OURS), name
    for name in changed & {"request_started", "request_finished", "task_prerun", "task_postrun"}:
        assert not any("pool_doctor" in str(receiver) for receiver in plain[name]), name


OURS = str(Path(observe.__file__).parents[1])


def _same_methods(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Say whether all is the same but for functions made anew by the same wrapper."""
    return all(
        first[name] == value or getattr(first[name], "__code__", 0) is getattr(value, "__code__", 1)
        for name, value in second.items()
    )


def test_uninstalling_lets_go_of_a_connection_at_work(
    connect: Callable[..., Any], recording: Recording, work: Work
) -> None:
    connection = connect(pool=POOL)
    cursor = connection.cursor()
    raw = connection.connection
    observe.uninstall()
    try:
        assert type(connection) is DatabaseWrapper
        assert connection.connection is raw
        assert recording.alias().in_use == 0
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
        cursor.close()
        with connection.cursor() as second:
            second.execute("SELECT 1")
        connection.close()
        assert recording.alias().checkouts == 1
        assert work.queries == []
    finally:
        observe.install()


def test_installing_takes_up_a_connection_at_work(
    recording: Recording, database_url: str, work: Work, connect: Any
) -> None:
    from django.db import connections

    observe.uninstall()
    try:
        connections.settings[ALIAS] = connections.settings["default"] | {}
        connection = connect()
        setattr(connections._connections, ALIAS, connection)
        held = connection.cursor()
    finally:
        observe.install()
    try:
        assert type(connection) is not DatabaseWrapper
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        held.execute("SELECT 1")
        held.close()
        connection.close()
        found = recording.alias()
        assert (found.checkouts, found.in_use) == (1, 0)
        assert len(work.queries) == 1
    finally:
        del connections[ALIAS]
        del connections.settings[ALIAS]
