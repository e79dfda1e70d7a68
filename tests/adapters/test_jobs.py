"""Scopes of management commands and tasks."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from pool_doctor import scope
from pool_doctor.recording.scope import current
from tests.adapters.urls import query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.adapters.conftest import Recording


@pytest.fixture(autouse=True)
def database(global_alias: Callable[..., None]) -> Iterator[None]:
    """A pool that all threads share, and no scope left after the test."""
    global_alias(pool={"min_size": 1, "max_size": 8, "timeout": 20})
    yield
    assert current.get() is None


def runs(recording: Recording) -> dict[str, tuple[int, int]]:
    """Return runs and queries of each scope, when all connections of this thread are closed."""
    connections.close_all()
    found = recording.alias()
    assert found.in_use == 0
    return {name: (each.requests, each.queries) for name, each in found.scopes.items()}


class Command(BaseCommand):
    """Queries, and does other work after that."""

    requires_system_checks: list[str] = []  # noqa: RUF012 - as Django has it

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.then = then

    def handle(self, *args: Any, **options: Any) -> None:
        """Query, then do the other work."""
        query()
        connections.close_all()
        self.then()
        connections.close_all()


Command.__module__ = "shop.management.commands.send_invoices"


def test_a_command_is_named_after_its_module(recording: Recording) -> None:
    call_command(Command())
    assert recording.process().kind == "command"
    assert runs(recording) == {"command send_invoices": (1, 1)}


def test_a_command_that_fails(recording: Recording) -> None:
    def then() -> None:
        raise CommandError("no invoices")

    with pytest.raises(CommandError, match="no invoices"):
        call_command(Command(then))
    assert runs(recording) == {"command send_invoices": (1, 1)}


def test_a_command_in_a_command_is_the_outer_ones_work(recording: Recording) -> None:
    inner = Command()
    inner.__class__ = type("Command", (Command,), {"__module__": "shop.management.commands.other"})
    call_command(Command(lambda: call_command(inner)))
    assert runs(recording) == {"command send_invoices": (1, 2)}


def test_a_block_in_a_command_has_its_own_name(recording: Recording) -> None:
    def then() -> None:
        with scope("one invoice"):
            query()
            connections.close_all()

    call_command(Command(then))
    assert runs(recording) == {"command send_invoices": (1, 1), "one invoice": (1, 1)}


def test_a_command_without_a_query_leaves_no_file(recording: Recording) -> None:
    call_command("check", verbosity=0)
    assert not recording.directory.exists()


@pytest.fixture
def celery_app() -> Iterator[Any]:
    """A Celery app whose broker is this process's memory, and which leaves this process's logging alone."""
    celery = pytest.importorskip("celery")
    setup_logging = celery.signals.setup_logging
    setup_logging.connect(_leave_logging_alone, weak=False)
    yield celery.Celery("tests", broker="memory://", backend="cache+memory://", set_as_current=False)
    setup_logging.disconnect(_leave_logging_alone)


def _leave_logging_alone(**_: Any) -> None:
    """Tell Celery that logging is set up: it would raise the level of the root logger for all tests that follow."""


def _tasks(app: Any) -> Any:
    @app.task(name="shop.send_mail", shared=False, bind=True, max_retries=1, default_retry_delay=0)
    def send_mail(self: Any, failures: int = 0) -> str:
        query()
        connections.close_all()
        if failures > self.request.retries:
            raise self.retry()
        return "sent"

    @app.task(name="shop.send_all", shared=False)
    def send_all() -> str:
        query()
        connections.close_all()
        result: str = send_mail.apply().get(disable_sync_subtasks=False)
        query()
        connections.close_all()
        return result

    return send_mail, send_all


def test_eager_celery_tasks(celery_app: Any, recording: Recording) -> None:
    celery_app.conf.task_always_eager = True
    send_mail, send_all = _tasks(celery_app)
    assert send_all.delay().get() == "sent"
    assert send_mail.delay().get() == "sent"
    assert recording.process().kind == "celery"
    assert runs(recording) == {"task shop.send_all": (1, 2), "task shop.send_mail": (2, 2)}


def test_an_eager_task_that_is_retried(celery_app: Any, recording: Recording) -> None:
    celery_app.conf.task_always_eager = True
    send_mail, _ = _tasks(celery_app)
    assert send_mail.apply(kwargs={"failures": 1}).get() == "sent"
    assert current.get() is None
    assert runs(recording) == {"task shop.send_mail": (2, 2)}


def test_a_celery_worker(celery_app: Any, recording: Recording) -> None:
    from celery.contrib.testing.worker import start_worker

    send_mail, _ = _tasks(celery_app)
    with start_worker(celery_app, perform_ping_check=False, pool="threads", concurrency=2, shutdown_timeout=20):
        results = [send_mail.delay() for _ in range(6)]
        assert [result.get(timeout=20) for result in results] == ["sent"] * 6
    assert runs(recording) == {"task shop.send_mail": (6, 6)}


needs_tasks = pytest.mark.skipif(find_spec("django.tasks") is None, reason="Django's tasks framework comes with 6.0")


@needs_tasks
def test_djangos_tasks(recording: Recording) -> None:
    from tests.adapters import tasks

    assert tasks.send_mail.enqueue(3).return_value == 3
    assert tasks.send_mail.call(4) == 4
    connections.close_all()
    assert runs(recording)["task tests.adapters.tasks.send_mail"][0] == 2


@needs_tasks
def test_djangos_tasks_that_are_coroutines(recording: Recording) -> None:
    from tests.adapters import tasks

    assert asyncio.run(tasks.send_later.acall(5)) == 5
    assert recording.alias().open[0].scope == "task tests.adapters.tasks.send_later"


@needs_tasks
def test_djangos_tasks_that_fail(recording: Recording) -> None:
    from tests.adapters import tasks

    result = tasks.fail.enqueue()
    assert "ValueError" in result.errors[0].exception_class_path
    assert runs(recording) == {"task tests.adapters.tasks.fail": (1, 1)}
