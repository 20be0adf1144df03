"""Simulated time: what happens next, and what has happened."""

from __future__ import annotations

import heapq
from collections.abc import Callable

from jobtasks.agent.loop import Timer

TRACE_LINES_MAX = 4000


class Happenings:
    """A queue of actions in order of time; those of one moment in order of arrival."""

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the beginning; no clock of the simulated machines."""
        self.trace: list[str] = []
        """The last of what has happened, a line each."""
        self._queue: list[tuple[float, int, Timer]] = []
        self._made = 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Let something happen at `when`, or now when that is past."""
        timer = Timer(action)
        self._made += 1
        heapq.heappush(self._queue, (max(when, self.now), self._made, timer))
        return timer

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Let something happen in so many seconds."""
        return self.at(self.now + seconds, action)

    def note(self, line: str) -> None:
        """Write a line into the trace."""
        self.trace.append(f"{self.now:10.4f} {line}")
        if len(self.trace) > TRACE_LINES_MAX:
            del self.trace[: TRACE_LINES_MAX // 2]

    def step(self) -> bool:
        """Let the next thing happen; False when nothing is left."""
        while self._queue:
            when, _, timer = heapq.heappop(self._queue)
            if timer.action is not None:
                self.now = when
                timer.action()
                return True
        return False
