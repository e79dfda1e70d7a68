"""Ring files with known events, for the tests of what is read from them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pool_doctor.recording import layout
from pool_doctor.recording.channel import Channel, Description
from pool_doctor.recording.ring import create
from pool_doctor.recording.snapshot import PoolSettings

if TYPE_CHECKING:
    from pathlib import Path

ENGINE = "django.db.backends.postgresql"
POOL = PoolSettings(min_size=2, max_size=4, timeout=10.0)


class Worker:
    """A process that records what it is told. Times are seconds from its start on."""

    def __init__(
        self,
        directory: Path,
        *,
        kind: str = "wsgi",
        threads: int = 8,
        policy: str = "request",
        pool: PoolSettings | None = POOL,
        ring_size: int = 4096,
    ) -> None:
        self.ring = create(directory, ring_size, "gunicorn", kind)
        self.ring.set_threads(threads)
        self.started = time.monotonic_ns()
        self.channel = Channel(self.ring, 0, Description("default", ENGINE, policy, pool))
        self.runs = 0

    def request(
        self,
        start: float,
        end: float,
        *checkouts: tuple[float, float, float],
        scope: str = "GET shop/",
        queued: int = layout.UNKNOWN_QUEUED,
        needed: tuple[tuple[float, float], ...] = (),
        flags: int = layout.FIRST | layout.SERVED,
        outcome: int = layout.OK,
        ended: bool = True,
    ) -> None:
        """Record one run with (asked, wait, hold) for each checkout; ``needed`` is of the first, else it is all."""
        self.runs += 1
        ring, name = self.ring, self.ring.scopes.number(scope)
        for position, (asked, wait, hold) in enumerate(checkouts):
            for since, lasted in needed if not position else ():
                segment = (self._at(since), _ns(lasted), 0, 0, 0, 0)
                ring.record(layout.SEGMENTS, 0, layout.OK, 0, name, 0, self.runs, 1, 0, *segment)
            sole = 0 if needed and not position else layout.SOLE
            numbers = (self._at(asked), _ns(wait), _ns(hold), _ns(hold), 0, 0)
            ring.record(layout.CHECKOUT, 0, outcome, sole, name, 0, self.runs, 1, 0, *numbers)
        if ended:
            alias = 0 if checkouts else layout.NO_ALIAS
            numbers = (self._at(start), 0, 0, 0, 0, _ns(end - start))
            ring.record(layout.REQUEST, alias, layout.OK, flags, name, queued, self.runs, 1, len(checkouts), *numbers)

    def traffic(self, number: int, hold: float = 0.05, gap: float = 0.1) -> None:
        """Record requests one after another, with one checkout each that is needed for a tenth of its hold."""
        for start in (gap * index for index in range(number)):
            self.request(start, start + hold, (start, 0.0, hold), needed=((start, hold / 10),))

    def die(self) -> None:
        """End as a process does."""
        self.ring.close()

    def _at(self, seconds: float) -> int:
        return self.started + _ns(seconds)


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
