"""Which answers are known to have arrived: their POSTs will not be repeated (R22).

A client that sends a further request on a connection has read the answer to the one before.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import Scope

from jobtasks.service.repeats import Id

EXCHANGE = "jobtasks.exchange"
"""Where a request's scope keeps its `Exchange`."""
UNSTORED_MAX = 100
"""Deliveries that one transaction notes along with its own work."""


class Exchange:
    """One request and its answer on a connection."""

    __slots__ = ("on_delivered",)

    def __init__(self) -> None:
        self.on_delivered: Callable[[], None] | None = None
        """Called once the answer is known to have arrived."""

    def delivered(self) -> None:
        """Say that the answer has arrived."""
        if self.on_delivered is not None:
            self.on_delivered()


class Deliveries:
    """The POSTs of the last `seconds` whose answers have arrived; used in the event loop only."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._known: dict[Id, float] = {}
        self._unstored: dict[Id, None] = {}

    def __contains__(self, ident: Id) -> bool:
        return ident in self._known

    def watch(self, scope: Scope, ident: Id) -> None:
        """Learn of it when the answer to this request, which is about to be sent, has arrived."""
        exchange: Exchange | None = scope.get(EXCHANGE)
        if exchange is not None:
            exchange.on_delivered = lambda: self._add(ident)

    def unstored(self) -> list[Id]:
        """Return deliveries that the database does not know of yet."""
        return list(self._unstored)[:UNSTORED_MAX]

    def stored(self, idents: list[Id]) -> None:
        """Take note that the database knows of these."""
        for ident in idents:
            self._unstored.pop(ident, None)

    def _add(self, ident: Id) -> None:
        now = self._clock()
        self._known.pop(ident, None)
        self._known[ident] = now
        self._unstored[ident] = None
        for old, known_at in list(self._known.items()):
            if now - known_at <= self._seconds:
                break
            del self._known[old]
            self._unstored.pop(old, None)
