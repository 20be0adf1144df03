"""A server in front of the server that cuts connections at the worst moments."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from enum import Enum
from pathlib import Path

ACCEPT_SECONDS = 60.0


class Moment(Enum):
    """When a connection is cut."""

    WITHIN_REQUEST = "within the request"
    """The server has read a part of it: nothing is done."""
    AFTER_COMMIT = "after the commit"
    """The server has answered, the client never hears of it."""


class Cutter:
    """Hands requests on, and cuts the next POST to an address when told to.

    Clients go where the discovery document says: in answers, `named` becomes this server's place.
    """

    def __init__(self, target: tuple[str, int], named: str, certificate: Path) -> None:
        self._target = target
        self._named = named
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed: tuple[Moment, str] | None = None
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.cuts = 0
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        assert len(self.host) == len(named), "lengths in heads would be wrong"
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    def arm(self, moment: Moment, path: str) -> None:
        """Cut the next POST to `path` at that moment; its repeat gets through."""
        with self._lock:
            self._armed = (moment, path)

    def close(self) -> None:
        """End; connections must have been closed by their clients."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in [self._accepting, *self._threads]:
            thread.join(ACCEPT_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client = self._context.wrap_socket(plain, server_side=True)
            with client, socket.create_connection(self._target) as server:
                server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while self._exchange(client, server):
                    pass

    def _exchange(self, client: socket.socket, server: socket.socket) -> bool:
        """Hand one request and its answer on; return whether the connection is still good."""
        request = read_message(client)
        if not request:
            return False
        moment = self._moment_of(request)
        if moment is Moment.WITHIN_REQUEST:
            server.sendall(request[:-1])
            return False
        server.sendall(request)
        answer = read_message(server)
        if moment is Moment.AFTER_COMMIT or not answer:
            return False
        client.sendall(answer.replace(self._named.encode(), self.host.encode()))
        return True

    def _moment_of(self, request: bytes) -> Moment | None:
        method, address, _ = request.split(b" ", 2)
        with self._lock:
            armed = self._armed
            if armed is None or method != b"POST" or address.split(b"?")[0] != armed[1].encode():
                return None
            self._armed = None
            self.cuts += 1
            return armed[0]


def read_message(source: socket.socket) -> bytes:
    """Return one request or answer whole, head and body; empty when the connection has ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = source.recv(65536)
        if not piece:
            return b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        piece = source.recv(65536)
        if not piece:
            return b""
        body += piece
    return head + b"\r\n\r\n" + body
