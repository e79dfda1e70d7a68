"""Observes database engines in place: each PostgreSQL connection that Django makes becomes a followed one.

Nothing of the engine is changed, neither its class nor its module: an engine may look its class up by name, as in
``super(DatabaseWrapper, self)``. A followed class is a subclass of the engine's own that says it is the engine's own
(``connection.__class__``), so that receivers connected for it with ``sender=`` go on hearing from it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper
from django.db.utils import ConnectionHandler

from pool_doctor.adapters.lifecycle import LifecycleMixin, _wrappers
from pool_doctor.adapters.patching import Patches
from pool_doctor.recording.recorder import recorder

if TYPE_CHECKING:
    from collections.abc import Callable

_patches = Patches()
_followed_classes: dict[type, type] = {}
_set_class = object.__dict__["__class__"].__set__


def install() -> None:
    """Observe the project's PostgreSQL databases, whatever their engine. Doing it twice is doing it once."""
    _patches.apply(ConnectionHandler, "create_connection", _create_connection)
    for connection in connections.all(initialized_only=True):
        follow(connection)


def _create_connection(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def create_connection(self: ConnectionHandler, alias: str) -> Any:
        connection = original(self, alias)
        try:
            follow(connection)
        except Exception:
            recorder.failed()
        return connection

    return create_connection


def follow(connection: Any) -> None:
    """Follow a connection from now on, if it is one for PostgreSQL and not followed yet."""
    engine = type(connection)
    if issubclass(engine, PostgreSQLWrapper) and not issubclass(engine, LifecycleMixin):
        _set_class(connection, followed_class(engine))
        connection.start_following()


def followed_class(engine: type) -> type:
    """Return the subclass of an engine's wrapper class that follows its connections, under the same name."""
    followed = _followed_classes.get(engine)
    return followed or _followed_classes.setdefault(engine, _new_followed_class(engine))


def _new_followed_class(engine: type) -> type:
    return type(
        engine.__name__,
        (LifecycleMixin, engine),
        {
            "__module__": engine.__module__,
            "__qualname__": engine.__qualname__,
            "__doc__": engine.__doc__,
            "__class__": property(lambda _: engine),
        },
    )


def uninstall() -> None:
    """Undo install(): existing connections are of their engine's own class again."""
    _patches.undo()
    for wrapper in list(_wrappers):
        if type(wrapper) is not wrapper.__class__:
            wrapper.stop_following()
            _set_class(wrapper, wrapper.__class__)
