"""Listens to one request's connections while the toolbar is shown: each step as it happens, in nanoseconds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import TYPE_CHECKING

from pool_doctor.recording.callsite import CallSites

if TYPE_CHECKING:
    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
    from pool_doctor.recording.scope import Scope

Interval = tuple[int, int]
"""Start and end."""


class _Lines:
    """The application's lines that have run a query in this process: there are as many as there are in its code."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.names: dict[int, str] = {0: ""}
        self._sites = CallSites(self)
        self._next = itertools.count(1).__next__

    def number(self, name: str) -> int:
        number = self.numbers.get(name)
        if number is None:
            number = self.numbers.setdefault(name, self._next())
            self.names[number] = name
        return number

    def of_call(self) -> str:
        return self.names[self._sites.site_of_call(2)]


_lines = _Lines()


@dataclass(frozen=True, slots=True)
class Query:
    """One statement, fetch, commit or rollback: time in which the server works."""

    started: int
    ended: int
    line: str
    """The application's line that ran it, as "file:line function"; "" where it is not known."""
    sql: object
    """What the cursor was given; None for what has no text."""


@dataclass(slots=True)
class Held:
    """One connection from when it was asked for until it went back."""

    channel: Channel
    asked: int
    since: int
    site: str
    """The application's line that caused the checkout."""
    ended: int = 0
    returned: bool = False
    """Whether it went back before the response was there."""
    queries: list[Query] = field(default_factory=list)
    segments: list[Interval] = field(default_factory=list)
    """When it was needed."""
    transactions: list[Interval] = field(default_factory=list)
    transaction_since: int = 0
    pins: list[str] = field(default_factory=list)
    """What pins it: kind of statement and line."""
    count: int = 0
    """How many statements ran on it, the ones before the panel's middleware included."""
    query_time: int = 0

    def end(self, checkout: Checkout, ended: int) -> None:
        """Take over the sums that the recorder has for it."""
        self.ended = ended
        self.count = checkout.queries
        self.query_time = checkout.query_time
        if checkout.needed_since:
            self.segments.append((checkout.needed_since, ended))
        elif not self.segments and checkout.needed:  # needed from first to last, which has no segment of its own
            self.segments.append((self.since, ended))
        if self.transaction_since:
            self.transactions.append((self.transaction_since, ended))
            self.transaction_since = 0


@dataclass(frozen=True, slots=True)
class Failure:
    """A connection that was asked for and did not come."""

    channel: Channel
    asked: int
    ended: int
    site: str
    outcome: int
    """layout.TIMEOUT or layout.ERROR."""


class RequestCollector:
    """The collector of one request's scope, between start() and stop(); a Collector, see recording.scope."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.started = scope.started
        self.ended = 0
        """When the response was there; 0 until then."""
        self.held: list[Held] = []
        self.failures: list[Failure] = []
        self._open: dict[Checkout, Held] = {}
        self._sites: dict[tuple[Channel, int], str] = {}
        self._outer = scope.collector

    def start(self) -> None:
        """Listen from now on. A connection that is out already, as of a middleware before, counts from its checkout."""
        self.scope.collector = self
        for checkout in tuple(self.scope.open):
            self.checked_out(checkout)
            if checkout.needed:
                self._open[checkout].segments.append((checkout.since, checkout.since + checkout.needed))

    def stop(self) -> None:
        """Listen no more. What is still out counts as far as it got."""
        self.scope.collector = self._outer
        self.ended = monotonic_ns()
        for checkout, held in tuple(self._open.items()):
            held.end(checkout, self.ended)
        self._open.clear()

    # What the recorder calls. A thread of the request that goes on after the response is not listened to.

    def checked_out(self, checkout: Checkout) -> None:
        """Note that a connection is there."""
        if self.ended:
            return
        site = self._site(checkout.channel, checkout.site)
        held = self._open[checkout] = Held(checkout.channel, checkout.asked, checkout.since, site)
        self.held.append(held)

    def query(self, checkout: Checkout, started: int, ended: int, sql: object, in_transaction: bool) -> None:
        """Note that a query ran."""
        held = self._open.get(checkout)
        if held is None:
            return
        held.queries.append(Query(started, ended, _lines.of_call(), sql))
        if in_transaction and not held.transaction_since:
            held.transaction_since = started
        elif held.transaction_since and not in_transaction:  # a COMMIT that was run as a statement
            held.transactions.append((held.transaction_since, ended))
            held.transaction_since = 0

    def transaction_began(self, checkout: Checkout, at: int) -> None:
        """Note that an atomic block began."""
        held = self._open.get(checkout)
        if held is not None and not held.transaction_since:
            held.transaction_since = at

    def transaction_ended(self, checkout: Checkout, started: int, ended: int) -> None:
        """Note that a commit or rollback ran."""
        held = self._open.get(checkout)
        if held is None:
            return
        held.queries.append(Query(started, ended, _lines.of_call(), "COMMIT or ROLLBACK"))
        if held.transaction_since:
            held.transactions.append((held.transaction_since, ended))
            held.transaction_since = 0

    def pinned(self, checkout: Checkout, kind: str, site: int) -> None:
        """Note that a statement of this kind keeps the connection from going back."""
        held = self._open.get(checkout)
        if held is not None:
            line = self._site(checkout.channel, site)
            held.pins.append(f"{kind} at {line}" if line else kind)

    def segment(self, checkout: Checkout, started: int, ended: int) -> None:
        """Note that the connection was needed from ``started`` to ``ended``."""
        held = self._open.get(checkout)
        if held is not None:
            held.segments.append((started, ended))

    def returned(self, checkout: Checkout, ended: int) -> None:
        """Note that the connection went back."""
        held = self._open.pop(checkout, None)
        if held is not None:
            held.returned = True
            held.end(checkout, ended)

    def failed(self, channel: Channel, site: int, started: int, ended: int, outcome: int) -> None:
        """Note that a checkout ended without a connection."""
        if not self.ended:
            self.failures.append(Failure(channel, started, ended, self._site(channel, site), outcome))

    def _site(self, channel: Channel, number: int) -> str:
        key = channel, number
        site = self._sites.get(key)
        if site is None:
            site = self._sites[key] = channel.ring.sites.name(number)
        return site
