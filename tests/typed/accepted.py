"""Programs that use the public names well."""

from __future__ import annotations

from typing import assert_type

import pool_doctor
from pool_doctor import hold, scope
from pool_doctor.analysis.budget import per_worker
from pool_doctor.analysis.queueing import ErlangC, FiniteSource
from pool_doctor.analysis.replay import Request, replay
from pool_doctor.backends.postgresql.base import DatabaseWrapper

assert_type(pool_doctor.__version__, str)


def blocks() -> None:
    with scope("nightly import") as entered:
        assert_type(entered, None)
    with hold(), hold("replica"), hold(using="replica"):
        pass


@scope("nightly import")
def imported(path: str, *, limit: int = 0) -> list[str]:
    """Decorators keep the signature."""
    return [path] * limit


@hold(using="replica")
def listened(channel: str) -> bytes:
    return channel.encode()


@scope("poll")
async def polled(seconds: float) -> int:
    return int(seconds)


async def calls() -> None:
    assert_type(imported("a.csv", limit=2), list[str])
    assert_type(listened("orders"), bytes)
    assert_type(await polled(0.5), int)


def analysis() -> None:
    open_queue = ErlangC(arrival_rate=90.0, service_time=0.05, servers=8)
    closed_queue = FiniteSource(population=16, servers=4, service_time=0.05, think_time=0.2)
    for queue in (open_queue, closed_queue):
        assert_type(queue.p_wait, float)
        assert_type(queue.mean_wait, float)
        assert_type(queue.wait_quantile(0.99), float)
    assert_type(closed_queue.throughput, float)

    replayed = replay([Request(0.0, ((0.0, 0.01), (0.05, 0.01)), 0.1), Request(1.0, ((0, 1),))], max_size=2, threads=8)
    assert_type(replayed.waits, list[float])
    assert_type(replayed.p_wait, float)
    assert_type(replayed.wait_quantile(0.99), float)

    assert_type(
        per_worker(
            max_connections=100, superuser_reserved=3, reserved=0, others=5, hosts=2, workers=4, deploy_surge=0.25
        ),
        int,
    )


class AuditedWrapper(DatabaseWrapper):
    """An engine of a project's own on top of the releasing one."""

    def close(self) -> None:
        super().close()
