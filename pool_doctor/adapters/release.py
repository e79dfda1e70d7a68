"""The releasing engine: a pooled connection goes back when the need for it ends, not when the request does.

What Django keeps on the wrapper (autocommit, atomic blocks, savepoints, on_commit hooks, execute wrappers) stays there:
that is the logical connection. The physical one is bound to it only while it is needed. docs/releasing.md says when
that is.
"""

from __future__ import annotations

import itertools
import os
from collections import deque
from contextlib import contextmanager, suppress
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, ClassVar

from django.db import DatabaseError
from django.db.backends.signals import connection_created
from django.db.backends.utils import debug_transaction
from psycopg import sql
from psycopg.pq import TransactionStatus

from pool_doctor.adapters import pools
from pool_doctor.adapters.abandoned import collector, give_back, reaper
from pool_doctor.adapters.lifecycle import LifecycleMixin, _wrappers
from pool_doctor.adapters.native_pool import RecentFirstPool, recent_first
from pool_doctor.adapters.receivers import each_checkout
from pool_doctor.adapters.schema import holding
from pool_doctor.recording.recorder import recorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pool_doctor.adapters.abandoned import Bound

# How many frames above site_of_call() the caller is at least: _bind() and _cursor() lie between.
_ABOVE_BIND = 3

_next_serial = itertools.count(1).__next__
left_to_parent: list[Any] = []

# What connect() sets for a new logical connection, and a physical one that is bound to a logical one must not touch.
_LOGS = ("queries_log", "execute_wrappers")
_LOGICAL_STATE = (
    *_LOGS,
    "autocommit",
    "in_atomic_block",
    "savepoint_ids",
    "atomic_blocks",
    "needs_rollback",
    "closed_in_transaction",
    "errors_occurred",
    "close_at",
    "run_on_commit",
    "run_commit_hooks_on_set_autocommit_on",
)


