"""Observes database engines in place: the class that each engine's module names is replaced by a followed one.

Nothing of the engine is changed. A followed class is a subclass of the engine's own that says it is the engine's own
(``connection.__class__``), so that receivers connected for it with ``sender=`` go on hearing from it.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper as PostgreSQLWrapper

from pool_doctor.adapters.lifecycle import LifecycleMixin, _wrappers

_replaced: dict[str, type] = {}
_set_class = object.__dict__["__class__"].__set__


def install() -> None:
    """Observe the engine of each PostgreSQL database of the project. Doing it twice is doing it once."""
    for alias in connections:
        observe_engine(connections.settings[alias]["ENGINE"])


def observe_engine(engine: str) -> None:
    """Observe one engine, if it is one for PostgreSQL on psycopg 3 and not observed yet."""
    module_name = f"{engine}.base"
    try:
        module = importlib.import_module(module_name)
    except ImportError:
        return  # Django says what is wrong with it, when the engine is used.
    original = getattr(module, "DatabaseWrapper", None)
    if module_name in _replaced or not _can_follow(original):
        return
    _replaced[module_name] = original
    module.DatabaseWrapper = followed = followed_class(original)
    for connection in connections.all(initialized_only=True):
        if type(connection) is original:
            _set_class(connection, followed)
            connection.start_following()


def _can_follow(wrapper_class: Any) -> bool:
    return (
        isinstance(wrapper_class, type)
        and issubclass(wrapper_class, PostgreSQLWrapper)
        and not issubclass(wrapper_class, LifecycleMixin)
    )


def followed_class(original: type) -> type:
    """Return a subclass of an engine's wrapper class that follows its connections, under the same name."""
    return type(
        original.__name__,
        (LifecycleMixin, original),
        {
            "__module__": original.__module__,
            "__qualname__": original.__qualname__,
            "__doc__": original.__doc__,
            "__class__": property(lambda _: original),
        },
    )


def uninstall() -> None:
    """Undo install(): engines and existing connections are what they were."""
    for module_name, original in _replaced.items():
        module = sys.modules[module_name]
        followed = module.DatabaseWrapper
        module.DatabaseWrapper = original
        for wrapper in list(_wrappers):
            if type(wrapper) is followed:
                wrapper.forget_checkout()
                _wrappers.discard(wrapper)
                _set_class(wrapper, original)
    _replaced.clear()
