"""A real headless Chromium that opens the panel as a person does."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Nothing but the pages asked for, also where there is neither a user with rights nor a graphics card.
OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium(profile: Path, *, width: int = 1280, scheme: str = "light") -> Iterator[Any]:
    """Yield a page of a browser with an empty profile; what its console says is an error and fails the test."""
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    executable = next(filter(None, map(shutil.which, NAMES)), None)
    if executable is None:
        pytest.skip(f"there is no Chromium here (none of {', '.join(NAMES)} is on PATH)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            profile,
            executable_path=executable,
            headless=True,
            args=OPTIONS,
            color_scheme=scheme,
            viewport={"width": width, "height": 900},
        )
        complaints: list[str] = []
        page = browser.new_page()
        page.route("**/favicon.ico", lambda route: route.fulfill(status=204))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        try:
            yield page
        finally:
            browser.close()
    assert complaints == []


def open_panel(page: Any) -> Any:
    """Click on the panel in the toolbar's list; return it, with its content and its style sheet loaded."""
    page.locator("#djdt-PoolDoctorPanel a").click()
    content = page.locator("#PoolDoctorPanel .pool-doctor")
    content.wait_for()
    page.wait_for_function("panel => getComputedStyle(panel).paddingBottom == '24px'", arg=content.element_handle())
    return content
