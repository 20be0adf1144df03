"""Two lines before the writer: agents go ahead, others are never starved."""

from __future__ import annotations

import pytest

from jobtasks.store.turns import STARVED_SECONDS, Turns


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def filled(clock: Clock, ahead: int, others: int) -> Turns[str]:
    """Return lines with so many pieces, named by their line."""
    turns: Turns[str] = Turns(clock)
    for _ in range(others):
        turns.put("other", ahead=False)
    for _ in range(ahead):
        turns.put("ahead", ahead=True)
    return turns


@pytest.mark.rule("R33", "R40")
def test_agents_are_first() -> None:
    """As long as none of the others has waited too long."""
    turns = filled(Clock(), ahead=100, others=2)
    assert [turns.take() for _ in range(102)] == ["ahead"] * 100 + ["other"] * 2
    assert turns.is_empty()


@pytest.mark.rule("R40")
def test_others_are_not_starved() -> None:
    """One of theirs is done now and then; then it is the agents' turn again, however long it
    took.
    """
    clock = Clock()
    turns = filled(clock, ahead=4, others=2)
    taken = [turns.take()]
    clock.now += STARVED_SECONDS
    taken.append(turns.take())
    clock.now += 100 * STARVED_SECONDS
    taken += [turns.take() for _ in range(2)]
    clock.now += STARVED_SECONDS
    taken += [turns.take() for _ in range(2)]
    assert taken == ["ahead", "other", "ahead", "ahead", "other", "ahead"]


def test_time_without_work_starves_nobody() -> None:
    """A first piece of others' waits like any after it."""
    clock = Clock()
    turns = filled(clock, ahead=2, others=0)
    turns.take()
    clock.now += 100 * STARVED_SECONDS
    turns.put("other", ahead=False)
    assert [turns.take() for _ in range(2)] == ["ahead", "other"]


def test_nothing_is_left_behind_by_the_end() -> None:
    """What was put before it is taken; after that there is nothing, for everybody who asks."""
    turns = filled(Clock(), ahead=1, others=1)
    turns.close()
    assert [turns.take() for _ in range(4)] == ["ahead", "other", None, None]
