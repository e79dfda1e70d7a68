"""Tasks of Django's own framework, which comes with Django 6.0."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.tasks import task

from tests.adapters.urls import query


@task
def send_mail(number: int) -> int:
    """Query, as a task does."""
    query()
    return number


@task
async def send_later(number: int) -> int:
    """Query from a coroutine."""
    await sync_to_async(query)()
    return number


@task
def fail() -> None:
    """Query and fail."""
    query()
    raise ValueError("a broken task")
