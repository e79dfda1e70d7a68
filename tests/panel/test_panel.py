"""The panel in the real toolbar: what it hears of requests, stores, and says in headers."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from typing import TYPE_CHECKING, Any

import pytest
from asgiref.sync import sync_to_async
from django.core.checks import run_checks
from django.db import connection, connections
from django.test import AsyncClient, Client

from pool_doctor.recording.scope import current
from tests.panel.conftest import ALIASES, PANEL, forget_connections

if TYPE_CHECKING:
    from tests.panel.conftest import Site

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)
on_both_policies = pytest.mark.parametrize("policy", ["request", "query"], indirect=True)
on_releasing_engine = pytest.mark.parametrize("policy", ["query"], indirect=True)


def _ids(database: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in database["findings"]}


def _fix(database: dict[str, Any], finding_id: str) -> str:
    (fix,) = (finding["fix"] for finding in database["findings"] if finding["id"] == finding_id)
    return str(fix)


# What is heard.


def test_a_connection_is_held_from_the_first_query_to_the_response(site: Site) -> None:
    stats = site.stats("/several/?n=2&ms=50")
    (database,) = stats["databases"]
    totals = database["totals"]
    assert (database["alias"], database["policy"], totals["checkouts"], totals["queries"]) == (
        "default",
        "request",
        1,
        2,
    )
    assert totals["query_time"] < totals["needed"] < totals["hold"] < stats["seconds"]
    assert totals["hold"] - totals["needed"] >= 0.05
    (row,) = database["checkouts"]["rows"]
    assert row["outcome"] == "until the end"
    assert row["site"].startswith("tests/panel/site.py:")


@on_releasing_engine
def test_a_released_connection_is_one_checkout_for_each_query(site: Site) -> None:
    rows = site.database("/several/?n=3&ms=100")["checkouts"]["rows"]
    assert [(row["queries"], row["outcome"]) for row in rows] == [(1, "")] * 3
    # A connection that is met for the first time is made ready, which is no need yet.
    assert [row["hold"] for row in rows] == pytest.approx([row["needed"] for row in rows], abs=0.05)


@pytest.mark.parametrize("policy", ["request"], indirect=True)
def test_the_other_policy_of_a_held_request_is_what_was_needed(site: Site) -> None:
    database = site.database("/several/?n=4&ms=10")
    other = database["other"]
    assert (other["policy"], other["checkouts"]) == ("query", 4)
    assert other["hold"] == pytest.approx(database["totals"]["needed"])


@on_releasing_engine
def test_the_other_policy_of_a_released_request_holds_to_the_end(site: Site) -> None:
    stats = site.stats("/several/?n=4&ms=10")
    (database,) = stats["databases"]
    other = database["other"]
    assert (other["policy"], other["checkouts"]) == ("request", 1)
    first = database["checkouts"]["rows"][0]
    waits = database["totals"]["wait"]
    assert other["hold"] == pytest.approx(stats["seconds"] - first["at"] - waits)


def test_the_longest_gap_names_the_lines_around_it(site: Site) -> None:
    database = site.database("/several/?n=2&ms=60")
    gap = next(gap for gap in database["gaps"]["rows"] if gap["kept_by"] == "nothing")
    assert gap["duration"] >= 0.05
    assert gap["before"]["line"] == gap["after"]["line"] != ""
    assert gap["before"]["sql"] == 'SELECT COUNT(*) AS "__count" FROM "shop_product"'
    assert "idle-while-held" in _ids(database)
    assert '"pool_doctor.backends.postgresql"' in _fix(database, "idle-while-held")


@on_both_policies
def test_work_inside_a_transaction(site: Site) -> None:
    database = site.database("/atomic/?ms=60")
    assert database["checkouts"]["rows"][-1]["transaction"] >= 0.06
    assert database["gaps"]["rows"][0]["kept_by"] == "transaction"
    assert "work-in-transaction" in _ids(database)
    assert database["other"]["hold"] >= 0.06


def test_a_transaction_lasts_from_atomic_to_commit(site: Site) -> None:
    database = site.database("/before/?ms=200")
    assert 0.2 <= database["totals"]["transaction"] <= database["totals"]["hold"] - 0.2
    assert sorted(gap["kept_by"] for gap in database["gaps"]["rows"] if gap["duration"] >= 0.2) == [
        "nothing",
        "transaction",
    ]


@on_both_policies
def test_work_while_a_cursor_is_open(site: Site) -> None:
    database = site.database("/cursor/?ms=60")
    assert database["gaps"]["rows"][0]["kept_by"] == "cursor"
    assert "open-cursor" in _ids(database)


@on_both_policies
def test_a_pinned_connection_says_why(site: Site, policy: str) -> None:
    database = site.database("/pinned/")
    (pin,) = [pin for row in database["checkouts"]["rows"] for pin in row["pins"]]
    assert re.fullmatch(r"SET at tests/panel/site\.py:\d+ pinned", pin)
    (finding,) = [finding for finding in database["findings"] if finding["id"] == "pinned"]
    assert finding["severity"] == ("warning" if policy == "query" else "info")
    assert "SET LOCAL" in finding["fix"]


@on_releasing_engine
def test_many_checkouts_name_the_line_that_causes_them(site: Site) -> None:
    database = site.database("/several/?n=60")
    assert "hold()" in _fix(database, "many-checkouts")
    assert len(database["checkouts"]["rows"]) == 40
    assert database["checkouts"]["cut"]["number"] == 20
    assert database["checkouts"]["cut"]["queries"] == 20


@on_both_policies
def test_a_block_inside_the_request_belongs_to_it(site: Site) -> None:
    assert site.database("/block/")["totals"]["queries"] == 1


@on_both_policies
def test_each_alias_has_its_own_section(site: Site) -> None:
    databases = site.stats("/aliases/")["databases"]
    assert [(database["alias"], database["totals"]["queries"]) for database in databases] == [
        ("default", 1),
        ("other", 1),
    ]


@on_both_policies
def test_two_connections_at_once_are_two_lanes(site: Site) -> None:
    database = site.database("/at-once/")
    assert len(database["timeline"]["lanes"]) == 2
    assert "several-at-once" in _ids(database)


def test_a_request_without_a_query_says_so(site: Site) -> None:
    panel = site.panel(site.get("/none/"))
    assert panel.get_stats()["databases"] == []
    assert panel.nav_subtitle == "no connection used"
    assert "asked for no connection" in panel.content


@on_both_policies
def test_a_checkout_that_times_out(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {**connections.settings["default"]["OPTIONS"], "pool": {"min_size": 1, "max_size": 1, "timeout": 0.1}}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    forget_connections()
    taken, released = threading.Event(), threading.Event()

    def occupy() -> None:
        with connection.cursor():
            taken.set()
            released.wait(20)
        connection.close()

    thread = threading.Thread(target=occupy)
    thread.start()
    try:
        assert taken.wait(20)
        response = Client().get("/refused/")
    finally:
        released.set()
        thread.join()
    (database,) = site.panel(response).get_stats()["databases"]
    assert database["totals"]["failed"] == 1
    assert database["findings"][0]["id"] == "timed-out"
    assert database["checkouts"]["rows"][0]["outcome"] == "timed out"
    assert site.panel(response).nav_subtitle.startswith("no connection after 1")


def test_a_connection_that_a_middleware_took_before_counts_from_its_checkout(site: Site) -> None:
    site.settings.MIDDLEWARE = ["tests.panel.site.querying_middleware", *site.settings.MIDDLEWARE]
    totals = site.database("/several/?n=1")["totals"]
    assert (totals["checkouts"], totals["queries"]) == (1, 2)


# What is stored, and shown of it.


def test_the_title_says_what_matters(site: Site) -> None:
    panel = site.panel(site.get("/several/?n=2&ms=50"))
    assert re.fullmatch(r"held \S+ ms, \d+ % in queries", panel.nav_subtitle)
    assert panel.title == f"H{panel.nav_subtitle[1:]}"
    assert panel.nav_title == "Connections"


def test_what_is_stored_is_plain_json(site: Site) -> None:
    def plain(value: Any) -> bool:
        if isinstance(value, dict):
            return all(type(key) is str and plain(inner) for key, inner in value.items())
        if isinstance(value, list):
            return all(map(plain, value))
        return value is None or type(value) in {str, int, float, bool}

    recorded: list[Any] = []
    site.settings.DEBUG_TOOLBAR_PANELS = ["tests.panel.site.Recording"]
    site.settings.TEST_RECORDED = recorded
    site.get("/aliases/")
    (stats,) = recorded  # once
    assert plain(stats)
    assert json.loads(json.dumps(stats, allow_nan=False)) == stats


@on_both_policies
@pytest.mark.parametrize("path", ["/json/", "/redirect/", "/several/?n=1"])
def test_requests_without_a_page_are_in_the_history(site: Site, path: str) -> None:
    response = site.get(path, headers={"x-requested-with": "XMLHttpRequest"})
    assert site.panel(response).get_stats()["databases"][0]["totals"]["queries"] == 1
    history = Client().get("/__debug__/history_sidebar/", {"request_id": response.headers["djdt-request-id"]}).json()
    assert "held" in history["PoolDoctorPanel"]["button"]


def test_the_panel_is_loaded_by_the_toolbars_own_view(site: Site) -> None:
    response = site.get("/several/?n=2")
    query = {"request_id": response.headers["djdt-request-id"], "panel_id": "PoolDoctorPanel"}
    assert "<svg" in Client().get("/__debug__/render_panel/", query).json()["content"]


def test_it_can_be_rendered_into_the_page(site: Site) -> None:
    site.configure(RENDER_PANELS=True)
    assert 'class="pool-doctor"' in site.get("/several/?n=2").content.decode()


@pytest.mark.parametrize("shadow", [True, False])
def test_it_does_not_depend_on_the_shadow_dom(site: Site, shadow: bool) -> None:
    site.configure(USE_SHADOW_DOM=shadow)
    assert b'id="PoolDoctorPanel"' in site.get("/several/?n=2").content


@on_both_policies
@pytest.mark.parametrize("store", ["MemoryStore", "DatabaseStore", "CacheStore"])
def test_each_store_keeps_it_and_is_not_counted(site: Site, store: str) -> None:
    import debug_toolbar.store

    if not hasattr(debug_toolbar.store, store):
        pytest.skip(f"this toolbar has no {store}")
    site.configure(TOOLBAR_STORE_CLASS=f"debug_toolbar.store.{store}")
    with site.history_table():
        panel = site.panel(site.get("/several/?n=2"))
        assert panel.get_stats()["databases"][0]["totals"]["query_time"] > 0
        assert panel.get_stats()["databases"][0]["timeline"]["lanes"]
        assert "<svg" in panel.content


@on_both_policies
def test_the_sql_panel_counts_the_same_queries(site: Site) -> None:
    from debug_toolbar.toolbar import DebugToolbar

    response = site.get("/several/?n=3")
    toolbar = DebugToolbar.fetch(response.headers["djdt-request-id"])
    assert len(toolbar.get_panel_by_id("SQLPanel").get_stats()["queries"]) == 3
    assert toolbar.get_panel_by_id("PoolDoctorPanel").get_stats()["databases"][0]["totals"]["queries"] == 3


# Headers.


def test_the_server_timing_header_has_both_durations_in_milliseconds(site: Site) -> None:
    response = site.get("/several/?n=2&ms=50")
    metrics = dict(re.findall(r'(\w+);dur=([\d.]+);desc="[^"]+"', response.headers["Server-Timing"]))
    totals = site.panel(response).get_stats()["totals"]
    assert float(metrics["pool_hold"]) == pytest.approx(totals["hold"] * 1000, abs=0.001)
    assert float(metrics["pool_wait"]) == pytest.approx(totals["wait"] * 1000, abs=0.001)
    assert float(metrics["pool_hold"]) >= 50


def test_a_request_without_a_connection_has_zeros_in_its_header(site: Site) -> None:
    assert "pool_hold;dur=0.000;" in site.get("/none/").headers["Server-Timing"]


# Switched off, failing, at the same time.


@pytest.fixture
def collectors(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All collectors that listen from now on."""
    from pool_doctor.toolbar.collector import RequestCollector

    started: list[object] = []
    start = RequestCollector.start
    monkeypatch.setattr(RequestCollector, "start", lambda self: (started.append(self), start(self))[1])
    return started


