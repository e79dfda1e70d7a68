"""Drives the recorder as the adapters do, and reads back what it wrote."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from pool_doctor.recording.channel import Channel, Description
from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.recorder import Options, Recorder
from pool_doctor.recording.scope import Scope, current
from pool_doctor.recording.snapshot import AliasSnapshot, PoolSettings, ProcessSnapshot

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pool_doctor.recording.checkout import Checkout

POOL = PoolSettings(min_size=1, max_size=4, timeout=10.0)
SITE = "shop/views.py:12 view"
RING_SIZE = 1024
THREADS = 16


def options(directory: Path, ring_size: int = RING_SIZE, retention: float = 3600.0) -> Options:
    """Return options that record into a directory."""
    return Options(directory, ring_size, retention, "tests")


def started(directory: Path, ring_size: int = RING_SIZE, retention: float = 3600.0) -> Recorder:
    """Return a recorder of its own that records into a directory."""
    recorder = Recorder()
    recorder.start(options(directory, ring_size, retention))
    return recorder


def description(alias: str = "default", pool: PoolSettings | None = POOL) -> Description:
    """Return what is fixed about an alias."""
    return Description(alias, "django.db.backends.postgresql", "request" if pool else "unpooled", pool)


def channel_of(recorder: Recorder, alias: str = "default", pool: PoolSettings | None = POOL) -> Channel:
    """Return the channel of an alias, which is there."""
    channel = recorder.channel(description(alias, pool))
    assert channel is not None
    return channel


def check_out(channel: Channel, site: str = SITE) -> Checkout:
    """Ask for a connection and get it."""
    asked = channel.ask()
    return channel.got(asked, channel.ring.sites.number(site))


def query(checkout: Checkout) -> None:
    """Run one query that takes no time."""
    checkout.query_ended(checkout.query_started())


def run(channel: Channel, name: str = "GET orders/", checkouts: int = 1, kind: str = "wsgi") -> Scope:
    """Do one run of a scope: so many checkouts, one after another, each with one query."""
    scope = Scope(name, kind, current.get())
    current.set(scope)
    for _ in range(checkouts):
        checkout = check_out(channel)
        query(checkout)
        checkout.need_ended()
        checkout.returned()
    current.set(scope.outer)
    scope.end(channel.ring)
    return scope


def in_threads(work: Callable[[int], None], number: int = THREADS) -> None:
    """Run work(0), work(1)... in threads that begin together; fail where one fails."""
    barrier = threading.Barrier(number)
    failures: list[BaseException] = []

    def one(index: int) -> None:
        try:
            barrier.wait()
            work(index)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    threads = [threading.Thread(target=one, args=(index,)) for index in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def read_one(directory: Path, since: float | None = None) -> ProcessSnapshot:
    """Read a directory with one ring file in it, and nothing to complain about."""
    recordings = read_directory(directory, since)
    assert recordings.problems == []
    (process,) = recordings.processes
    return process


def read_alias(directory: Path, since: float | None = None, alias: str = "default") -> AliasSnapshot:
    """Read one alias of the one ring file in a directory."""
    return read_one(directory, since).aliases[alias]


def since_the_start(directory: Path) -> float:
    """Return the beginning of a window over all that the one process has recorded."""
    return math.nextafter(read_one(directory).started_at, math.inf)
