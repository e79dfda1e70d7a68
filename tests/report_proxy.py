"""A stand-in for a pooler: passes a session of PostgreSQL's protocol on, under a process id of its own making."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pool_doctor.report.server import APPLICATION_NAME

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_NAME = "pooler name"
"""What the sessions that go through are called, as by poolers that do not pass the client's name on."""
assert len(OWN_NAME) == len(APPLICATION_NAME)

_HEADER = struct.Struct("!cI")
_BACKEND_KEY_DATA = b"K"


@contextmanager
def pooler_before(host: str, port: int) -> Iterator[int]:
    """Yield the port of a listener that does what PgBouncer does to BackendKeyData: it puts its own numbers in."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, host, port), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        # Closing alone does not wake a thread that waits in accept().
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def _serve(listener: socket.socket, host: str, port: int) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        server = socket.create_connection((host, port))
        for target, args in ((_pass_on, (client, server)), (_answer, (server, client))):
            threading.Thread(target=target, args=args, daemon=True).start()


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(65_536):
            server.sendall(data.replace(APPLICATION_NAME.encode(), OWN_NAME.encode()))
        server.shutdown(socket.SHUT_WR)


def _answer(server: socket.socket, client: socket.socket) -> None:
    with suppress(OSError), client, server, server.makefile("rb") as stream:
        while header := stream.read(_HEADER.size):
            kind, length = _HEADER.unpack(header)
            body = stream.read(length - 4)
            if kind == _BACKEND_KEY_DATA:
                body = struct.pack("!I", 1_234_567_890) + body[4:]
            client.sendall(header + body)