class ReleasingMixin(LifecycleMixin):
    """Gives the connection back when its need ends. Mix it in before a PostgreSQL DatabaseWrapper with a pool.

    Without OPTIONS["pool"] it changes nothing.
    """

    releases_after_query = True

    _connection_pools: ClassVar[dict[str, Any]] = {}
    _released = False
    """Whether there is a logical connection without a physical one."""
    _handed_over: _HandedOver | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._met: set[int] = set()
        self._bound: Bound = reaper.watch(self)

    # Bound.

    @property
    def pool(self) -> Any:
        """The pool of this alias, or None without OPTIONS["pool"]."""
        if self._handed_over is not None:
            return self._handed_over
        if not self.settings_dict["OPTIONS"].get("pool"):
            return super().pool
        made = self._connection_pools.get(self.alias)
        if made is not None:
            return made
        # A pool keeps the wrapper whose method configures its connections, so it gets one that holds none.
        return recent_first(super(ReleasingMixin, type(self)(self.settings_dict, self.alias)).pool)

    def connect(self) -> None:
        """Bind a physical connection; where there is no logical one, begin it with Django's whole connect sequence."""
        if self._released:
            self._bind()
            return
        try:
            super().connect()
        except BaseException:
            self._give_up()
            raise
        self._meet(self.connection)
        if getattr(self.connection, "_pool", None) is not None:
            bound = self._bound
            bound.connection, bound.checkout, bound.changed = self.connection, self._checkout, False

    def _cursor(self, name: str | None = None) -> Any:
        # What hooks into ensure_connection() may run a query: the end of that query does not end the need for this one.
        outer, self._connecting = self._connecting, True
        without = self.connection is None
        try:
            if self._released:
                try:
                    self._bind()
                except self.Database.Error:
                    with self.wrap_database_errors:
                        raise
            return self.inherited_cursor(name)
        except BaseException:
            self._connecting = outer
            if without:  # what this call has bound, nobody else needs
                self._check_need()
            raise
        finally:
            self._connecting = outer

    # This and _return() run for each query: calls are written out where a call would cost as much as its body.

    def _bind(self) -> None:
        asked = monotonic_ns()
        pool = self._connection_pools.get(self.alias)
        connection = pool.at_once() if type(pool) is RecentFirstPool else None
        waited = 0
        if connection is None:
            waited = self._ask()
            try:
                connection = self._take()
            except BaseException as error:
                self._note_failure(waited, error)
                raise
        self.connection = connection
        self._released = False
        try:
            if recorder.options is not None:
                try:
                    channel = self._channel or self._find_channel()
                    if channel is not None:
                        self._checkout = channel.got(asked, channel.ring.site_of_call(_ABOVE_BIND), at_once=not waited)
                except Exception:
                    recorder.failed()
            if getattr(connection, "_serial", 0) not in self._met:
                self._introduce(connection)
            elif connection_created.receivers and each_checkout.wanted(self.__class__):
                self._announce(connection)
            if connection.autocommit is not self.autocommit:
                self._set_autocommit(self.autocommit)
        except BaseException:
            self._give_up()
            self._released = True
            raise
        bound = self._bound
        bound.connection, bound.checkout, bound.changed = connection, self._checkout, False

    def _introduce(self, connection: Any) -> None:
        """Run Django's connect sequence for a physical connection that this wrapper meets for the first time."""
        logical = {name: getattr(self, name) for name in _LOGICAL_STATE}
        self.run_on_commit = []
        self.run_commit_hooks_on_set_autocommit_on = False
        self._hide_queries()
        self._handed_over = _HandedOver(connection)
        try:
            super().connect()
        finally:
            self._handed_over = None
            self.connection = connection
            vars(self).update(logical)
        self._leave_no_transaction(connection)
        self._meet(connection)

    def _announce(self, connection: Any) -> None:
        """Send connection_created for a connection that this wrapper has met, in the mode in which connect() does."""
        logical = {name: getattr(self, name) for name in _LOGS}
        outer, self._connecting = self._connecting, True
        autocommit = self.autocommit or self.settings_dict["AUTOCOMMIT"]
        if connection.autocommit is not autocommit:
            self._set_autocommit(autocommit)
        self._hide_queries()
        try:
            connection_created.send(sender=self.__class__, connection=self)
        finally:
            self._connecting = outer
            vars(self).update(logical)
        self._leave_no_transaction(connection)

    def _hide_queries(self) -> None:
        # What receivers run is no query of the program: on the stock engine it ran when the connection was made.
        self.queries_log = deque(maxlen=0)
        self.execute_wrappers = []

    def _leave_no_transaction(self, connection: Any) -> None:
        # With AUTOCOMMIT off in settings, a receiver's query has begun one; the program's may need to be none.
        if self.autocommit and self._physical(connection).pgconn.transaction_status == TransactionStatus.INTRANS:
            connection.commit()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        if self._handed_over is not None:  # recorded already
            return super(LifecycleMixin, self).get_new_connection(conn_params)
        pool = self.pool
        if pool is None:
            return super().get_new_connection(conn_params)
        self._end_checkout()
        if self.connection is None and self._bound.connection is not None:  # dropped without close()
            give_back(self._bound)
        # What Django does with a new connection may be interrupted, and would lose what came from the pool.
        taken = None
        asked = self._ask()
        try:
            taken = self._take()
            self._handed_over = _HandedOver(taken)
            connection = super(LifecycleMixin, self).get_new_connection(conn_params)
            waited, asked = asked, 0
            if waited:
                self._got(waited)
            return connection
        except BaseException as error:
            self._note_failure(asked, error)
            self._end_checkout()
            if taken is not None:
                self._put(taken, pool)
            raise
        finally:
            self._handed_over = None

    def _meet(self, connection: Any) -> None:
        physical = self._physical(connection)
        serial = getattr(physical, "_serial", 0)
        if not serial:
            serial = physical._serial = _next_serial()  # noqa: SLF001 - as the pool itself marks its connections
        self._met.add(serial)

    def _configure_role(self, connection: Any) -> bool:
        # Django composes the statement with a cursor of the wrapper, which in the pool's thread waits for the pool.
        role = self.settings_dict["OPTIONS"].get("assume_role")
        if role:
            connection.execute(sql.SQL("SET ROLE {}").format(role))
        return bool(role)

    def schema_editor(self, *args: Any, **kwargs: Any) -> Any:
        """Return Django's schema editor, which holds the connection for its block."""
        editor = super().schema_editor(*args, **kwargs)
        editor.__class__ = holding(type(editor))
        return editor

    def forget_met(self) -> None:
        """Have all wrappers of this alias introduced anew: there may be new types, to be registered on connections."""
        for wrapper in list(_wrappers):
            if isinstance(wrapper, ReleasingMixin) and wrapper.alias == self.alias:
                wrapper._met.clear()  # noqa: SLF001

    # Given back.

    def _need_ended(self) -> None:
        if collector.thread and collector.runs_here():
            return  # at the next use
        connection = self.connection
        pool = getattr(connection, "_pool", None)
        if pool is None or self._connecting or self._thread_sharing_count:
            super()._need_ended()
        else:
            self._return(connection, pool, released=True)

    def _give_up(self) -> None:
        """Return a connection that could not be made ready. Without a pool it stays, as on the stock engine."""
        connection = self.connection
        pool = getattr(connection, "_pool", None)
        if pool is not None:
            self._return(connection, pool)

    def _return(self, connection: Any, pool: Any, *, released: bool = False) -> None:
        """Give the connection back; ``released`` says whether the logical connection goes on without it."""
        channel, checkout = self._channel, self._checkout
        self._checkout = None
        try:
            self._open_cursors.clear()
            self._pinned_by = ""
            # First, because another thread may have the connection before _put() returns.
            if checkout is not None:
                checkout.returned()
        except Exception:
            recorder.failed()
        finally:
            self.connection = None
            self._bound.connection = None
            self._released = released
            try:
                self._put(connection, pool)
            except BaseException:
                if getattr(connection, "_pool", None) is pool:  # interrupted before the pool had it
                    self._put(connection, pool)
                raise
        if channel is not None:
            cells = channel.cells
            cells[channel.size], cells[channel.available] = pools.gauge(pool)

    def _close(self) -> None:
        self._released = False
        connection = self.connection
        pool = getattr(connection, "_pool", None)
        if pool is None:
            super()._close()
            return
        with self.wrap_database_errors:
            try:
                if self._pinned_by:
                    self._reset_session(connection)
            finally:
                self._return(connection, pool)

    def close(self) -> None:
        """End the logical connection, and give a bound physical one back."""
        try:
            super().close()
        finally:
            if self.connection is None and self._bound.connection is not None:  # interrupted: Django has forgotten it
                give_back(self._bound)
        if self._released:
            self._released = False
            if self.in_atomic_block:
                self.closed_in_transaction = True
                self.needs_rollback = True

    def pin(self, kind: str) -> None:
        super().pin(kind)
        self._bound.changed = bool(self._pinned_by)

    def _unpin(self) -> None:
        if getattr(self.connection, "_pool", None) is not None:
            self._reset_session(self.connection)
        super()._unpin()

    def _reset_session(self, connection: Any) -> None:
        """Make the session like any other again: nobody has met it, and it is configured anew."""
        physical = self._physical(connection)
        try:
            physical.rollback()
            physical.autocommit = True
            physical.execute("DISCARD ALL")
            physical._prepared.clear()  # noqa: SLF001 - older ones do not see that their statements have gone
            self._configure_connection(physical)
            physical._serial = _next_serial()  # noqa: SLF001
        except self.Database.Error:
            physical.close()  # the pool makes another in its place
        except BaseException:
            physical.close()
            raise

    # The psycopg pool; other pools do these three otherwise.

    def _take(self) -> Any:
        pool = self._connection_pools.get(self.alias) or self.pool
        if pool.closed:
            pool.open()
        return pool.getconn()

    def _put(self, connection: Any, pool: Any) -> None:
        pool.putconn(connection)

    def _physical(self, connection: Any) -> Any:
        return connection

    # What Django asks of a connection that may be a logical one only.

    def get_autocommit(self) -> bool:
        """Get the autocommit state."""
        if self._released:
            return self.autocommit
        fresh = self.connection is None
        autocommit = super().get_autocommit()
        if fresh:
            self._check_need()
        return autocommit

    def set_autocommit(self, autocommit: bool, force_begin_transaction_with_broken_autocommit: bool = False) -> None:
        """Enable or disable autocommit. Only atomic() binds a connection for it."""
        if not self._released or force_begin_transaction_with_broken_autocommit:
            try:
                super().set_autocommit(autocommit, force_begin_transaction_with_broken_autocommit)
            finally:
                if autocommit or not force_begin_transaction_with_broken_autocommit:
                    self._check_need()
            return
        self.validate_no_atomic_block()
        if not autocommit:
            with debug_transaction(self, "BEGIN"):
                pass
        self.autocommit = autocommit
        if autocommit and self.run_commit_hooks_on_set_autocommit_on:
            self.run_and_clear_commit_hooks()
            self.run_commit_hooks_on_set_autocommit_on = False

    def is_usable(self) -> bool:
        """Test if a connection of the pool is usable."""
        if self._released:
            try:
                self.ensure_connection()
            except DatabaseError:
                return False
        usable = bool(super().is_usable())
        self._check_need()
        return usable

    def close_if_unusable_or_obsolete(self) -> None:
        """Close the logical connection at the end of a request; a physical one is checked by its pool."""
        if self._released:
            self.close()
        else:
            super().close_if_unusable_or_obsolete()

    @contextmanager
    def temporary_connection(self) -> Iterator[Any]:
        """Provide a cursor; close the connection afterwards if there was none before."""
        must_close = self.connection is None and not self._released
        try:
            with self.cursor() as cursor:
                yield cursor
        finally:
            if must_close:
                self.close()

    # The end of its thread, and a forked child.

    def thread_ended(self) -> None:
        """Let go of the connection, which is given back, unless another thread shares this wrapper."""
        if self._bound.connection is not None and not self._thread_sharing_count:
            reaper.take(self._bound)
            self._checkout = None
            self._end_without_connection()

    def leave_to_parent(self) -> None:
        """Let go of what belongs to the parent process, whose sockets this child must not touch."""
        connection = self.connection
        if getattr(connection, "_pool", None) is None:
            connection = self._bound.connection  # one that was dropped without close()
        if connection is not None:
            silence(self._physical(connection))
            left_to_parent.append(connection)
            self._bound.connection = None
        elif not self._released:
            return
        self._end_without_connection()

    def _end_without_connection(self) -> None:
        self.connection = None
        self._released = False
        if self.in_atomic_block:
            self.closed_in_transaction = True
            self.needs_rollback = True


