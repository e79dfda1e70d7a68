"""Scopes: nested, decorating, concurrent, renamed; and the names of work that has none."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from pool_doctor.recording import layout, work
from pool_doctor.recording.image import Image
from pool_doctor.recording.scope import Scope, current, thread_scope
from pool_doctor.recording.work import begin, end, scope
from tests.recording.driving import (
    THREADS,
    channel_of,
    check_out,
    in_threads,
    query,
    read_alias,
    read_one,
    run,
    since_the_start,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from pool_doctor.recording.channel import Channel
    from pool_doctor.recording.recorder import Recorder


def use(channel: Channel) -> None:
    """Check a connection out and in."""
    check_out(channel).returned()


def counted(rings: Path) -> dict[str, tuple[int, int]]:
    """Return runs and checkouts by scope name, which are the same in the counters and in a window over everything."""
    whole, window = (
        {name: (totals.requests, totals.checkouts) for name, totals in read_alias(rings, since).scopes.items()}
        for since in (None, since_the_start(rings))
    )
    assert whole == window
    return whole


@pytest.fixture
def channel(recorder: Recorder) -> Channel:
    """The channel of the default alias."""
    return channel_of(recorder)


def test_the_innermost_block_names_the_work(channel: Channel, rings: Path) -> None:
    with scope("outer"):
        use(channel)
        with scope("inner"):
            use(channel)
            use(channel)
        use(channel)
    use(channel)
    assert counted(rings) == {"outer": (1, 2), "inner": (1, 2), "process": (1, 1)}


def test_a_block_that_raises_ends(channel: Channel, rings: Path) -> None:
    def fail() -> None:
        with scope("outer"), scope("inner"):
            use(channel)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert current.get() is None
    assert counted(rings) == {"inner": (1, 1)}


def test_one_scope_may_be_used_again_and_inside_itself(channel: Channel, rings: Path) -> None:
    again = scope("again")
    for _ in range(3):
        with again:
            use(channel)
    with again, again:
        use(channel)
    assert current.get() is None
    assert counted(rings) == {"again": (5, 4)}


def test_one_scope_may_be_used_in_several_threads_at_once(channel: Channel, rings: Path) -> None:
    shared = scope("shared")
    inside = threading.Barrier(2)
    first_left = threading.Event()

    def first() -> None:
        with scope("around first"):
            with shared:
                inside.wait()
            use(channel)
        first_left.set()

    def second() -> None:
        with shared:
            inside.wait()
            assert first_left.wait(10)
            use(channel)

    with ThreadPoolExecutor(2) as threads:
        for future in [threads.submit(first), threads.submit(second)]:
            future.result()
    assert counted(rings) == {"around first": (1, 1), "shared": (2, 1)}


def test_a_block_may_be_left_in_another_context_than_it_was_entered_in(channel: Channel, rings: Path) -> None:
    block = scope("moved")
    block.__enter__()
    use(channel)
    contextvars.Context().run(block.__exit__, None, None, None)
    use(channel)  # in the context that still names the ended run
    assert counted(rings) == {"moved": (1, 1), "process": (1, 1)}


def test_a_function_is_named_at_each_call(channel: Channel, rings: Path) -> None:
    @scope("nightly")
    def nightly(left: int) -> str:
        """Work at night."""
        use(channel)
        return nightly(left - 1) if left else "done"

    assert nightly(2) == nightly(left=0) == "done"
    assert (nightly.__name__, nightly.__doc__) == ("nightly", "Work at night.")
    assert counted(rings) == {"nightly": (4, 4)}


def test_an_async_function_is_named_until_it_is_done(channel: Channel, rings: Path) -> None:
    @scope("async job")
    async def job() -> str:
        use(channel)
        await asyncio.sleep(0)
        use(channel)
        return "done"

    async def main() -> str:
        result = await job()
        use(channel)
        return result

    assert inspect.iscoroutinefunction(job)
    assert asyncio.run(main()) == "done"
    assert counted(rings) == {"async job": (1, 2), "process": (1, 1)}


def test_generator_functions_are_refused_by_name() -> None:
    def rows() -> Iterator[int]:
        yield 1

    async def arows() -> AsyncIterator[int]:
        yield 1

    for function in (rows, arows):
        with pytest.raises(TypeError, match=rf"plain and async functions; .*{function.__name__}\(\) is a generator\."):
            scope("rows")(function)


@pytest.mark.parametrize("name", ["", "  ", None, 5, b"x", len])
def test_a_name_is_a_text(name: object) -> None:
    with pytest.raises(TypeError, match=r"takes the name of the work, a text that is not empty; it got"):
        scope(name)


def test_concurrent_tasks_are_never_mixed_up(channel: Channel, rings: Path) -> None:
    tasks = 12

    async def one(number: int, all_began: asyncio.Barrier) -> None:
        with scope(f"task {number}"):
            await all_began.wait()
            for _ in range(number + 1):
                checkout = check_out(channel)
                await asyncio.sleep(0)
                query(checkout)
                with scope(f"part of {number}"):
                    await asyncio.sleep(0)
                    use(channel)
                checkout.returned()

    async def main() -> None:
        all_began = asyncio.Barrier(tasks)
        await asyncio.gather(*(one(number, all_began) for number in range(tasks)))

    asyncio.run(main())
    expected = {f"task {number}": (1, number + 1) for number in range(tasks)}
    expected |= {f"part of {number}": (number + 1, number + 1) for number in range(tasks)}
    assert counted(rings) == expected


def test_threads_inside_a_scope_are_on_their_own(channel: Channel, rings: Path) -> None:
    with scope("starts threads"):
        use(channel)
        thread = threading.Thread(target=use, args=(channel,), name="importer-7")
        thread.start()
        thread.join()
        copied = threading.Thread(target=contextvars.copy_context().run, args=(use, channel))
        copied.start()
        copied.join()
    assert counted(rings) == {"starts threads": (1, 2), "thread importer": (1, 1)}


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("ThreadPoolExecutor-0_3", "thread ThreadPoolExecutor"),
        ("Thread-12 (refresh_prices)", "thread refresh_prices"),
        ("Thread-5", "thread Thread"),
        ("worker 3", "thread worker"),
        ("APScheduler", "thread APScheduler"),
        ("v2-sync", "thread v2-sync"),
        ("17", "thread unnamed"),
        ("", "thread unnamed"),
    ],
)
def test_threads_are_named_without_their_number(given: str, shown: str) -> None:
    names: list[str] = []
    thread = threading.Thread(target=lambda: names.append(thread_scope().name))
    thread.name = given
    thread.start()
    thread.join()
    assert names == [shown]


def test_each_checkout_outside_scopes_is_a_run_of_its_own(channel: Channel, rings: Path) -> None:
    for _ in range(3):
        use(channel)
    assert counted(rings) == {"process": (3, 3)}


def test_ending_twice_counts_once(channel: Channel, rings: Path) -> None:
    run_of_work = begin("once", "wsgi")
    use(channel)
    end(run_of_work)
    end(run_of_work)
    assert counted(rings) == {"once": (1, 1)}


def test_scopes_that_end_out_of_order_leave_nothing_current(channel: Channel, rings: Path) -> None:
    outer = begin("outer", "wsgi")
    inner = begin("inner", "block")
    end(outer)
    use(channel)
    end(inner)
    use(channel)
    assert counted(rings) == {"inner": (1, 1), "process": (1, 1)}


def test_what_is_checked_out_after_its_scope_ended_is_the_threads(channel: Channel, rings: Path) -> None:
    ended = begin("ended", "wsgi")
    end(ended)
    current.set(ended)
    use(channel)
    channel.failed(channel.ask(), 0, layout.TIMEOUT)
    assert counted(rings) == {"process": (2, 2)}


def test_a_failed_checkout_outside_scopes_is_the_threads(channel: Channel, rings: Path) -> None:
    channel.failed(channel.ask(), 0, layout.ERROR)
    assert counted(rings) == {"process": (1, 1)}


def test_a_connection_that_outlives_its_scope_counts_as_far_as_it_got(channel: Channel, rings: Path) -> None:
    with scope("leaks"):
        kept = check_out(channel)
        query(kept)
    totals = read_alias(rings).scopes["leaks"]
    assert (totals.requests, totals.checkouts, totals.queries) == (1, 1, 1)
    assert 0 < totals.needed <= totals.hold
    assert [row.scope for row in read_alias(rings).open] == ["leaks"]
    kept.returned()
    alias = read_alias(rings)
    assert (alias.open, alias.hold.count, alias.scopes["leaks"].checkouts) == ([], 1, 1)


def test_without_a_pool_the_next_scope_begins_a_new_checkout(recorder: Recorder, rings: Path) -> None:
    bare = channel_of(recorder, "bare", None)
    with scope("first"):
        kept = check_out(bare)
    assert kept.closed
    alias = read_alias(rings, alias="bare")
    assert (alias.in_use, alias.open, alias.scopes["first"].checkouts) == (0, [], 1)


def test_an_unpooled_checkout_that_is_collected_went_back(recorder: Recorder, rings: Path) -> None:
    bare = channel_of(recorder, "bare", None)
    scope_of_it = Scope("collected", "block")
    current.set(scope_of_it)
    checkout = check_out(bare)
    current.set(None)
    scope_of_it.open.clear()
    assert read_alias(rings, alias="bare").in_use == 1
    del checkout
    assert read_alias(rings, alias="bare").in_use == 0


def test_a_renamed_scope_has_its_new_name_everywhere(channel: Channel, rings: Path) -> None:
    request = begin("GET (unresolved)", "wsgi")
    kept = check_out(channel)
    assert [row.scope for row in read_alias(rings).open] == ["GET (unresolved)"]
    request.rename("GET orders/<int:pk>/")
    assert [row.scope for row in read_alias(rings).open] == ["GET orders/<int:pk>/"]
    query(kept)
    kept.returned()
    use(channel)
    end(request)
    assert counted(rings) == {"GET orders/<int:pk>/": (1, 2)}


def test_renaming_beyond_the_table_of_open_checkouts(channel: Channel, rings: Path) -> None:
    kept = [check_out(channel) for _ in range(layout.MAX_OPEN)]
    request = begin("GET early/", "wsgi")
    beyond = check_out(channel)
    request.rename("GET late/")
    beyond.returned()
    end(request)
    assert counted(rings) == {"GET late/": (1, 1)}
    (path,) = rings.glob("*.ring")
    image = Image(path.read_bytes())
    assert [image.scope(record[5]) for record in image.records()] == ["GET late/"] * 2
    for checkout in kept:
        checkout.returned()


def test_a_request_without_a_checkout_counts_and_a_block_without_one_makes_no_file(
    recorder: Recorder, rings: Path
) -> None:
    with scope("no database"):
        pass
    assert not rings.exists()
    end(begin("GET nodb/", "wsgi"))
    assert len(list(rings.glob("*.ring"))) == 1
    channel = channel_of(recorder)
    request = begin("GET nodb/", "wsgi")
    use(channel)
    end(request)
    assert counted(rings) == {"GET nodb/": (2, 1)}


def test_sums_of_a_run_are_those_of_its_checkouts(channel: Channel, rings: Path) -> None:
    ended = run(channel, "GET sums/", checkouts=3)
    _, _, wait, hold, needed, query_time = ended.spent[channel]
    for since in (None, since_the_start(rings)):
        totals = read_alias(rings, since).scopes["GET sums/"]
        assert (totals.requests, totals.checkouts, totals.queries) == (1, 3, 3)
        spent = [ns / 1e9 for ns in (wait, hold, needed, query_time)]
        assert [totals.wait, totals.hold, totals.needed, totals.query_time] == pytest.approx(spent)
        assert totals.query_time <= totals.needed <= totals.hold


def test_a_run_has_sums_for_each_alias(recorder: Recorder, rings: Path) -> None:
    channels = [channel_of(recorder, alias) for alias in ("default", "other")]
    with scope("import"):
        for number in range(40):
            checkout = check_out(channels[number % 4 == 0])
            query(checkout)
            checkout.returned()
    for alias, number in (("default", 30), ("other", 10)):
        totals = read_one(rings).aliases[alias].scopes["import"]
        assert (totals.requests, totals.checkouts, totals.queries) == (1, number, number)


@pytest.mark.usefixtures("busy_switching")
def test_sums_of_threads_that_share_a_scope_are_added_up_once(channel: Channel, rings: Path) -> None:
    with scope("import"):
        context = contextvars.copy_context()

        def work(index: int) -> None:
            context.copy().run(lambda: [use(channel) for _ in range(500)])

        in_threads(work)
    assert counted(rings) == {"import": (1, THREADS * 500)}


def test_a_collector_hears_of_each_step(channel: Channel) -> None:
    heard: list[str] = []

    class Listening:
        def __getattr__(self, name: str) -> Callable[..., None]:
            return functools.partial(lambda step, *details: heard.append(step), name)

    request = begin("GET panel/", "wsgi")
    request.collector = Listening()
    checkout = check_out(channel)
    query(checkout)
    checkout.need_ended()
    checkout.returned()
    channel.failed(channel.ask(), 0, layout.TIMEOUT)
    end(request)
    assert heard == ["checked_out", "query", "segment", "returned", "failed"]


def test_a_failure_of_recording_fails_no_work(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    channel_of(recorder)
    monkeypatch.setattr(recorder.ring, "record", lambda *fields: 1 / 0)
    monkeypatch.setattr(recorder, "note_kind", lambda kind: 1 / 0)
    with work.scope("goes on"):
        pass
    assert current.get() is None
    assert [record.getMessage() for record in caplog.records] == [
        "pool_doctor: recording failed; more failures are not logged"
    ]
