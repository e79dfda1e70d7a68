"""Hand-made recordings for the tests of the report: two busy workers, a command, and one process that ended."""

from __future__ import annotations

from dataclasses import replace

from pool_doctor.recording.histogram import Histogram
from pool_doctor.recording.snapshot import (
    AliasSnapshot,
    OpenCheckout,
    PoolSettings,
    ProcessSnapshot,
    Recordings,
    ScopeTotals,
)
from pool_doctor.report.model import Configuration, ServerFacts

NOW = 1_800_000_000.0
ENGINE = "django.db.backends.postgresql"
POOL = PoolSettings(min_size=2, max_size=4, timeout=10.0)

CONFIGURATION = Configuration("default", ENGINE, "request", POOL, pool_options=("min_size", "max_size", "timeout"))
SERVER = ServerFacts(
    version="17.2",
    max_connections=100,
    reserved=3,
    in_use=21,
    by_state={"idle in transaction": 9, "idle": 8, "active": 4},
    by_application={"shop": 16, "psql": 3, "(none)": 2},
    pooler=False,
)


def alias(**changes: object) -> AliasSnapshot:
    """One worker's pool in full use: 4 of 4 out, 3 waiting, 1,000 checkouts of 52 ms in its past."""
    snapshot = AliasSnapshot(
        alias="default",
        engine=ENGINE,
        policy="request",
        pool=POOL,
        size=4,
        available=0,
        in_use=4,
        waiting=3,
        peak_in_use=4,
        peak_waiting=7,
        checkouts=1_003,
        timeouts=0,
        errors=0,
        wait=Histogram.of([0.000_04] * 900 + [0.021] * 100),
        hold=Histogram.of([0.052] * 1_000),
        needed=Histogram.of([0.002] * 1_000),
        open=[
            OpenCheckout("GET orders/<int:pk>/", "shop/views.py:42", 0.0311, 0.0297),
            OpenCheckout("GET api-call/", "shop/views.py:88", 12.13, 12.07),
            OpenCheckout("GET sql/", "shop/views.py:97", 0.0042, 0.0),
            OpenCheckout("nightly import", "shop/management/commands/nightly.py:31", 724.2, 3.2, "SET"),
        ],
        scopes={
            "GET orders/<int:pk>/": ScopeTotals("GET orders/<int:pk>/", 600, 600, 1800, 1.2, 31.2, 1.3, 1.2),
            "GET api-call/": ScopeTotals("GET api-call/", 400, 400, 800, 0.9, 20.8, 0.8, 0.7),
        },
    )
    for name, value in changes.items():
        setattr(snapshot, name, value)
    return snapshot


def process(pid: int, snapshot: AliasSnapshot, **changes: object) -> ProcessSnapshot:
    """A gunicorn worker that has run for 724 s."""
    sample = ProcessSnapshot(
        path=f"/recordings/{pid}.ring",
        pid=pid,
        kind="wsgi",
        command="gunicorn shop.wsgi:application --workers 2 --threads 8 --bind 0.0.0.0:8000",
        started_at=NOW - 724,
        updated_at=NOW - 0.2,
        alive=True,
        covers_from=NOW - 724,
        truncated=False,
        torn=0,
        aliases={snapshot.alias: snapshot},
    )
    return replace(sample, **changes)


def ended(pid: int, snapshot: AliasSnapshot | None = None, **changes: object) -> ProcessSnapshot:
    """A process that was killed five minutes ago."""
    gone = snapshot or alias(size=0, available=0, in_use=0, waiting=0, open=[], checkouts=1_000)
    return process(pid, gone, alive=False, updated_at=NOW - 300, **changes)


def recordings(*processes: ProcessSnapshot, problems: tuple[str, ...] = ()) -> Recordings:
    """What a directory with the files of these processes reads as."""
    return Recordings("/recordings", list(processes), list(problems))
