"""Writers that keep account of what was acknowledged, so that what a fault has lost, doubled or halved shows."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from django.db import Error

from tests.faults.databases import in_threads, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.faults.databases import Database
    from tests.faults.server import RestartableServer

PARTS = 2


class Ledger:
    """What writers asked for, and how it ended."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.failed: set[str] = set()
        self.errors: Counter[str] = Counter()
        self._lock = threading.Lock()

    def done(self, work: str) -> int:
        """Note that this is committed; return how many are."""
        with self._lock:
            self.acknowledged.add(work)
            return len(self.acknowledged)

    def broke(self, work: str, error: Exception) -> None:
        """Note that this has ended with an error: it may be written or not."""
        with self._lock:
            self.failed.add(work)
            self.errors[type(error).__qualname__] += 1

    def check(self, server: RestartableServer) -> None:
        """Fail if anything acknowledged is not there, anything is there twice or in half, or came from nowhere."""
        with server.admin() as admin:
            found = admin.execute("SELECT work, array_agg(part ORDER BY part) FROM written GROUP BY work").fetchall()
        written = {str(work): parts for work, parts in found}
        whole = list(range(PARTS))
        not_whole = {
            work: parts for work, parts in written.items() if parts != (whole if work.startswith("atomic") else [0])
        }
        assert not not_whole, f"in half or doubled: {not_whole}"
        assert not self.acknowledged - written.keys(), "acknowledged and lost"
        assert not written.keys() - self.acknowledged - self.failed, "written by nobody"


def write_through(
    database: Database, during: Callable[[], None], *, threads: int = 8, enough: Callable[[Ledger], bool]
) -> Ledger:
    """Write in many threads while `during` runs, and then until there is enough.

    Work is written in transactions of two rows and in single rows that commit themselves, in turns; a request each.
    """
    ledger = Ledger()
    over = threading.Event()

    def write(number: int) -> None:
        turn = 0
        while not (over.is_set() and enough(ledger)):
            turn += 1
            kind = "atomic" if turn % 2 else "single"
            work = f"{kind} {database.alias} {number}-{turn}"
            try:
                with request():
                    write_atomic(database, work) if turn % 2 else database.insert(work, 0)
                ledger.done(work)
            except Error as error:
                ledger.broke(work, error)

    def disturb() -> None:
        try:
            during()
        finally:
            over.set()

    in_threads(threads + 1, lambda number: write(number) if number else disturb())
    return ledger


def write_atomic(database: Database, work: str) -> None:
    """Write all parts in one transaction."""
    with database.atomic():
        for part in range(PARTS):
            database.insert(work, part)
