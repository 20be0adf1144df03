"""Of the agents that wait for work only as many are woken as there is work for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from jobtasks.api.seats import ASKED_MAX, Seat, Seats


class Room:
    """Agents that wait, by number; who was rung is told once."""

    def __init__(self, stack: contextlib.ExitStack, count: int) -> None:
        self.seats = Seats()
        self.stack = stack
        self.agents = [Seat([number]) for number in range(count)]
        self._exits = [self._sit(number, seat) for number, seat in enumerate(self.agents)]

    def _sit(self, number: int, seat: Seat) -> contextlib.ExitStack:
        own = self.stack.enter_context(contextlib.ExitStack())
        own.enter_context(self.seats.take(number, 1, seat, wants_work=True))
        return own

    def rung(self) -> list[int]:
        """Return who was woken since the last call; they begin to look."""
        found = [n for n, seat in enumerate(self.agents) if seat._event.is_set()]
        for number in found:
            self.agents[number].clear()
            self.seats.looks(self.agents[number])
        return found

    def looked(self, number: int, *, left: bool) -> list[int]:
        """Let an agent have looked; return who is woken by that."""
        self.seats.has_looked(self.agents[number], work_is_left=left)
        return self.rung()

    def leave(self, number: int) -> list[int]:
        """Let an agent go; return who is woken by that."""
        self._exits[number].close()
        return self.rung()


@pytest.fixture
def room() -> Iterator[Room]:
    with contextlib.ExitStack() as stack:
        yield Room(stack, 100)


def test_one_task_wakes_one_agent(room: Room) -> None:
    """Who waits longest is asked, nobody else when no work is left."""
    room.seats.work_is_ready()
    assert room.rung() == [0]
    assert room.looked(0, left=False) == []
    room.leave(0)
    room.seats.work_is_ready()
    assert room.rung() == [1]


def test_much_work_wakes_more_and_more(room: Room) -> None:
    """Two for each that has looked, each agent once, never too many at a time."""
    room.seats.work_is_ready()
    asked, woken, most = room.rung(), [], 1
    while asked:
        woken.append(asked.pop(0))
        asked += room.looked(woken[-1], left=True)
        most = max(most, len(asked))
    assert woken == list(range(100))
    assert most == ASKED_MAX


def test_work_that_came_meanwhile_is_not_forgotten(room: Room) -> None:
    """An agent that found nothing left may have looked too early."""
    room.seats.work_is_ready()
    assert room.rung() == [0]
    room.seats.work_is_ready()
    assert room.rung() == []
    assert room.looked(0, left=False) == [0, 1]
    assert room.looked(0, left=False) == []
    assert room.looked(1, left=False) == []


def test_who_goes_before_looking_hands_on(room: Room) -> None:
    """Its connection broke, or its time was over: the next is asked."""
    room.seats.work_is_ready()
    assert room.rung() == [0]
    assert room.leave(0) == [1]
    assert room.leave(50) == []


def test_who_made_work_ready_is_not_asked(room: Room) -> None:
    """It has taken what it could in the same transaction."""
    room.seats.work_is_ready(but=room.agents[0])
    assert room.rung() == [1]


def test_agents_without_a_free_slot_are_not_asked() -> None:
    """They are woken by what concerns their attempts."""
    seats, seat = Seats(), Seat([7])
    with seats.take(1, 1, seat, wants_work=False):
        seats.work_is_ready()
        seats.ring_runner(8)
        assert not seat._event.is_set()
        seats.ring_runner(7)
        assert seat._event.is_set()


def test_everybody_is_woken_at_the_end(room: Room) -> None:
    """The server goes."""
    room.seats.ring_all()
    assert room.rung() == list(range(100))
