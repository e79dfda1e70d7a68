"""A TCP proxy before PostgreSQL that cuts connections where a test asks for it."""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

REQUEST = "request"
"""The request is lost on its way to the server."""
ANSWER = "answer"
"""The server has done what it was asked for, and the answer is lost."""
HALF_ANSWER = "half an answer"
"""Half of the first bytes that the server answers arrive."""

# Close by RST rather than FIN: how a connection ends that a firewall has forgotten.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes connections on to a server, until told otherwise."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._lock = threading.Lock()
        self._open: dict[socket.socket, socket.socket] = {}
        self._cuts: list[tuple[bytes, str]] = []
        self._refusing = 0
        self.cuts_done = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Closing alone does not wake a thread that waits in accept().
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        self.sever()

    def cut(self, at: str, marker: bytes) -> None:
        """Cut the next connection that sends `marker`, once; `at` is REQUEST, ANSWER or HALF_ANSWER."""
        with self._lock:
            self._cuts.append((marker, at))

    def sever(self) -> None:
        """Cut all connections that are open now."""
        with self._lock:
            pairs = list(self._open.items())
        for client, server in pairs:
            self._end(client, server)

    def refuse(self, refusing: bool = True) -> None:
        """Cut each new connection before the server hears of it, or do so no more."""
        self._refusing = int(refusing)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._open[client] = server
            threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        cut_answer = None
        # select() on a socket that another thread has closed raises ValueError.
        with suppress(OSError, ValueError):
            while True:
                ready, _, _ = select.select((client, server), (), ())
                if client in ready:
                    data = client.recv(65_536)
                    at = self._cut_of(data)
                    if not data or at == REQUEST:
                        break
                    cut_answer = at or cut_answer
                    server.sendall(data)
                if server in ready:
                    data = server.recv(65_536)
                    if not data or cut_answer == ANSWER:
                        break
                    if cut_answer == HALF_ANSWER:
                        client.sendall(data[: len(data) // 2])
                        break
                    client.sendall(data)
        self._end(client, server)

    def _cut_of(self, data: bytes) -> str | None:
        if not self._cuts:
            return None
        with self._lock:
            for cut in self._cuts:
                if cut[0] in data:
                    self._cuts.remove(cut)
                    self.cuts_done += 1
                    return cut[1]
        return None

    def _end(self, client: socket.socket, server: socket.socket) -> None:
        with self._lock:
            if self._open.pop(client, None) is None:
                return
        for end in (client, server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                # shutdown() wakes the thread that serves the pair; close() alone would not.
                end.shutdown(socket.SHUT_RDWR)
            end.close()