def test_nothing_listens_where_the_toolbar_is_not_shown(site: Site, collectors: list[object]) -> None:
    assert "Server-Timing" not in site.get("/several/?n=2&hide=1").headers
    assert collectors == []


def test_nothing_listens_where_the_panel_is_switched_off(site: Site, collectors: list[object]) -> None:
    client = Client()
    client.cookies["djdtPoolDoctorPanel"] = "off"
    assert client.get("/several/?n=2").status_code == 200
    site.configure(DISABLE_PANELS={PANEL})
    site.get("/several/?n=2")
    assert collectors == []


def test_nothing_listens_after_a_request_that_fails(site: Site, collectors: list[Any]) -> None:
    assert site.get("/fails/").status_code == 500
    (collector,) = collectors
    assert collector.ended
    assert collector.scope.collector is None


def test_without_recording_it_says_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    from pool_doctor.recording.recorder import recorder

    monkeypatch.setattr(recorder, "options", None)
    panel = site.panel(site.get("/several/?n=1"))
    assert panel.nav_subtitle == "nothing recorded"
    assert "POOL_DOCTOR" in panel.content


def test_the_check_asks_for_the_app(site: Site) -> None:
    assert [error.id for error in run_checks() if error.id.startswith("pool_doctor.E")] == []
    site.settings.INSTALLED_APPS = [app for app in site.settings.INSTALLED_APPS if app != "pool_doctor"]
    assert [error.id for error in run_checks() if error.id.startswith("pool_doctor.E")] == ["pool_doctor.E001"]


