"""The lifecycle of a Django connection: when it is asked for, there, needed, not needed, and given back.

A connection is needed while a cursor on it is open, a transaction is open, or something pins it. This mixin follows
that one interval. What it is mixed into decides what the end of the need means: an observed engine records it, a
releasing engine (release.py) gives the connection back.
"""

from __future__ import annotations

import os
import weakref
from functools import partial
from threading import get_ident
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from pool_doctor.adapters import cursors, pools
from pool_doctor.adapters.explain import explain_timeout
from pool_doctor.recording import layout
from pool_doctor.recording.checkout import OwnConnection
from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.scope import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from django.db.backends.utils import CursorWrapper

    from pool_doctor.adapters._django import DatabaseWrapper as _Base
    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.checkout import Checkout
else:
    _Base = object

# libpq's transaction status: ACTIVE, INTRANS and INERROR lie between IDLE (0) and UNKNOWN (4, a broken connection).
_IDLE, _UNKNOWN = 0, 4

# How many frames above site_of_call() the caller is at least: get_new_connection(), connect() and async_unsafe's inner
# function lie between; or _adopt(), _begin_need() and its caller.
_ABOVE_CONNECT = 4
_ABOVE_ADOPT = 4

_reference = weakref.ref
_followed = cursors.followed
_wrappers: weakref.WeakSet[LifecycleMixin] = weakref.WeakSet()


