"""Requests that never were: their connections as the panel's collector would have heard of them."""

from __future__ import annotations

from pool_doctor.recording import layout
from pool_doctor.recording.channel import Channel, Description
from pool_doctor.recording.ring import Ring
from pool_doctor.recording.scope import Scope
from pool_doctor.recording.snapshot import PoolSettings
from pool_doctor.toolbar.collector import Failure, Held, Query, RequestCollector

MS = 1_000_000
POOL = PoolSettings(min_size=1, max_size=4, timeout=10.0, max_idle=float("inf"))


class Requested(RequestCollector):
    """A request of so many milliseconds; all times are nanoseconds from its start."""

    def __init__(
        self,
        milliseconds: int = 100,
        policy: str = "request",
        pool: PoolSettings | None = POOL,
        engine: str = "django.db.backends.postgresql",
    ) -> None:
        super().__init__(Scope("GET page/", "wsgi"))
        self.started = 0
        self.ended = milliseconds * MS
        self.site = "shop/views.py:12 page"
        self.line = "shop/views.py:15 page"
        self.text: object = "SELECT 1"
        about = Description("imaginary", engine, policy, pool)
        self.channel = Channel(Ring(None, 1024, "tests", "process"), 0, about)

    def hold(self, asked: int, since: int, ended: int, *, returned: bool = True) -> Held:
        """Add a connection that was held."""
        held = Held(self.channel, asked, since, self.site, ended=ended, returned=returned)
        self.held.append(held)
        return held

    def query(self, started: int, ended: int) -> Query:
        """Return a query, which the last connection counts."""
        self.held[-1].count += 1
        self.held[-1].query_time += ended - started
        return Query(started, ended, self.line, self.text)

    def fail(self, asked: int, ended: int, outcome: int = layout.TIMEOUT) -> None:
        """Add a checkout that failed."""
        self.failures.append(Failure(self.channel, asked, ended, self.site, outcome))