class _HandedOver:
    """Stands in for the pool while a connection that was taken from it is introduced."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def open(self) -> None:
        """Do nothing: the pool is open."""

    def getconn(self) -> Any:
        """Return the connection that was taken."""
        return self._connection


def silence(connection: Any) -> None:
    """In a forked child: send what is still sent on a connection to the null device, not to the parent's server."""
    # The object is kept, so that closing it does not disturb a file that has the same number later.
    left_to_parent.append(connection)
    with suppress(Exception):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, connection.pgconn.socket, inheritable=False)
        os.close(null)


def leave_all_to_parent() -> None:
    """In a forked child: let go of all pools and connections, so that new ones are made at need."""
    for wrapper in list(_wrappers):
        if isinstance(wrapper, ReleasingMixin):
            wrapper.leave_to_parent()
    for pool in ReleasingMixin._connection_pools.values():  # noqa: SLF001
        for connection in list(pool._pool):  # noqa: SLF001
            silence(connection)
        # Its threads are the parent's, and its lock may be held by one: closing it the regular way would wait for both.
        pool._closed = True  # noqa: SLF001
        left_to_parent.append(pool)
    ReleasingMixin._connection_pools.clear()  # noqa: SLF001


os.register_at_fork(after_in_child=leave_all_to_parent)
