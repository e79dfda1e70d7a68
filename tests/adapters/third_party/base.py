"""A database engine in the style of many third-party ones: it names itself in super() and keeps a subclass's state."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql import base


class DatabaseWrapper(base.DatabaseWrapper):
    """Counts its physical connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super(DatabaseWrapper, self).__init__(*args, **kwargs)  # noqa: UP008 - the old way, which looks the name up
        self.connected = 0

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect, and count it."""
        connection = super(DatabaseWrapper, self).get_new_connection(conn_params)  # noqa: UP008
        self.connected += 1
        return connection
