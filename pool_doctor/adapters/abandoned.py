"""Gives back the connections of wrappers that were collected while they held one, as when their thread has ended.

A finalizer runs wherever the collector does, also in a thread that holds the pool's lock: it does nothing but put into
a SimpleQueue, which is made for that. A thread gives the connection back.
"""

from __future__ import annotations

import gc
import os
import threading
from queue import SimpleQueue
from typing import Any
from weakref import finalize

from pool_doctor.recording.recorder import recorder


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


class Reaper:
    """The queue of abandoned connections, and the thread that empties it."""

    def __init__(self) -> None:
        self.reset()
        self._lock = threading.Lock()

    def reset(self) -> None:
        """Begin anew, as in a forked child, where no thread is left."""
        self._queue: SimpleQueue[Bound] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def watch(self, wrapper: object) -> Bound:
        """Return what the wrapper shall note its connection in; what is noted there when it is collected goes back."""
        bound = Bound()
        finalize(wrapper, self._queue.put, bound).atexit = False
        if self._thread is None:
            self._start()
        return bound

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
    if bound.changed:
        connection.close()  # the pool makes another in its place
    pool = getattr(connection, "_pool", None)
    if pool is not None:
        pool.putconn(connection)
    else:
        connection.close()


collector = Collector()
reaper = Reaper()

os.register_at_fork(after_in_child=reaper.reset)
