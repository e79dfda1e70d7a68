"""Beginning and ending scopes: what the adapters do for requests and tasks, and ``scope()`` for all else."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from pool_doctor.recording.recorder import recorder
from pool_doctor.recording.scope import REQUEST_KINDS, Scope, current

if TYPE_CHECKING:
    from types import TracebackType

_Function = TypeVar("_Function", bound=Callable[..., Any])


def begin(name: str, kind: str) -> Scope:
    """Begin a scope inside the current one, and make it the current one. Raises nothing."""
    scope = Scope(name, kind, current.get())
    current.set(scope)
    try:
        recorder.note_kind(kind)
    except Exception:
        recorder.failed()
    return scope


def end(scope: Scope) -> None:
    """End a scope and go back to the one outside it. Raises nothing."""
    if current.get() is scope:
        current.set(scope.outer)
    try:
        # A request without a checkout counts; a command without one leaves no file.
        scope.end(recorder.opened_ring() if scope.kind in REQUEST_KINDS else recorder.ring)
    except Exception:
        recorder.failed()


class scope:  # noqa: N801 - used like a function
    """Name the work of a block or function, so that reports say what it is that holds connections.

    ``with scope("nightly import"): ...`` or ``@scope("nightly import")`` on a function, plain or async. It is for work
    that is no request, task or management command (those have a name): threads, schedulers, scripts. Blocks nest; the
    innermost names what is checked out inside it.

    Raises TypeError where the name is no text or empty.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not name.strip():
            raise TypeError(f"scope() takes the name of the work, a text that is not empty; it got {name!r}.")
        self._name = name.strip()
        self._begun: set[Scope] = set()

    def __enter__(self) -> None:
        self._begun.add(begin(self._name, "block"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # One instance may be in use in several threads or tasks at once: end the innermost run that is this one's.
        begun = current.get()
        while begun is not None and begun not in self._begun:
            begun = begun.outer
        begun = begun or next(iter(self._begun))  # left in another context than it was entered in
        self._begun.remove(begun)
        end(begun)

    def __call__(self, function: _Function) -> _Function:
        """Return the function, wrapped so that each call of it is a run of this scope.

        Raises TypeError for a generator function: between two of its values, it is its caller that works.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"scope() names plain and async functions; {function.__qualname__}() is a generator.")
        name = self._name
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run(*args: Any, **kwargs: Any) -> Any:
                with scope(name):
                    return await function(*args, **kwargs)

        else:

            @functools.wraps(function)
            def run(*args: Any, **kwargs: Any) -> Any:
                with scope(name):
                    return function(*args, **kwargs)

        return run  # type: ignore[return-value]  # functools.wraps keeps what matters of the signature
