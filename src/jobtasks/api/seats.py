"""Agents whose syncs wait at the server, and whom of them to ask when there is work.

Work that became ready concerns as many agents as there are tasks, not a thousand: to wake all of
them would cost a transaction each. One is asked; as long as work is left, each that has been asked
has two more asked, those that wait longest first. So one task costs one transaction, and a crowd of
tasks is soon everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from itertools import islice

ASKED_MAX = 32
"""Agents that are asked at a time: syncs of others come between."""


class Bell:
    """Rings for one waiter; a ring before the wait is not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter."""
        self._event.set()

    def clear(self) -> None:
        """Forget the rings so far: what they told of is about to be read."""
        self._event.clear()

    async def wait(self, seconds: float) -> bool:
        """Return whether the bell rang within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


class Seat(Bell):
    """The bell of an agent's newest sync."""

    def __init__(self, attempts: Collection[int] = ()) -> None:
        super().__init__()
        self.attempts = attempts
        """What the agent runs."""
        self.superseded = False
        """A newer call of the same agent has arrived: answer at once."""
        self.asked_after = 0
        """How many times work had become ready when the agent was last asked."""


class Seats:
    """The seats of all agents, those that want work in the order in which they came."""

    def __init__(self) -> None:
        self._newest: dict[int, tuple[int, Seat]] = {}
        self._waiting: dict[Seat, None] = {}
        self._unasked: dict[Seat, None] = {}
        """Who is still to be asked about the newest work, if some is left by then."""
        self._asked: set[Seat] = set()
        self._times = 0
        """How often work has become ready."""

    @contextmanager
    def take(self, agent: int, number: int, seat: Seat, *, wants_work: bool) -> Iterator[None]:
        """Have a seat for an agent's sync; the one that waits there now is sent home."""
        seated = self._newest.get(agent)
        if seated is None or seated[0] < number:
            self._newest[agent] = (number, seat)
            if seated is not None:
                seated[1].superseded = True
                seated[1].ring()
        if wants_work:
            self._waiting[seat] = None
        try:
            yield
        finally:
            if self._newest.get(agent) == (number, seat):
                del self._newest[agent]
            self._waiting.pop(seat, None)
            self._unasked.pop(seat, None)
            if seat in self._asked:
                # It goes without having looked.
                self._asked.discard(seat)
                self._ask(1)

    @property
    def has_asked(self) -> bool:
        """Whether somebody is asked and has not looked yet."""
        return bool(self._asked)

    def work_is_ready(self, but: Bell | None = None) -> None:
        """Ask somebody whether he takes what became ready, except `but`, who has looked."""
        self._times += 1
        self._unasked = self._waiting.copy()
        if isinstance(but, Seat):
            self._unasked.pop(but, None)
        if not self._asked:
            self._ask(1)

    def waits(self, agent: int, number: int) -> bool:
        """Return whether that sync of an agent is its newest, and has a seat."""
        return self._newest.get(agent, (0,))[0] == number

    def looks(self, seat: Seat) -> None:
        """The work there is now is about to be looked at for this seat."""
        seat.asked_after = self._times

    def has_looked(self, seat: Seat, *, work_is_left: bool) -> None:
        """It was looked at: ask others when some is left."""
        if seat not in self._asked:
            return
        self._asked.discard(seat)
        if work_is_left or seat.asked_after != self._times:
            self._ask(2)
        else:
            self._unasked.clear()

    def ring_runner(self, attempt: int) -> None:
        """Wake the agent that runs an attempt."""
        for _, seat in self._newest.values():
            if attempt in seat.attempts:
                seat.ring()

    def ring_all(self) -> None:
        """Wake everybody."""
        for _, seat in self._newest.values():
            seat.ring()
        for seat in self._waiting:
            seat.ring()

    def _ask(self, count: int) -> None:
        for seat in list(islice(self._unasked, min(count, ASKED_MAX - len(self._asked)))):
            del self._unasked[seat]
            self._asked.add(seat)
            seat.ring()
