"""Schema editors on a releasing engine: they use the physical connection between statements, to quote values."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import TracebackType

    from django.db.backends.base.schema import BaseDatabaseSchemaEditor as _Base

    from pool_doctor.adapters.release import ReleasingMixin
else:
    _Base = object


class HoldingEditor(_Base):
    """Mixed in before a schema editor: one physical connection from the beginning of its block to the end."""

    connection: ReleasingMixin

    def __enter__(self) -> Any:
        self.connection.begin_hold()
        try:
            self.connection.ensure_connection()
            return super().__enter__()
        except BaseException:
            self.connection.end_hold()
            raise

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(exc_type, exc_value, traceback)
        finally:
            # The block may have made an extension, whose types are registered once on each physical connection.
            self.connection.forget_met()
            self.connection.end_hold()


@cache
def holding(editor: type) -> type:
    """Return the class of a schema editor, with the connection held for its block."""
    return type(editor.__name__, (HoldingEditor, editor), {"__doc__": editor.__doc__, "__module__": editor.__module__})