class LifecycleMixin(_Base):
    """Follows one wrapper's connection. Mix it in before a PostgreSQL DatabaseWrapper."""

    inherited_cursor: Any
    inherited_prepare_cursor: Any
    _channel: Channel | None = None
    _checkout: Checkout | None = None
    _own_connection: OwnConnection | None = None
    _pinned_by = ""
    _holds = 0
    _connecting = False
    """Whether a connection or cursor is being made: what runs meanwhile, as in receivers, ends no need and pins not."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        # What super() looks up at each call, which takes as long as three calls: looked up once.
        engine = super(LifecycleMixin, cls)  # noqa: UP008 - what comes after this mixin, not after cls
        cls.inherited_cursor = getattr(engine, "_cursor", None)
        cls.inherited_prepare_cursor = getattr(engine, "_prepare_cursor", None)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.start_following()

    def start_following(self) -> None:
        """Begin with no open cursor known; for a wrapper that was made before it was observed, call this once."""
        self._open_cursors: list[weakref.ref[Any]] = []
        _wrappers.add(self)

    def stop_following(self) -> None:
        """End the checkout as far as it got; the connection stays as it is."""
        self._end_checkout()
        self.forget_checkout()
        _wrappers.discard(self)

    def forget_checkout(self) -> None:
        """Know nothing of what went before: recording begins anew, or this is a forked child."""
        self._channel = None
        self._checkout = None
        self._own_connection = None
        self._open_cursors = []
        self._pinned_by = ""

    # Asked for, there, given back.

    def connect(self) -> None:
        """Connect to the database. Assume that the connection is closed."""
        outer, self._connecting = self._connecting, True
        try:
            super().connect()
        finally:
            self._connecting = outer

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self._checkout is not None:  # of a connection that was dropped without close()
            self._end_checkout()
        asked = self._ask()
        try:
            connection = super().get_new_connection(conn_params)
        except BaseException as error:
            self._note_failure(asked, error)
            raise
        if asked:
            self._got(asked)
        return connection

    def _close(self) -> None:
        pool = getattr(self.connection, "_pool", None)
        # First, because another thread may have the connection before super()._close() returns.
        self._end_checkout()
        self._own_connection = None
        super()._close()
        channel = self._channel
        if pool is not None and channel is not None:
            try:
                size, available = pools.gauge(pool)
                channel.sized(size, available)
            except Exception:
                recorder.failed()

    def _ask(self) -> int:
        if recorder.options is None:
            return 0
        try:
            channel = self._channel or self._find_channel()
            return channel.ask() if channel is not None else 0
        except Exception:
            recorder.failed()
            return 0

    def _got(self, asked: int) -> None:
        try:
            channel = self._channel
            if channel is not None:
                self._checkout = channel.got(asked, channel.ring.site_of_call(_ABOVE_CONNECT))
                if channel.unpooled:
                    self._own_connection = OwnConnection(channel)
        except Exception:
            recorder.failed()

    def _find_channel(self) -> Channel | None:
        description = pools.describe(self) if recorder.enabled else None
        if description is not None:
            self._channel = recorder.channel(description)
        return self._channel

    def _note_failure(self, asked: int, error: BaseException) -> None:
        channel = self._channel
        if channel is None or not asked:
            return
        try:
            outcome = layout.TIMEOUT if pools.is_pool_timeout(error) else layout.ERROR
            channel.failed(asked, channel.ring.site_of_call(_ABOVE_CONNECT), outcome)
            pool = pools.existing_pool(self)
            if pool is not None:
                size, available = pools.gauge(pool)
                channel.sized(size, available)
                if outcome == layout.TIMEOUT:
                    explain_timeout(error, channel, size)
        except Exception:
            recorder.failed()

    def _end_checkout(self) -> None:
        checkout = self._checkout
        self._checkout = None
        self._open_cursors.clear()
        self._pinned_by = ""
        if checkout is not None:
            try:
                checkout.returned()
            except Exception:
                recorder.failed()

    # Needed, not needed.

    def _prepare_cursor(self, cursor: Any) -> CursorWrapper:
        wrapped: CursorWrapper = self.inherited_prepare_cursor(cursor)
        checkout = self._checkout
        if checkout is None or checkout.closed:
            if recorder.options is not None:
                self._begin_need()
        elif not checkout.needed_since:
            checkout.needed_since = monotonic_ns()
        self._open_cursors.append(_reference(cursor))
        kinds = type(wrapped), type(cursor)
        try:
            followed = _followed[kinds]
        except KeyError:
            followed = cursors.follow(*kinds)
        if followed is not kinds[0]:
            wrapped.__class__ = followed
        return wrapped

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
        # Only atomic() forces a transaction to begin; with autocommit off, it begins with the next query.
        if force_begin_transaction_with_broken_autocommit and not autocommit:
            self._begin_need()
            try:
                if self._checkout is not None:
                    self._checkout.transaction_began()
            except Exception:
                recorder.failed()

    def _commit(self) -> None:
        self._end_transaction(super()._commit)

    def _rollback(self) -> None:
        self._end_transaction(super()._rollback)

    def _end_transaction(self, end: Callable[[], None]) -> None:
        checkout = self._checkout
        started = monotonic_ns()
        try:
            end()
        finally:
            if checkout is not None:
                try:
                    checkout.transaction_ended(started)
                except Exception:
                    recorder.failed()
            self._check_need()

    def _begin_need(self) -> None:
        try:
            checkout = self._checkout
            if checkout is None or checkout.closed:
                checkout = self._adopt()
            if checkout is not None and not checkout.needed_since:
                checkout.needed_since = monotonic_ns()
        except Exception:
            recorder.failed()

    def _adopt(self) -> Checkout | None:
        """Begin a checkout for a connection that is there already: its last one ended with its scope."""
        channel = self._channel or self._find_channel()
        if channel is None or self.connection is None:
            return None
        self._checkout = channel.got(monotonic_ns(), channel.ring.site_of_call(_ABOVE_ADOPT), at_once=True)
        return self._checkout

    def cursor_closed(self, cursor: Any) -> None:
        """Note that a cursor was closed; the second time counts for nothing."""
        known = self._open_cursors
        if len(known) == 1 and known[0]() is cursor:
            del known[0]
        elif known:
            # Cursors that were collected unclosed count as closed from here on.
            known[:] = [other for other in known if _is_open(other(), cursor)]
        if not known:
            self._check_need()

    def _has_open_cursors(self) -> bool:
        known = self._open_cursors
        known[:] = [other for other in known if _is_open(other(), None)]
        return bool(known)

    def _check_need(self) -> None:
        """End the need unless something still needs the connection."""
        connection = self.connection
        if (
            connection is None
            or (self._open_cursors and self._has_open_cursors())
            or self.in_atomic_block
            or self._pinned_by
            or self._holds
            or _IDLE < connection.pgconn.transaction_status < _UNKNOWN
        ):
            return
        self._need_ended()

    def _need_ended(self) -> None:
        checkout = self._checkout
        if checkout is not None and checkout.needed_since:
            try:
                checkout.need_ended()
            except Exception:
                recorder.failed()

    def in_transaction(self) -> bool:
        """Say whether a transaction is open on the server."""
        connection = self.connection
        return connection is not None and _IDLE < connection.pgconn.transaction_status < _UNKNOWN

    # Pinned.

    def pin(self, kind: str) -> None:
        """Keep the connection until the scope ends or close(): a statement of this kind has changed its session."""
        if self._pinned_by or self._connecting:
            return
        self._pinned_by = kind
        scope = current.get()
        if scope is not None:
            scope.at_end.append(partial(_end_pin, weakref.ref(self)))
        checkout = self._checkout
        if checkout is not None:
            try:
                checkout.pinned(kind, checkout.ring.site_of_call(_ABOVE_ADOPT))
            except Exception:
                recorder.failed()

    def end_pin(self) -> None:
        """Undo pin(), unless something else needs the connection too, or this is not its thread: then until close()."""
        if (
            self._pinned_by
            and self.connection is not None
            and not self._holds
            and not self.in_atomic_block
            and not self._has_open_cursors()
            and not _IDLE < self.connection.pgconn.transaction_status < _UNKNOWN
            and self._thread_ident == get_ident()
        ):
            self._unpin()

    def _unpin(self) -> None:
        self._pinned_by = ""
        self._check_need()

    def begin_hold(self) -> None:
        """Keep the connection, from the next query on, until as many end_hold() calls have come."""
        self._holds += 1

    def end_hold(self) -> None:
        """Undo one begin_hold()."""
        if self._holds:  # none where the connection was replaced meanwhile
            self._holds -= 1
        self._check_need()


def _end_pin(reference: weakref.ref[LifecycleMixin]) -> None:
    wrapper = reference()
    if wrapper is not None:
        wrapper.end_pin()


def _is_open(known: Any, closed: Any) -> bool:
    return known is not None and known is not closed and not known.closed


def forget_checkouts() -> None:
    """Make all wrappers of this process begin anew."""
    for wrapper in list(_wrappers):
        wrapper.forget_checkout()


os.register_at_fork(after_in_child=forget_checkouts)
