"""Wake-ups inside one server process: who waits for what, told after the commit that changed it.

Nothing that matters lives here: a wake-up that is lost costs a waiter its time limit, no more.
All of it belongs to the event loop's thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager

from jobtasks.api.seats import Bell, Seat, Seats

FOLLOW_SECONDS = 30.0
"""How long a reader's wish for a running attempt's log is remembered."""
LOGS_TOPIC = "logs"
"""Whom to wake when output of running tasks has arrived."""
NODES_TOPIC = "nodes"
"""Whom to wake when work has become ready: not everybody, see seats.py."""


class Hub:
    """The bells of one process, by topic: "nodes", "manager", "events", "logs", or a job's uuid."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        """In whose thread all of it happens."""
        self._bells: dict[str, set[Bell]] = {}
        self.seats = Seats()
        self._follow: dict[int, float] = {}
        self._untold: set[int] = set()
        """Attempts whose agent does not know yet that somebody reads their logs."""
        self.closing = False
        """The process ends: nobody is to wait any more."""

    def ring(self, topics: Collection[str], but: Bell | None = None) -> None:
        """Wake everyone who listens to one of `topics`, except `but`."""
        for topic in topics:
            for bell in self._bells.get(topic, ()):
                if bell is not but:
                    bell.ring()
        if NODES_TOPIC in topics:
            self.seats.work_is_ready(but)

    def work_is_ready(self, but: Bell | None = None) -> bool:
        """Wake who waits for work, as `ring` does; return whether an agent was asked."""
        self.ring((NODES_TOPIC,), but)
        return self.seats.has_asked

    @contextmanager
    def listen(self, *topics: str) -> Iterator[Bell]:
        """Have a bell that rings for any of `topics`."""
        bell = Bell()
        with self._listening(bell, topics):
            yield bell

    @contextmanager
    def _listening(self, bell: Bell, topics: Iterable[str]) -> Iterator[None]:
        for topic in topics:
            self._bells.setdefault(topic, set()).add(bell)
        try:
            yield
        finally:
            for topic in topics:
                listeners = self._bells[topic]
                listeners.discard(bell)
                if not listeners:
                    del self._bells[topic]

    @contextmanager
    def seat(
        self,
        agent: int,
        number: int,
        *,
        jobs: Collection[str] = (),
        attempts: Collection[int] = (),
        wants_work: bool = True,
    ) -> Iterator[Seat]:
        """Have the bell of an agent's newest sync; the one that waits there now is sent home.

        It rings for what becomes of the agent's jobs, and when the agent is to look for work. One
        that has attempts and names no jobs is told of everything.
        """
        seat = Seat(attempts)
        topics = (NODES_TOPIC,) if attempts and not jobs else jobs
        with (
            self._listening(seat, topics),
            self.seats.take(agent, number, seat, wants_work=wants_work),
        ):
            yield seat

    def ring_all(self) -> None:
        """Wake everyone: whom, was not heard."""
        self.ring(tuple(self._bells))
        self.seats.ring_all()

    def follow(self, attempt: int) -> bool:
        """Note that somebody reads the log of a running attempt; its agent is told soon.

        Return whether that is news.
        """
        now = time.monotonic()
        is_news = self._follow.get(attempt, 0.0) <= now
        self._follow[attempt] = now + FOLLOW_SECONDS
        if is_news:
            self._untold.add(attempt)
            self.seats.ring_runner(attempt)
        return is_news

    def followed(self, attempts: Iterable[int]) -> list[int]:
        """Return which of `attempts` are read; forget readings that are too old."""
        if not self._follow:
            return []
        now = time.monotonic()
        self._follow = {key: until for key, until in self._follow.items() if until > now}
        self._untold &= self._follow.keys()
        return [attempt for attempt in attempts if attempt in self._follow]

    def take_news(self, attempts: Iterable[int]) -> bool:
        """Return whether an agent that runs `attempts` has to be told of a reading, once each."""
        news = self._untold.intersection(attempts)
        self._untold -= news
        return bool(news)

    def close(self) -> None:
        """Send everyone home."""
        self.closing = True
        self.ring_all()
