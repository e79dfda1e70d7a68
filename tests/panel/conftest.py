"""The site of this directory with the real toolbar, on either policy."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper
from django.test import Client

from pool_doctor.backends.postgresql.base import DatabaseWrapper as ReleasingWrapper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from debug_toolbar.panels import Panel
    from pytest_django.fixtures import SettingsWrapper

PANEL = "pool_doctor.panel.PoolDoctorPanel"
PANELS = ["debug_toolbar.panels.history.HistoryPanel", "debug_toolbar.panels.sql.SQLPanel", PANEL]
ENGINES = {"request": "django.db.backends.postgresql", "query": "pool_doctor.backends.postgresql"}
ALIASES = ("default", "other")


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> str:
    """When connections go back; a test that is parametrized by it says otherwise."""
    return str(getattr(request, "param", "request"))


@pytest.fixture
def engine(transactional_db: None, policy: str) -> Iterator[str]:
    """Give the aliases the engine of the policy, and connections and pools of the test's own."""
    before = {alias: connections.settings[alias]["ENGINE"] for alias in ALIASES}
    _begin_anew(dict.fromkeys(ALIASES, ENGINES[policy]))
    yield ENGINES[policy]
    _begin_anew(before)


def forget_connections() -> None:
    """Close this thread's connections; the next use makes new ones, as the settings are then."""
    connections.close_all()
    for alias in ALIASES:
        if hasattr(connections._connections, alias):
            del connections[alias]


def _begin_anew(engines: dict[str, str]) -> None:
    forget_connections()
    for alias, engine in engines.items():
        connections.settings[alias]["ENGINE"] = engine
    for wrapper in (DatabaseWrapper, ReleasingWrapper):
        while wrapper._connection_pools:
            wrapper._connection_pools.popitem()[1].close()


@dataclass
class Site:
    """The site, and what the panel has stored of its requests."""

    settings: SettingsWrapper

    def configure(self, **config: Any) -> None:
        """Change the toolbar's configuration."""
        self.settings.DEBUG_TOOLBAR_CONFIG = {**self.settings.DEBUG_TOOLBAR_CONFIG, **config}

    @contextmanager
    def history_table(self) -> Iterator[None]:
        """Have the table of the toolbar's store in the database, which no migration makes here."""
        from debug_toolbar.models import HistoryEntry

        with connections["default"].schema_editor() as editor:
            editor.create_model(HistoryEntry)
        yield
        with connections["default"].schema_editor() as editor:
            editor.delete_model(HistoryEntry)

    def get(self, path: str, **extra: Any) -> Any:
        """Ask for a page, on connections that no request before has left, as at the end of a real one."""
        connections.close_all()
        return Client(raise_request_exception=False).get(path, **extra)

    def panel(self, response: Any) -> Panel:
        """Return the panel as it is loaded from the store, which knows no request."""
        return self.stored(response.headers["djdt-request-id"])

    def stored(self, request_id: str) -> Panel:
        """Return the panel of a request."""
        from debug_toolbar.toolbar import DebugToolbar

        toolbar = DebugToolbar.fetch(request_id, "PoolDoctorPanel")
        assert toolbar is not None
        return toolbar.get_panel_by_id("PoolDoctorPanel")

    def stats(self, path: str, **extra: Any) -> dict[str, Any]:
        """Ask for a page, and return what the panel has stored."""
        stats: dict[str, Any] = self.panel(self.get(path, **extra)).get_stats()
        return stats

    def database(self, path: str) -> dict[str, Any]:
        """Ask for a page, and return what the panel has stored of the one database that it used."""
        (database,) = self.stats(path)["databases"]
        return dict(database)


@pytest.fixture
def site(settings: SettingsWrapper, engine: str) -> Site:
    """The site with the toolbar in development."""
    settings.DEBUG = True
    settings.INTERNAL_IPS = ["127.0.0.1"]
    settings.DEBUG_TOOLBAR_PANELS = PANELS
    settings.DEBUG_TOOLBAR_CONFIG = {
        "IS_RUNNING_TESTS": False,
        "SHOW_TOOLBAR_CALLBACK": "tests.panel.site.show_toolbar",
        "RESULTS_CACHE_SIZE": 50,
    }
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "django.contrib.staticfiles", "debug_toolbar"]
    settings.MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
    settings.ROOT_URLCONF = "tests.panel.site"
    return Site(settings)
