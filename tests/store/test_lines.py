"""Two lines before the writer: agents go ahead, others have their share."""

from __future__ import annotations

from collections import Counter

import pytest

from jobtasks.store.lines import DEBT_SECONDS_MAX, OTHERS_SHARE, Lines


class Writer:
    """Takes pieces, each of which has a length, and tells what it took; its time is the clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.lines: Lines[tuple[str, float]] = Lines(lambda: self.now)

    def put(self, line: str, count: int, seconds: float) -> None:
        for _ in range(count):
            self.lines.put((line, seconds), ahead=line == "ahead")

    def take(self, count: int) -> list[str]:
        taken = []
        for _ in range(count):
            piece = self.lines.take()
            assert piece is not None
            taken.append(piece[0])
            self.now += piece[1]
        return taken


@pytest.mark.rule("R33", "R40")
def test_agents_are_first() -> None:
    """What little time they need they have at once, whatever was put before."""
    writer = Writer()
    writer.put("other", 3, seconds=1.0)
    writer.put("ahead", 10, seconds=0.001)
    assert writer.take(13) == ["ahead"] * 10 + ["other"] * 3
    assert writer.lines.is_empty()


@pytest.mark.rule("R33", "R40")
@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.1, 0.9])
def test_others_have_their_share_of_a_busy_writer(seconds: float) -> None:
    """By time, not by number: large pieces of theirs do not push agents aside."""
    writer = Writer()
    writer.put("other", 20_000, seconds)
    writer.put("ahead", 20_000, seconds=0.001)
    had: Counter[str] = Counter()
    while writer.now < 15:
        had[writer.take(1)[0]] += 1
    share = had["other"] * seconds / (had["ahead"] * 0.001)
    assert OTHERS_SHARE / 2 < share < OTHERS_SHARE * 2


@pytest.mark.rule("R40")
def test_a_very_long_piece_is_paid_for_within_bounds() -> None:
    """After it agents go ahead for a while, not for ever."""
    writer = Writer()
    writer.put("other", 2, seconds=1000.0)
    assert writer.take(1) == ["other"]
    writer.put("ahead", 100_000, seconds=0.001)
    began = writer.now
    while writer.take(1) == ["ahead"]:
        assert writer.now - began < 2 * DEBT_SECONDS_MAX / OTHERS_SHARE
    assert writer.now - began - 1000.0 > DEBT_SECONDS_MAX / OTHERS_SHARE


def test_time_without_others_is_not_owed_to_them() -> None:
    """A first piece of theirs waits like any after it."""
    writer = Writer()
    writer.put("ahead", 1000, seconds=0.01)
    writer.take(998)
    writer.put("other", 1, seconds=1.0)
    assert writer.take(3) == ["ahead", "ahead", "other"]


@pytest.mark.rule("R33", "R40")
def test_time_in_which_nobody_writes_is_not_owed_to_others() -> None:
    """After a quiet night a burst of theirs does not go ahead of the agents that come with it."""
    writer = Writer()
    writer.put("ahead", 1, seconds=0.01)
    writer.take(1)
    writer.lines.release()
    writer.now += 36_000
    writer.put("other", 100, seconds=0.01)
    writer.put("ahead", 3, seconds=0.01)
    assert writer.lines.is_next(lambda piece: piece[0] == "ahead")
    assert writer.take(4) == ["ahead"] * 3 + ["other"]


def test_nothing_is_left_behind_by_the_end() -> None:
    """What was put before it is taken; after that there is nothing, for everybody who asks."""
    writer = Writer()
    writer.put("other", 1, seconds=0.0)
    writer.put("ahead", 1, seconds=0.0)
    writer.lines.close()
    assert writer.take(2) == ["ahead", "other"]
    assert [writer.lines.take() for _ in range(2)] == [None, None]
