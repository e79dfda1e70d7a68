"""Scopes: the named piece of work (request, task, command, block) that checkouts belong to.

The current scope is a context variable, so concurrent async requests never see each other's.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Protocol

from pool_doctor.recording import layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
    from pool_doctor.recording.ring import Ring

REQUEST_KINDS = frozenset({"wsgi", "asgi"})

_write_event = layout.EVENT.pack_into

next_id = itertools.count(1).__next__
"""Numbers runs. A file keeps the low 32 bits."""
_NUMBERS = re.compile(r"[-_ ]?\d+([-_]\d+)*$")
_DEFAULT_NAME = re.compile(r"Thread-\d+ \((.+)\)")


class Collector(Protocol):
    """Gets the details of one scope as they happen; times are time.monotonic_ns."""

    def checked_out(self, checkout: Checkout) -> None:
        """Note that a connection is there."""

    def query(self, checkout: Checkout, started: int, ended: int, sql: object, in_transaction: bool) -> None:
        """Note that a query ran: what the cursor was given, if it is known, and whether a transaction is open now."""

    def transaction_began(self, checkout: Checkout, at: int) -> None:
        """Note that an atomic block began; other transactions show in their first query."""

    def transaction_ended(self, checkout: Checkout, started: int, ended: int) -> None:
        """Note that a commit or rollback ran."""

    def pinned(self, checkout: Checkout, kind: str, site: int) -> None:
        """Note that a statement of this kind, at the line of this number, keeps the connection from going back."""

    def segment(self, checkout: Checkout, started: int, ended: int) -> None:
        """Note that the connection was needed from ``started`` to ``ended``."""

    def returned(self, checkout: Checkout, ended: int) -> None:
        """Note that the connection went back."""

    def failed(self, channel: Channel, site: int, started: int, ended: int, outcome: int) -> None:
        """Note that a checkout ended without a connection."""


class Scope:
    """One run of a named piece of work."""

    __slots__ = ("at_end", "collector", "ended", "id", "kind", "name", "open", "outer", "queued", "spent", "started")

    def __init__(self, name: str, kind: str, outer: Scope | None = None) -> None:
        self.name = name
        self.outer = outer
        self.kind = kind
        self.id = next_id() & 0xFFFFFFFF
        self.started = monotonic_ns()
        self.ended = False
        self.queued = layout.UNKNOWN_QUEUED
        """How long it had waited for a thread before, in milliseconds."""
        self.open: set[Checkout] = set()
        self.spent: dict[Channel, list[int]] = {}
        """What was used of each alias: checkouts, queries; wait, hold, needed and query time in nanoseconds."""
        self.collector: Collector | None = outer.collector if outer is not None else None
        self.at_end: list[Callable[[], None]] = []
        """Called when the scope ends, before its sums are written."""

    def rename(self, name: str) -> None:
        """Call this work something else, now that more is known of it."""
        self.name = name
        for checkout in tuple(self.open):
            checkout.rename()

    def settle(self, checkout: Checkout, wait: int, hold: int, needed: int) -> None:
        """Add an open checkout to the sums, once: when it ends or when the scope does, whichever comes first."""
        spent = self.sums(checkout.channel)
        if checkout in self.open:
            # No call but the last, and nothing new that the garbage collector would look at: another thread may end the
            # scope, or settle a checkout of its own.
            spent[0] += 1
            spent[1] += checkout.queries
            spent[2] += wait
            spent[3] += hold
            spent[4] += needed
            spent[5] += checkout.query_time
            self.open.discard(checkout)

    def sums(self, channel: Channel) -> list[int]:
        """Return the sums of one alias."""
        if channel not in self.spent:
            self.spent.setdefault(channel, [0] * 6)
        return self.spent[channel]

    def end(self, ring: Ring | None) -> None:
        """Write the sums of this run to the ring, once. What is still open counts as far as it got.

        Without a pool the connection stays with the thread, not with this work: for the next run it is a new checkout.
        """
        if self.ended:
            return
        while self.at_end:
            self.at_end.pop()()
        self.ended = True
        now = monotonic_ns()
        for checkout in tuple(self.open):
            # One that is closed and still here is on its way back in another thread.
            if checkout.channel.description.pool is None and not checkout.closed:
                checkout.returned()
            else:
                checkout.settle_open(now)
        if ring is not None:
            self._write(ring, now)

    def _write(self, ring: Ring, now: int) -> None:
        number = ring.scopes.number(self.name)
        ring.cells[ring.runs + number] += 1
        served = layout.SERVED if self.kind in REQUEST_KINDS else 0
        flags = served | layout.FIRST
        # After a fork the parent's channels are still here, but its file is not this process's to write.
        used = [(channel, spent) for channel, spent in tuple(self.spent.items()) if spent[0] and channel.ring is ring]
        for channel, spent in used or _NOTHING:
            checkouts, queries, wait, hold, needed, query_time = spent
            if channel is not None:
                channel.add_run(number, checkouts, queries, wait, hold, needed, query_time)
            event = ring.claim()
            _write_event(
                ring.memory,
                ring.events_at + event % ring.ring_size * layout.EVENT_BYTES,
                event,
                layout.REQUEST,
                layout.NO_ALIAS if channel is None else channel.index,
                layout.OK,
                flags,
                number,
                self.queued,
                self.id,
                queries,
                checkouts,
                self.started,
                wait,
                hold,
                needed,
                query_time,
                now - self.started,
                event & 0xFFFFFFFF,
            )
            flags = served


_NOTHING = [(None, [0] * 6)]


current: ContextVar[Scope | None] = ContextVar("pool_doctor_scope", default=None)


class _Thread(threading.local):
    """What belongs to a thread, from the first time that it is looked for."""

    def __init__(self) -> None:
        thread = threading.current_thread()
        main = thread is threading.main_thread()
        name = "process" if main else f"thread {_thread_name(thread.name)}"
        self.scope = Scope(name, "process" if main else "thread")
        self.scope.ended = True


def _thread_name(name: str) -> str:
    default = _DEFAULT_NAME.fullmatch(name)
    return default[1] if default else _NUMBERS.sub("", name) or "unnamed"


def thread_scope() -> Scope:
    """Return the scope of what lies outside all scopes, named after the thread (without its number).

    It has ended before it began: each checkout in it is a run of its own.
    """
    return _of_thread.scope


_of_thread = _Thread()


def _begin_anew() -> None:
    # The thread that forked is the main thread of the child.
    global _of_thread  # noqa: PLW0603
    _of_thread = _Thread()


os.register_at_fork(after_in_child=_begin_anew)
