"""Calls to the server: HTTP/1.1 on kept connections that never block the loop, with TLS or without.

A small client of our own, because a call is on the path of every task: it needs no thread (a thread
would wait for the interpreter's lock while a process is started) and one `send` per request.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from jobtasks.agent.loop import Loop, Timer

if TYPE_CHECKING:
    import ssl

    from jobtasks.agent import secure

logger = logging.getLogger(__name__)

OK = 200
ANSWER_BYTES_MAX = 256 * 1024 * 1024
"""An answer above this is an error."""


Answered = Callable[[int, bytes], None]
Failed = Callable[[str], None]
Take = Callable[[memoryview], None]
"""Takes the next bytes of an answer."""


def _ignore(*_: object) -> None:
    pass


class Server:
    """Where the server is and how to speak to it; told again by a file when it moves."""

    def __init__(
        self, url: str, token_file: Path, url_file: Path, ca_file: Path | None = None
    ) -> None:
        self._token_file = token_file
        self._url_file = url_file
        self._ca_file = ca_file
        self.tls: secure.Client | None = None
        """Set when the server is called by https."""
        self.set(url)
        self.look_again()

    def set(self, url: str) -> None:
        """Take another base URL; errors: ValueError for one that cannot be used, OSError for a CA
        file that cannot.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an address that an agent can use: {url!r} (http://HOST:PORT)")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        self.tls = self._client() if parts.scheme == "https" else None
        self.url = url.rstrip("/")
        self.place = parts.hostname, port, parts.scheme
        self._netloc, self._prefix = parts.netloc, parts.path.rstrip("/")

    def _client(self) -> secure.Client:
        # Not above: an agent that calls by plain http need not load TLS.
        from jobtasks.agent import secure

        return self.tls or secure.Client(self._ca_file)

    def look_again(self) -> None:
        """Read token and address anew: both may have changed while the server was away."""
        with contextlib.suppress(OSError, ValueError):
            if url := self._url_file.read_text().strip():
                self.set(url)
        try:
            self.token = self._token_file.read_text().strip()
        except OSError as error:
            logger.warning("cannot read the token: %s", error)
            self.token = getattr(self, "token", "")

    def request(self, path: str, body: bytes) -> bytes:
        """Return the bytes of one POST."""
        head = (
            f"{self._head('POST', path)}Content-Type: application/msgpack\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def question(self, path: str) -> bytes:
        """Return the bytes of one GET."""
        return f"{self._head('GET', path)}\r\n".encode()

    def _head(self, method: str, path: str) -> str:
        return (
            f"{method} {self._prefix}{path} HTTP/1.1\r\nHost: {self._netloc}\r\n"
            f"Authorization: Bearer {self.token}\r\n"
        )


class Connection:
    """One connection to the server, at most one call on it.

    A kept connection that the server had closed meanwhile is opened anew by itself.
    """

    def __init__(self, loop: Loop, server: Server) -> None:
        self._loop = loop
        self._server = server
        self._answered: Answered = _ignore
        self._failed: Failed = _ignore
        self._socket: socket.socket | None = None
        self._opening: Callable[[], None] | None = None
        """What the next event goes on with until TLS is agreed on; None: with the call itself."""
        self._blocked: tuple[type[OSError], ...] = (BlockingIOError,)
        self._peer = ("", 0, "")
        self._events = 0
        self._request = b""
        self._unsent: memoryview = memoryview(b"")
        self._received = bytearray()
        self._take: Take | None = None
        self._to_come = 0
        """Bytes of an answer that are handed on as they come."""
        self._keep = True
        self._timeout = 0.0
        self._used = False
        self._timer: Timer | None = None
        self.busy = False

    def post(
        self, path: str, body: bytes, timeout: float, answered: Answered, failed: Failed
    ) -> None:
        """Send a call; it fails when no answer came within `timeout` seconds.

        One of the two is called, always from the loop: `answered` with status and body, `failed`
        with a reason.
        """
        self._call(self._server.request(path, body), timeout, None, answered, failed)

    def get(
        self, path: str, timeout: float, take: Take, answered: Answered, failed: Failed
    ) -> None:
        """Ask for what is large: of an answer 200 `take` gets the body in pieces, `answered` none.

        It fails when nothing came for `timeout` seconds.
        """
        self._call(self._server.question(path), timeout, take, answered, failed)

    def _call(
        self, request: bytes, timeout: float, take: Take | None, answered: Answered, failed: Failed
    ) -> None:
        self.busy = True
        self._answered, self._failed, self._take = answered, failed, take
        self._request = request
        self._timeout = timeout
        self._wait()
        if self._socket is not None and self._peer != self._server.place:
            self._close()
        if self._socket is None:
            self._connect()
        else:
            self._send()

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.after(self._timeout, lambda: self._fail("no answer in time"))

    def close(self) -> None:
        """Give up what is under way, without a word."""
        self._end_call()
        self._close()

    def _connect(self) -> None:
        self._used = False
        self._peer = self._server.place
        tls = self._server.tls
        self._opening = partial(self._wrap, tls) if tls else None
        self._blocked = (BlockingIOError,)
        try:
            found = socket.getaddrinfo(*self._peer[:2], type=socket.SOCK_STREAM)[0]
            self._socket = socket.socket(found[0], socket.SOCK_STREAM)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(found[4])
        except OSError as error:
            reason = _words(error)
            self._loop.after(0, lambda: self._fail(reason))
            return
        self._unsent = memoryview(self._request)
        self._events = select.EPOLLOUT
        self._loop.watch(self._socket.fileno(), self._ready, self._events)

    def _wrap(self, tls: secure.Client) -> None:
        """The connection stands: begin to agree on TLS."""
        assert self._socket is not None
        plain, self._socket = self._socket, None
        self._loop.forget(plain.fileno())
        try:
            secured = tls.wrap(plain, self._peer[0])
        except OSError as error:
            plain.close()
            self._fail(_words(error))
            return
        self._socket, self._blocked = secured, tls.blocked
        self._opening = partial(self._shake, tls, secured)
        self._loop.watch(secured.fileno(), self._ready, self._events)
        self._opening()

    def _shake(self, tls: secure.Client, secured: ssl.SSLSocket) -> None:
        try:
            wanted = tls.shake(secured)
        except OSError as error:
            self._lost(_words(error))
            return
        if wanted:
            self._want(wanted)
        else:
            self._opening = None
            self._push()

    def _send(self) -> None:
        self._unsent = memoryview(self._request)
        self._push()

    def _push(self) -> None:
        assert self._socket is not None
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except self._blocked:
            pass
        except OSError as error:
            reason = _words(error)
            self._loop.after(0, lambda: self._lost(reason))
            return
        self._want(select.EPOLLIN | (select.EPOLLOUT if self._unsent else 0))

    def _want(self, events: int) -> None:
        assert self._socket is not None
        if events != self._events:
            self._events = events
            self._loop.change(self._socket.fileno(), events)

    def _ready(self, events: int) -> None:
        assert self._socket is not None
        if events & (select.EPOLLERR | select.EPOLLHUP) and not events & select.EPOLLIN:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._lost(os.strerror(number) if number else "connection closed")
        elif self._opening is not None:
            self._opening()
        elif events & select.EPOLLIN:
            self._receive()
        else:
            self._push()

    def _receive(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(1024 * 1024)
        except self._blocked:
            return
        except OSError as error:
            self._lost(_words(error))
            return
        if not data:
            self._lost("connection closed")
            return
        if self._to_come:
            self._pour(memoryview(data))
        else:
            self._received += data
            self._parse()

    def _parse(self) -> None:
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        try:
            status, length, keep = _read_head(bytes(self._received[:end]))
        except ValueError as error:
            self._fail(str(error))
            return
        start = end + 4
        if self._take is not None and status == OK and length:
            rest = bytes(self._received[start:])
            self._received.clear()
            # What was handed on cannot be asked for again on another connection.
            self._used, self._to_come, self._keep = False, length, keep
            self._pour(memoryview(rest))
            return
        if len(self._received) < start + length:
            return
        self._finish(status, bytes(self._received[start : start + length]), keep)

    def _pour(self, data: memoryview) -> None:
        """Hand on what came of an answer."""
        assert self._take is not None
        piece = data[: self._to_come]
        self._to_come -= len(piece)
        self._wait()
        self._take(piece)
        if not self._to_come and self.busy:
            self._finish(OK, b"", self._keep)

    def _finish(self, status: int, body: bytes, keep: bool) -> None:
        answered = self._answered
        self._end_call()
        self._used = True
        if not keep:
            self._close()
        answered(status, body)

    def _end_call(self) -> None:
        self.busy = False
        self._received.clear()
        self._take, self._to_come = None, 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.forget(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _lost(self, reason: str) -> None:
        """The connection broke: a kept one is opened anew once, a new one has failed."""
        self._close()
        if self.busy and self._used and not self._received:
            self._connect()
        elif self.busy:
            self._fail(reason)

    def _fail(self, reason: str) -> None:
        self._end_call()
        self._close()
        self._failed(reason)


def _words(error: OSError) -> str:
    return error.strerror or str(error)


def _read_head(head: bytes) -> tuple[int, int, bool]:
    """Return status, length of the body, and whether the connection may be kept.

    Errors: ValueError for an answer that is not HTTP or does not give its length.
    """
    first, *lines = head.lower().split(b"\r\n")
    headers = dict(line.split(b":", 1) for line in lines if b":" in line)
    if not first.startswith(b"http/1.") or b"content-length" not in headers:
        raise ValueError("the answer is not one of a JobTasks server")
    length = int(headers[b"content-length"])
    if length > ANSWER_BYTES_MAX:
        raise ValueError(f"an answer of {length} bytes")
    return int(first.split()[1]), length, headers.get(b"connection", b"").strip() != b"close"
