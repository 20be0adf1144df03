"""One kept connection to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Answered = Callable[[int, bytes], None]
LOST = 0
"""Stands for the status of a call that got no answer."""


class Line(asyncio.Protocol):
    """One call at a time: a POST to a fixed address with a fixed token and type of body."""

    def __init__(self, address: tuple[str, int], path: str, token: str, kind: str) -> None:
        self._address = address
        self._head = (
            f"POST {path} HTTP/1.1\r\nHost: {address[0]}\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: "
        ).encode()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._answered: Answered | None = None

    @property
    def busy(self) -> bool:
        """Whether an answer is awaited."""
        return self._answered is not None

    def post(self, body: bytes, answered: Answered) -> None:
        """Send a request; `answered` gets status and body, `LOST` when there was no answer."""
        assert self._answered is None
        self._answered = answered
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        if self._transport is not None:
            self._transport.write(request)
        else:
            self._opening = asyncio.get_running_loop().create_task(self._open(request))

    async def ask(self, body: bytes) -> tuple[int, bytes]:
        """Do the same; return status and body."""
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.post(body, lambda *answer: done.set_result(answer))
        return await done

    def close(self) -> None:
        """Give the connection up; a call under way gets no answer any more."""
        self._answered = None
        if self._transport is not None:
            self._transport.abort()

    async def _open(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_connection(lambda: self, *self._address)
        except OSError:
            self._done(LOST, b"")
            return
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        end = received.find(b"\r\n\r\n")
        if end >= 0:
            size = end + 4 + content_length(received[:end])
            if len(received) >= size:
                self._received = b""
                self._done(int(received[9:12]), received[end + 4 : size])
                return
        self._received = received

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._received = b""
        self._done(LOST, b"")

    def _done(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        if answered is not None:
            answered(status, body)


def content_length(head: bytes) -> int:
    """Return how long the body is that follows these headers."""
    lower = head.lower()
    start = lower.find(b"\r\ncontent-length:")
    if start < 0:
        return 0
    end = lower.find(b"\r\n", start + 2)
    return int(lower[start + 17 : end if end >= 0 else None])
