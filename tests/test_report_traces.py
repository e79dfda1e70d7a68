"""Ring files become traces: whose, from when on, on which clock, and what is said of the rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout, ring
from pool_doctor.recording.directory import prepare
from pool_doctor.recording.reader import read_directory
from pool_doctor.recording.snapshot import PoolSettings
from pool_doctor.report import traces
from pool_doctor.report.traces import Traces
from tests.report_rings import Worker

if TYPE_CHECKING:
    from pathlib import Path

    from pool_doctor.report.traces import Traffic


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    folder = tmp_path / "recordings"
    prepare(folder)
    return folder


def traffic(directory: Path, since: float | None = None, threads: int | None = None) -> Traffic:
    found = Traces(read_directory(directory, since), since).traffic("default", threads=threads)
    assert found is not None
    return found


def test_a_request_is_as_it_was_recorded(directory: Path) -> None:
    worker = Worker(directory, threads=16)
    worker.request(
        1.0, 2.0, (1.1, 0.2, 0.5), (1.8, 0.0, 0.1), queued=40, needed=((1.3, 0.05), (1.7, 0.02)), scope="GET a/"
    )
    trace = traffic(directory).trace
    began = worker.started / 1e9
    [found] = trace.requests
    assert (found.scope, found.threaded) == ("GET a/", True)
    assert (found.start - began, found.end - began) == pytest.approx((1.0, 2.0))
    assert found.queued == pytest.approx(0.040)
    first, second = found.checkouts
    assert (first.start - began, first.wait, first.hold, first.outcome) == pytest.approx((1.1, 0.2, 0.5, "ok"))
    assert [(start - began, lasted) for start, lasted in first.needed] == [
        pytest.approx((1.3, 0.05)),
        pytest.approx((1.7, 0.02)),
    ]
    [whole] = second.needed
    assert whole == pytest.approx((second.start, 0.1))
    assert (trace.policy, trace.max_size, trace.min_size, trace.timeout, trace.threads) == ("request", 4, 2, 10.0, 16)
    # Idle time around the traffic is left out; the wait for a thread belongs to it.
    assert (trace.start - began, trace.end - began) == pytest.approx((0.96, 2.0))


def test_workers_are_on_one_clock(directory: Path) -> None:
    first, second = Worker(directory), Worker(directory)
    first.request(1.0, 2.0, (1.0, 0.0, 1.0))
    second.request(1.0, 2.0, (1.0, 0.0, 1.0))
    apart = (second.started - first.started) / 1e9
    trace = traffic(directory).trace
    starts = sorted(request.start for request in trace.requests)
    assert starts[1] - starts[0] == pytest.approx(apart)
    assert trace.processes == [0, 1]


def test_failed_checkouts_requests_without_one_and_other_work(directory: Path) -> None:
    worker = Worker(directory)
    worker.request(0.0, 3.0, (0.0, 3.0, 0.0), outcome=layout.TIMEOUT)
    worker.request(0.0, 1.0, scope="GET nodb/")
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0), scope="thread cron", flags=layout.FIRST)
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0), ended=False)
    found = [
        (request.scope, [checkout.outcome for checkout in request.checkouts], request.threaded)
        for request in traffic(directory).trace.requests
    ]
    assert found == [
        ("GET shop/", ["timeout"], True),
        ("thread cron", ["ok"], False),
        ("GET shop/", ["ok"], True),
        ("GET nodb/", [], True),
    ]


def test_the_window_begins_where_all_rings_reach_back_to(directory: Path) -> None:
    busy, quiet = Worker(directory, ring_size=64), Worker(directory)
    for second in range(100):
        busy.request(second, second + 0.5, (second, 0.0, 0.5))
        quiet.request(second, second + 0.5, (second, 0.0, 0.5))
    trace = traffic(directory).trace
    by_worker = [[each for each in trace.requests if each.process == process] for process in trace.processes]
    assert [len(own) for own in by_worker] == [pytest.approx(31, abs=2)] * 2


def test_since_leaves_out_what_began_before(directory: Path) -> None:
    worker = Worker(directory)
    for second in range(10):
        worker.request(second, second + 0.5, (second, 0.0, 0.5))
    assert len(traffic(directory, since=time.time() + 5.5).trace.requests) == 4


@pytest.mark.parametrize(
    ("said", "kind", "given", "expected"),
    [((8, 8), "wsgi", None, 8), ((8, 0), "wsgi", None, None), ((8, 8), "asgi", None, None), ((8, 8), "wsgi", 4, 4)],
)
def test_threads(said: tuple[int, int], kind: str, given: int | None, expected: int | None, directory: Path) -> None:
    for threads in said:
        Worker(directory, threads=threads, kind=kind).request(0.0, 1.0, (0.0, 0.0, 1.0))
    assert traffic(directory, threads=given).trace.threads == expected


def test_a_server_that_served_more_at_once_than_it_said_is_not_believed(directory: Path) -> None:
    worker = Worker(directory, threads=1)
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0))
    assert traffic(directory).trace.threads == 1
    worker.request(0.5, 1.5, (0.5, 0.0, 1.0))
    assert traffic(directory).trace.threads is None


def test_only_processes_with_the_newest_settings_count(directory: Path) -> None:
    Worker(directory, pool=PoolSettings(2, 8, 10.0)).request(0.0, 1.0, (0.0, 0.0, 1.0))
    Worker(directory).request(0.0, 1.0, (0.0, 0.0, 1.0))
    found = traffic(directory)
    assert (found.trace.max_size, len(found.trace.requests)) == (4, 1)
    assert found.notes == ("1 process left out, recorded with another engine, policy or max_size than the newest one.",)


def test_commands_beside_web_workers_are_named_and_left_out(directory: Path) -> None:
    Worker(directory).request(0.0, 1.0, (0.0, 0.0, 1.0))
    celery = Worker(directory, kind="celery")
    celery.channel.got(celery.channel.ask(), 0)
    found = traffic(directory)
    assert [process.kind for process in found.workers] == ["wsgi"]
    assert found.notes == ("Left out: 1 celery process, whose pools have the same settings and had at most 1 in use.",)


def test_where_there_is_nothing_else_commands_count(directory: Path) -> None:
    Worker(directory, kind="command").request(0.0, 1.0, (0.0, 0.0, 1.0), flags=layout.FIRST)
    assert len(traffic(directory).trace.requests) == 1


def test_recordings_of_an_earlier_boot_are_left_out(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "boot_id", lambda: "another boot")
    Worker(directory).request(0.0, 1.0, (0.0, 0.0, 1.0))
    monkeypatch.undo()
    assert Traces(read_directory(directory)).traffic("default") is None
    Worker(directory).request(0.0, 1.0, (0.0, 0.0, 1.0))
    found = traffic(directory)
    assert len(found.trace.requests) == 1
    assert found.notes == ("1 process left out, recorded before this machine's last start.",)


def test_a_worker_that_was_replaced_leaves_its_place(directory: Path) -> None:
    first = Worker(directory)
    first.request(0.0, 0.0, (0.0, 0.0, 0.0))
    first.die()
    later = Worker(directory)
    later.request(0.0, 1.0, (0.0, 0.0, 1.0))
    Worker(directory).request(0.0, 1.0, (0.0, 0.0, 1.0))
    found = traffic(directory)
    assert len(found.workers) == 3
    assert (found.workers_at_once, found.trace.processes) == (2, [0, 1])


def test_a_connection_that_is_out_for_long_is_told(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(directory)
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0))
    worker.channel.got(worker.channel.ask(), 0)
    assert traffic(directory).notes == ()
    monkeypatch.setattr(traces, "_LONG_OUT", 0.0)
    [note] = traffic(directory).notes
    assert note.startswith("1 connection out for ")


def test_a_forged_record_is_left_out(directory: Path) -> None:
    worker = Worker(directory)
    worker.request(0.0, 1.0, (0.0, 0.0, -1.0))
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0), outcome=7)
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0), needed=((0.0, -0.5),))
    worker.request(1.0, 0.5, (1.0, 0.0, 0.0))
    worker.request(2.0, 3.0, (2.0, 0.0, 1.0))
    assert len(traffic(directory).trace.requests) == 1


def test_an_alias_that_nobody_used(directory: Path) -> None:
    Worker(directory)
    assert Traces(read_directory(directory)).traffic("other") is None


def test_the_peaks_of_the_day_are_those_before_the_recording(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(directory, ring_size=64)
    worker.channel.got(worker.channel.ask(), 0)
    worker.request(0.0, 1.0, (0.0, 0.0, 1.0))
    assert traffic(directory).trace.minutes == []
    minute = worker.started / 1e9 // 60 * 60
    for second in range(300):
        worker.request(second, second + 0.5, (second, 0.0, 0.5))
    [before] = traffic(directory).trace.minutes
    assert (before.start, before.peak) == (pytest.approx(minute, abs=1.5), 1)


def test_of_very_many_events_the_newest_are_taken(directory: Path) -> None:
    for worker in (Worker(directory), Worker(directory)):
        for second in range(2000):
            worker.request(second, second + 0.5, (second, 0.0, 0.5))
    everything = Traces(read_directory(directory)).traffic("default", most=10_000)
    newest = Traces(read_directory(directory)).traffic("default", most=4_096)
    assert everything is not None
    assert newest is not None
    assert (len(everything.trace.requests), everything.notes) == (4000, ())
    assert 1700 < len(newest.trace.requests) < 2200
    assert {request.process for request in newest.trace.requests} == {0, 1}
    assert newest.notes == ("Only the newest 4,096 recorded events are replayed; pool_simulate replays all.",)
