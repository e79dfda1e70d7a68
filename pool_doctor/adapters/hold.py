"""``hold()``: keeps one connection for a block of code."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections

from pool_doctor.adapters.lifecycle import LifecycleMixin

if TYPE_CHECKING:
    from types import TracebackType

_Function = TypeVar("_Function", bound=Callable[..., Any])


class hold:  # noqa: N801 - used like a function
    """Keep one connection for a block or function: from its first query on, the same one until the end.

    ``with hold(): ...``, ``with hold(using="replica"): ...``, or ``@hold()`` on a function. It is for what belongs to a
    session on a releasing engine: settings made with SET, temporary tables, LISTEN, many queries where each microsecond
    counts. Blocks nest. On other engines, which hold for the whole request anyway, it changes nothing.

    It is for synchronous code, since connections belong to threads. Raises TypeError on an async function.
    """

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self._using = using
        self._held: list[Any] = []

    def __enter__(self) -> None:
        connection = connections[self._using]
        self._held.append(connection)
        if isinstance(connection, LifecycleMixin):
            connection.begin_hold()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection = self._held.pop()
        if isinstance(connection, LifecycleMixin):
            connection.end_hold()

    def __call__(self, function: _Function) -> _Function:
        """Return the function, wrapped so that each call of it holds."""
        if inspect.iscoroutinefunction(function):
            raise TypeError(f"hold() is for synchronous code; {function.__qualname__}() is async.")
        using = self._using

        @functools.wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with hold(using):
                return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # functools.wraps keeps what matters of the signature
