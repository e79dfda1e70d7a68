"""The panel of django-debug-toolbar: how the request just made used its database connections."""

from __future__ import annotations

from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from debug_toolbar.panels import Panel
from django.apps import apps
from django.core import checks
from django.template.loader import render_to_string

from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.scope import current
from pool_doctor.report.words import duration, share
from pool_doctor.toolbar.collector import RequestCollector
from pool_doctor.toolbar.figures import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from django.http import HttpRequest, HttpResponse

_OFF = 'Nothing is recorded: POOL_DOCTOR["ENABLED"] is False.'
_NO_SCOPE = "This request did not come through Django's WSGI or ASGI handler, so nothing is known of its connections."


class PoolDoctorPanel(Panel):
    """Shows checkouts, waits and holds of one request. Add its path to DEBUG_TOOLBAR_PANELS."""

    is_async = True
    template = "pool_doctor/panel.html"
    nav_title = "Connections"
    nav_icon: Any = "pool_doctor/panel.svg"

    _collector: RequestCollector | None = None

    @property
    def nav_subtitle(self) -> str:
        """The one number that matters, for the sidebar."""
        return _headline(self.get_stats())

    @property
    def title(self) -> str:
        """The same as the panel's own title."""
        return self.nav_subtitle[0].upper() + self.nav_subtitle[1:]

    @property
    def content(self) -> str:
        """What the panel shows. A stored panel has no request, and so no nonce for its style sheet."""
        nonce = self.toolbar.csp_nonce if self.toolbar.request is not None else None
        return render_to_string(self.template, {**self.get_stats(), "nonce": nonce})

    @classmethod
    def run_checks(cls) -> list[checks.CheckMessage]:
        """Check that the app is installed whose work the panel shows."""
        if apps.is_installed("pool_doctor"):
            return []
        return [
            checks.Error(
                f'{cls.__module__}.{cls.__name__} is one of DEBUG_TOOLBAR_PANELS, but "pool_doctor" is not installed.',
                hint='Add "pool_doctor" to INSTALLED_APPS. See docs/checks.md#e001.',
                id="pool_doctor.E001",
            )
        ]

    def process_request(self, request: HttpRequest) -> Any:
        """Listen to the request's connections while it is answered; ``request`` may be answered by a coroutine."""
        scope = current.get()
        if scope is None or not recorder.enabled:
            return self.get_response(request)
        collector = self._collector = RequestCollector(scope)
        collector.start()
        try:
            response = self.get_response(request)
        except BaseException:
            collector.stop()
            raise
        if isawaitable(response):
            return _finish(response, collector)
        collector.stop()
        return response

    def generate_stats(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Record what was heard. No query is made."""
        if self._collector is not None:
            self.record_stats(describe(self._collector))
        else:
            self.record_stats({"problem": _NO_SCOPE if recorder.enabled else _OFF})

    def generate_server_timing(self, request: HttpRequest, response: HttpResponse) -> None:  # noqa: ARG002
        """Record the durations of the Server-Timing header, in milliseconds as its specification has it."""
        totals = self.get_stats().get("totals")
        if totals is not None:
            for key, title in (("wait", "Waiting for connections"), ("hold", "Holding connections")):
                self.record_server_timing(f"pool_{key}", title, f"{totals[key] * 1000:.3f}")

    def get_headers(self, request: HttpRequest) -> dict[str, str]:  # noqa: ARG002
        """Return the Server-Timing header, with the metrics pool_wait and pool_hold."""
        timings = self.get_server_timing_stats().items()
        metrics = [f'{key};dur={timing["value"]};desc="{timing["title"]}"' for key, timing in timings]
        return {"Server-Timing": ", ".join(metrics)} if metrics else {}


async def _finish(response: Awaitable[HttpResponse], collector: RequestCollector) -> HttpResponse:
    try:
        return await response
    finally:
        collector.stop()


def _headline(stats: dict[str, Any]) -> str:
    totals = stats.get("totals")
    if totals is None:
        return "nothing recorded"
    if not stats["databases"]:
        return "no connection used"
    if not totals["hold"]:
        return f"no connection after {duration(totals['wait'])}"
    return f"held {duration(totals['hold'])}, {share(totals['query_time'], totals['hold'])} in queries"
