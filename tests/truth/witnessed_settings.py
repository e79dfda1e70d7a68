"""The shop's settings, with a witness: each getconn() and putconn() of a pool is timed and written down."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from psycopg_pool import ConnectionPool

from example_project.shop.settings import *  # noqa: F403

_file = Path(os.environ["WITNESS"]).open("a", buffering=1)  # noqa: SIM115 - open as long as the process
_out: dict[int, tuple[float, float, int]] = {}
_getconn, _putconn = ConnectionPool.getconn, ConnectionPool.putconn


def _write(**event: Any) -> None:
    _file.write(json.dumps(event) + "\n")


def getconn(self: Any, *args: Any, **kwargs: Any) -> Any:
    """Get a connection, and note how long that took."""
    asked = time.monotonic()
    try:
        connection = _getconn(self, *args, **kwargs)
    except Exception as error:
        _write(wait=time.monotonic() - asked, failed=type(error).__name__)
        raise
    now = time.monotonic()
    _out[id(connection)] = now, now - asked, len(_out) + 1
    return connection


def putconn(self: Any, connection: Any) -> None:
    """Give a connection back, and write down how long it took to get it and how long it was out."""
    now = time.monotonic()
    since, wait, out = _out.pop(id(connection))
    _write(wait=wait, out=out, hold=now - since)
    _putconn(self, connection)


ConnectionPool.getconn = getconn  # type: ignore[method-assign]
ConnectionPool.putconn = putconn  # type: ignore[method-assign]
