"""Whose work the writer takes next: that of agents and the manager goes ahead of all other.

A lease is kept by a write. In one line with everybody's it would wait behind whatever clients bring
at once, and be lost by load alone (R33, R40).
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

P = TypeVar("P")
STARVED_SECONDS = 0.5
"""Agents that keep the writer busy without a pause leave it to others for a piece so often."""


class Turns(Generic[P]):
    """Two lines of pieces of work and the order in which one thread takes them; no locks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead: deque[P] = deque()
        self._others: deque[P] = deque()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """One for each piece, put after it: who has one finds a piece in one of the lines."""
        self._others_since = clock()
        """When others had the writer last, or began to want it."""
        self._took_other = False

    def put(self, piece: P, *, ahead: bool) -> None:
        """Add a piece to the end of its line."""
        if not ahead and not self._others:
            self._others_since = self._clock()
        (self._ahead if ahead else self._others).append(piece)
        self._tokens.put(True)

    def close(self) -> None:
        """Say that nothing follows what was put so far."""
        self._tokens.put(False)

    def is_empty(self) -> bool:
        """Return whether nothing waits now."""
        return self._tokens.empty()

    def take(self) -> P | None:
        """Wait for the next piece; None, again and again, when nothing follows."""
        if not self._tokens.get():
            self.close()
            return None
        now = self._clock()
        if self._took_other:
            # From its end on: a long piece is not followed by another at once.
            self._others_since = now
        are_starved = now - self._others_since >= STARVED_SECONDS
        self._took_other = bool(self._others) and (not self._ahead or are_starved)
        return (self._others if self._took_other else self._ahead).popleft()
