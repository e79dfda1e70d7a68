"""The panel as a person sees it: real pages, a real browser.

With PANEL_SCREENSHOTS set to a directory, the pictures of the documentation are taken anew.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.panel.browsing import chromium, open_panel
from tests.panel.conftest import ALIASES
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from example_project.servers import RunningServer
    from tests.panel.conftest import Site

pytestmark = [pytest.mark.heavy, pytest.mark.django_db(transaction=True, databases=ALIASES)]

SVG = "http://www.w3.org/2000/svg"


def _photograph(page: Any, name: str) -> None:
    directory = os.environ.get("PANEL_SCREENSHOTS")
    if directory:
        page.screenshot(path=Path(directory) / f"{name}.png")


@pytest.fixture
def server(site: Site) -> Iterator[str]:
    """The address of the site, served by threads of this process."""
    from django.contrib.staticfiles.handlers import StaticFilesHandler
    from django.test.testcases import LiveServerThread

    thread = LiveServerThread("127.0.0.1", StaticFilesHandler)
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    assert thread.error is None
    yield f"http://127.0.0.1:{thread.port}"
    thread.terminate()


def _switch_to(page: Any, path: str) -> None:
    """Choose the latest request for a path in the toolbar's history."""
    page.locator("#djdt-HistoryPanel a").click()
    row = page.locator("#djdtHistoryRequests tr[data-request-id]", has_text=path).first
    request_id = row.get_attribute("data-request-id")

    def switched() -> bool:
        # The script that listens to this button is loaded after it can be seen.
        row.locator(".switchHistory").click()
        page.wait_for_timeout(200)
        return bool(page.locator(f"#djDebug[data-request-id='{request_id}']").count())

    until(switched, what="the switch to another request")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("server_kind", ["gunicorn", "uvicorn"])
def test_the_example_project_shows_the_line_that_holds_a_connection(
    live_server_process: Callable[..., RunningServer], tmp_path: Path, server_kind: str, scheme: str
) -> None:
    shop = live_server_process(server=server_kind, workers=2, env={"SHOP_DEBUG": "1"})
    with chromium(tmp_path / "profile", scheme=scheme) as page:
        page.goto(f"{shop.url}/")
        # Twice, because a process's first request pays for imports and for its pool.
        for _ in range(2):
            page.evaluate("fetch('/api-call/?ms=200').then(response => response.text())")
        _switch_to(page, "/api-call/?ms=200")
        panel = open_panel(page)
        title = page.locator("#PoolDoctorPanel h3").inner_text()
        held = int(re.fullmatch(r"Held (\d+) ms, <?\d+ % in queries", title)[1])
        assert held >= 200
        assert panel.locator("svg[role=img]").get_attribute("aria-label").startswith("Timeline of the request")
        assert panel.locator("svg .pd-query rect").count() >= 2
        assert re.search(r"idle 2\d\d ms", panel.locator("svg .pd-label").first.text_content())
        if server_kind == "gunicorn":
            gap = panel.locator(".pd-gaps tbody tr").first.inner_text()
            assert re.search(r"after\s+example_project/shop/views\.py:\d+ api_call", gap)
            assert re.search(r"before\s+example_project/shop/views\.py:\d+ _store_payment", gap)
            _photograph(page, f"panel-{scheme}")


@pytest.mark.parametrize("policy", ["request", "query"], indirect=True)
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (800, "dark")])
@pytest.mark.parametrize("queries", [1, 12, 500])
def test_it_fits_however_much_there_is(
    server: str, tmp_path: Path, policy: str, width: int, scheme: str, queries: int
) -> None:
    with chromium(tmp_path / "profile", width=width, scheme=scheme) as page:
        page.goto(f"{server}/several/?n={queries}&ms=1")
        panel = open_panel(page)
        too_wide = panel.evaluate("panel => panel.scrollWidth - panel.clientWidth")
        assert too_wide <= 0
        drawing = panel.locator("svg[role=img]").bounding_box()
        assert drawing["width"] == pytest.approx(panel.bounding_box()["width"], abs=1)
        edges = panel.locator("svg[role=img] rect").evaluate_all(
            "marks => marks.map(mark => mark.getBoundingClientRect()).map(box => [box.left, box.right, box.height])"
        )
        assert edges
        assert all(drawing["x"] - 1 <= left <= right <= drawing["x"] + drawing["width"] + 1 for left, right, _ in edges)
        assert all(height > 2 for _, _, height in edges)
        rows = panel.locator("table", has_text="Checkouts").last.locator("tbody tr").count()
        assert rows == (1 if policy == "request" else min(queries, 41))


@pytest.mark.parametrize("shadow", [True, False])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_its_colours_can_be_told_apart(server: str, site: Site, tmp_path: Path, shadow: bool, scheme: str) -> None:
    site.configure(USE_SHADOW_DOM=shadow)
    with chromium(tmp_path / "profile", scheme=scheme) as page:
        page.goto(f"{server}/atomic/?ms=30")
        panel = open_panel(page)
        colours = panel.evaluate(
            """panel => Object.fromEntries(["needed", "query", "idle", "transaction"].map(
                kind => [kind, getComputedStyle(panel.querySelector(`svg .pd-${kind} rect`)).fill]))"""
        )
        assert len(set(colours.values())) == 4
        background = panel.evaluate("panel => getComputedStyle(panel.closest('.djdt-panelContent')).backgroundColor")
        for colour in colours.values():
            assert _contrast(colour, background) >= 1.5
        assert _contrast(colours["query"], colours["needed"]) >= 1.5
        text = panel.locator(".pd-figures dd").first.evaluate("text => getComputedStyle(text).color")
        assert _contrast(text, background) >= 7
        muted = panel.locator(".pd-figures dt").first.evaluate("text => getComputedStyle(text).color")
        assert _contrast(muted, background) >= 4.5


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours (WCAG 2.2, relative luminance)."""
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (red, green, blue))
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
