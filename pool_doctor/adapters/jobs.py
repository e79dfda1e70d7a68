"""Scopes of work that is no request: management commands, Django's tasks, Celery's tasks."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from pool_doctor.adapters.patching import Patches
from pool_doctor.recording.scope import Scope, current
from pool_doctor.recording.work import begin, end

if TYPE_CHECKING:
    from collections.abc import Callable

_DISPATCH_UID = "pool_doctor.jobs"

_patches = Patches()
_celery_runs: dict[str, Scope] = {}


def install() -> None:
    """Give each command and task a scope. Doing it twice is doing it once."""
    _patches.apply(BaseCommand, "execute", _execute)
    if find_spec("django.tasks") is not None:
        from django.tasks import Task  # noqa: PLC0415 - since Django 6.0

        _patches.apply(Task, "call", _call)
        _patches.apply(Task, "acall", _acall)
    if find_spec("celery") is not None:
        from celery import signals  # noqa: PLC0415 - an optional package

        signals.task_prerun.connect(_celery_started, weak=False, dispatch_uid=_DISPATCH_UID)
        signals.task_postrun.connect(_celery_ended, weak=False, dispatch_uid=_DISPATCH_UID)


def uninstall() -> None:
    """Undo install()."""
    _patches.undo()
    if find_spec("celery") is not None:
        from celery import signals  # noqa: PLC0415

        signals.task_prerun.disconnect(dispatch_uid=_DISPATCH_UID)
        signals.task_postrun.disconnect(dispatch_uid=_DISPATCH_UID)


def _execute(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def execute(self: BaseCommand, *args: Any, **options: Any) -> Any:
        outer = current.get()
        if outer is not None and not outer.ended:  # called by a request or another command: that is whose work it is
            return original(self, *args, **options)
        scope = begin(f"command {type(self).__module__.rpartition('.')[2]}", "command")
        try:
            return original(self, *args, **options)
        finally:
            end(scope)

    return execute


def _call(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = begin(f"task {self.module_path}", "task")
        try:
            return original(self, *args, **kwargs)
        finally:
            end(scope)

    return call


def _acall(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    async def acall(self: Any, *args: Any, **kwargs: Any) -> Any:
        scope = begin(f"task {self.module_path}", "task")
        try:
            return await original(self, *args, **kwargs)
        finally:
            end(scope)

    return acall


def _celery_started(*, task_id: str, task: Any, **_: Any) -> None:
    _celery_runs[task_id] = begin(f"task {task.name}", "celery")


def _celery_ended(*, task_id: str, **_: Any) -> None:
    scope = _celery_runs.pop(task_id, None)
    if scope is not None:
        end(scope)
