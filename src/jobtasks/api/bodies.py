"""How much of requests' bodies the server holds at a time (R40).

Each body has a limit of its own, but a thousand of them are a thousand times as much, and more yet
once they are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from starlette.types import Message, Receive, Scope

from jobtasks.api.requests import header
from jobtasks.core.errors import TooManyRequests


class Bodies:
    """The bodies of all requests under way; used in the event loop only."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.held_bytes = 0

    @contextmanager
    def hold(self, scope: Scope, receive: Receive) -> Iterator[Receive]:
        """Have a `receive` that counts what comes of a body, until the request is over.

        A body that finds no room is refused, by its announcement or as it comes, unless it is the
        only one.

        Raises:
            TooManyRequests: others must be over first.
        """
        held = 0

        async def counted() -> Message:
            nonlocal held
            message = await receive()
            size = len(message.get("body", b""))
            self._refuse(size, held)
            held += size
            self.held_bytes += size
            return message

        announced = header(scope, b"content-length")
        self._refuse(int(announced) if announced.isdigit() else 0, 0)
        try:
            yield counted
        finally:
            self.held_bytes -= held

    @contextmanager
    def hold_whole(self, body: bytes) -> Iterator[None]:
        """Do the same with a body that is here already."""
        size = len(body)
        self._refuse(size, 0)
        self.held_bytes += size
        try:
            yield
        finally:
            self.held_bytes -= size

    def _refuse(self, more: int, own: int) -> None:
        is_alone = self.held_bytes == own
        if more and not is_alone and self.held_bytes + more > self._bytes_max:
            raise TooManyRequests(
                "The server holds as much of other requests' bodies as it may; repeat this later."
            )
