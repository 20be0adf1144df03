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
OTHERS_SHARE = 0.25
"""How much time others get, as a share of that of agents that keep the writer busy."""
SLICE_SECONDS = 0.02
"""So much of it is theirs at a time; a longer piece is paid for afterwards ..."""
DEBT_SECONDS_MAX = 1.0
"""... but not with more than this, however long it took."""


class Lines(Generic[P]):
    """Two lines of pieces of work and the order in which one thread takes them; no locks."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ahead: deque[P] = deque()
        self._others: deque[P] = deque()
        self._tokens: queue.SimpleQueue[bool] = queue.SimpleQueue()
        """One for each piece, put after it: who has one finds a piece in one of the lines."""
        self._credit_seconds = 0.0
        """What others have coming, while agents are before them; below 0: what they owe."""
        self._is_slice = False
        """Whether others have the writer although agents wait."""
        self._took_other = False
        self._is_released = True
        """Whether nobody has the writer since the last piece."""
        self._taken_at = clock()

    def put(self, piece: P, *, ahead: bool) -> None:
        """Add a piece to the end of its line."""
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
        self._account_until_now()
        if not self._tokens.get():
            self.close()
            return None
        self._taken_at = self._clock()
        self._is_released = False
        line = self._next_line()
        self._took_other = line is self._others
        return line.popleft()

    def release(self) -> None:
        """Say that the last piece is written: from now on nobody has the writer."""
        self._account_until_now()
        self._is_released = True

    def is_next(self, fits: Callable[[P], bool]) -> bool:
        """Return whether the piece that is next fits; False when there is none."""
        self._account_until_now()
        line = self._next_line()
        return bool(line) and fits(line[0])

    def take_if(self, fits: Callable[[P], bool]) -> P | None:
        """Return the next piece when there is one now, and it fits."""
        return self.take() if self.is_next(fits) else None

    def _next_line(self) -> deque[P]:
        is_other = bool(self._others) and (not self._ahead or self._is_slice)
        return self._others if is_other else self._ahead

    def _account_until_now(self) -> None:
        now = self._clock()
        self._account(0.0 if self._is_released else now - self._taken_at)
        self._taken_at = now

    def _account(self, seconds: float) -> None:
        """Take note of how long the last piece had the writer."""
        if self._took_other:
            self._credit_seconds = max(self._credit_seconds - seconds, -DEBT_SECONDS_MAX)
        elif self._others or self._credit_seconds < 0:
            self._credit_seconds += seconds * OTHERS_SHARE
        if not self._others:
            self._credit_seconds = min(self._credit_seconds, 0.0)
        if self._credit_seconds <= 0 or self._credit_seconds >= SLICE_SECONDS:
            self._is_slice = self._credit_seconds > 0