def _asynchronously(*paths: str) -> list[Any]:
    """Ask for pages at the same time, and leave no connection behind."""

    async def ask() -> list[Any]:
        try:
            return await asyncio.gather(*(AsyncClient().get(path) for path in paths))
        finally:
            await sync_to_async(forget_connections)()

    return asyncio.run(ask())


@on_both_policies
def test_an_asynchronous_view(site: Site, policy: str) -> None:
    (response,) = _asynchronously("/async/?n=3&ms=20")
    (database,) = site.panel(response).get_stats()["databases"]
    totals = database["totals"]
    assert (totals["checkouts"], totals["queries"]) == (3 if policy == "query" else 1, 3)


@on_both_policies
def test_a_synchronous_view_under_asgi(site: Site) -> None:
    (response,) = _asynchronously("/several/?n=3")
    assert site.panel(response).get_stats()["databases"][0]["totals"]["queries"] == 3


@on_releasing_engine
def test_requests_at_the_same_time_never_mix(site: Site) -> None:
    numbers = [1, 7, 2, 9, 3, 5, 8, 4, 6, 10] * 2
    responses = _asynchronously(*(f"/async/?n={number}&ms=2" for number in numbers))
    counted = [site.panel(response).get_stats()["databases"][0]["totals"]["queries"] for response in responses]
    assert counted == numbers
    assert current.get() is None
