"""``hold()``: keeps one connection for a block of code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.asyncio import async_unsafe

from pool_doctor.adapters.lifecycle import LifecycleMixin

if TYPE_CHECKING:
    from types import TracebackType

_Function = TypeVar("_Function", bound=Callable[..., Any])


class hold:  # noqa: N801 - used like a function
    """Keep one connection for a block or function: from its first query on, the same one until the end.

    ``with hold(): ...``, ``with hold(using="replica"): ...``, or ``@hold()`` on a function. It is for what belongs to a
    session on a releasing engine: settings made with SET, temporary tables, LISTEN, many queries where each microsecond
    counts. Blocks nest. On other engines, which hold for the whole request anyway, it changes nothing.

    It is for synchronous code, since connections belong to threads. Raises TypeError on an async function or a
    generator function, and SynchronousOnlyOperation where a block of asynchronous code is entered.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self._using = using

    @async_unsafe
    def __enter__(self) -> None:
        connection = connections[self._using]
        if isinstance(connection, LifecycleMixin):
            connection.begin_hold()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection = connections[self._using]
        if isinstance(connection, LifecycleMixin):
            connection.end_hold()

    def __call__(self, function: _Function) -> _Function:
        """Return the function, wrapped so that each call of it holds.

        Raises TypeError for a generator function: between two of its values, it is its caller that works.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"hold() is for plain functions; {function.__qualname__}() is a generator.")
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"hold() is for synchronous code; {function.__qualname__}() is async.")
        using = self._using

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with hold(using):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # functools.wraps keeps what matters of the signature
