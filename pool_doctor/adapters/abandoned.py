"""Gives back the connections of wrappers that were collected, or whose thread has ended, while they held one.

A finalizer runs wherever the collector does, also in a thread that holds the pool's lock: it does nothing but put into
a SimpleQueue, which is made for that. A thread gives the connection back.

The end of a thread is noticed at once, by something that lives in its locals. Wrappers are parts of cycles, and where
all other threads wait for a connection that they hold, nothing is allocated that would start the collector.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from pool_doctor.recording.recorder import recorder

if TYPE_CHECKING:
    from pool_doctor.adapters.release import ReleasingMixin


class Collector:
    """Knows which thread the garbage collector runs in: what it finalizes there may have interrupted anything."""

    def __init__(self) -> None:
        self.thread = 0
        """The thread that collects, 0 while none does."""
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _info: dict[str, int]) -> None:
        self.thread = threading.get_ident() if phase == "start" else 0

    def runs_here(self) -> bool:
        """Say whether the caller is a finalizer, called by the collector."""
        return self.thread == threading.get_ident()


class Bound:
    """What a wrapper holds, outside of the wrapper, so that it outlives it."""

    __slots__ = ("changed", "checkout", "connection")

    def __init__(self) -> None:
        self.connection: Any = None
        self.checkout: Any = None
        self.changed = False
        """Whether the session is not like any other any more."""


class _Thread(threading.local):
    """What a thread has made; it is gone as soon as the thread has ended."""

    def __init__(self) -> None:
        self.wrappers = _Wrappers()


class _Wrappers:
    def __init__(self) -> None:
        self.alive: WeakSet[ReleasingMixin] = WeakSet()

    def __del__(self) -> None:
        # In a forked child the threads of the parent have not ended.
        if not sys.is_finalizing() and os.getpid() == reaper.pid:
            for wrapper in list(self.alive):
                wrapper.thread_ended()


class Reaper:
    """The queue of abandoned connections, and the thread that empties it."""

    def __init__(self) -> None:
        self._of_thread = _Thread()
        self.reset()

    def reset(self) -> None:
        """Begin anew, as in a forked child, where no thread is left."""
        self.pid = os.getpid()
        self._queue: SimpleQueue[Bound] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, wrapper: ReleasingMixin) -> Bound:
        """Return what the wrapper shall note its connection in; what is noted there when it is collected goes back."""
        bound = Bound()
        finalize(wrapper, self._queue.put, bound).atexit = False
        self._of_thread.wrappers.alive.add(wrapper)
        if self._thread is None:
            self._start()
        return bound

    def take(self, bound: Bound) -> None:
        """Give back what is noted there, soon."""
        self._queue.put(bound)

    def _start(self) -> None:
        # Not in the finalizer: starting a thread takes locks.
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="pool_doctor-reaper", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        queue = self._queue
        while True:
            bound = queue.get()
            try:
                give_back(bound)
            except Exception:
                recorder.failed()


def give_back(bound: Bound) -> None:
    """Return what a collected wrapper held to its pool."""
    connection, bound.connection = bound.connection, None
    if connection is None:
        return
    if bound.checkout is not None:
        bound.checkout.returned()
    if bound.changed:  # the pool makes another in its place
        getattr(connection, "invalidate", connection.close)()
    pool = getattr(connection, "_pool", None)
    if pool is not None and hasattr(pool, "putconn"):
        pool.putconn(connection)
    else:
        connection.close()


collector = Collector()
reaper = Reaper()

os.register_at_fork(after_in_child=reaper.reset)
