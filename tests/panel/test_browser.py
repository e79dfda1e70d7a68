"""The panel as a person sees it: real pages, a real browser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.panel.browsing import chromium, open_panel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.panel.conftest import Site


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


@pytest.mark.parametrize("policy", ["request", "query"], indirect=True)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 800])
@pytest.mark.parametrize("checkouts", [1, 12, 500])
def test_it_fits(server: str, tmp_path: Path, policy: str, scheme: str, width: int, checkouts: int) -> None:
    with chromium(tmp_path, width=width, scheme=scheme) as page:
        page.goto(f"{server}/several/?n={checkouts}&ms=1")
        open_panel(page)
        import os

        if os.environ.get("SHOTS"):
            page.screenshot(path=f"{os.environ['SHOTS']}/{policy}-{checkouts}-{scheme}-{width}.png")
