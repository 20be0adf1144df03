"""One thread that waits for everything: file descriptors, timers, signals."""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor."""

EVENTS_MAX = 256


class Timer:
    """An action at a time of the loop's clock; `cancel` makes it do nothing."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget the action; harmless when it is done already."""
        self.action = None


class Loop:
    """epoll, a heap of timers, and signals that wake the wait.

    Times are seconds of `time.monotonic`. Nothing here starts a thread: an exit, an answer and a
    timer are handled one after the other, so the parts above need no locks.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._made = 0
        self.now = time.monotonic
        self.signalled: set[int] = set()

    def watch(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        """Call `handler` whenever `fd` has one of `events` (level-triggered)."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of a watched descriptor."""
        self._epoll.modify(fd, events)

    def forget(self, fd: int) -> None:
        """Stop watching; to be called before `fd` is closed.

        Closing alone is not enough: a child that is just being started has a copy for a moment, and
        the old file would go on reporting under a number that is somebody else's by then.
        """
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        """Call `action` once at `when`, or as soon after as the loop turns."""
        timer = Timer(action)
        self._made += 1
        heapq.heappush(self._timers, (when, self._made, timer))
        return timer

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        """Call `action` once, so many seconds from now."""
        return self.at(self.now() + seconds, action)

    def take_signals(self, *numbers: int) -> None:
        """Collect these signals in `signalled` and wake the loop instead of interrupting it."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, self._note_signal)
        self.watch(reader, lambda events: self._drain(reader))

    def _note_signal(self, number: int, frame: Any) -> None:
        self.signalled.add(number)

    @staticmethod
    def _drain(fd: int) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(fd, 4096)

    def _timeout(self) -> float:
        timers = self._timers
        while timers and timers[0][2].action is None:
            heapq.heappop(timers)
        return max(0.0, timers[0][0] - self.now()) if timers else -1.0

    def turn(self, wait: bool = True) -> None:
        """Handle what is ready, then what is due; with `wait` sleep until there is something."""
        handlers = self._handlers
        for fd, events in self._epoll.poll(self._timeout() if wait else 0.0, EVENTS_MAX):
            # An earlier handler of the same turn may have closed it.
            if (handler := handlers.get(fd)) is not None:
                handler(events)
        timers = self._timers
        if timers:
            now = self.now()
            while timers and timers[0][0] <= now:
                if (action := heapq.heappop(timers)[2].action) is not None:
                    action()
