"""What is done ahead and what goes together, by what tasks took lately (agent/pace.py)."""

from __future__ import annotations

import pytest

from jobtasks.agent.pace import (
    GATHER_SECONDS,
    GIVE_BACK_SECONDS,
    ONE_SECONDS,
    WAIT_SECONDS,
    WAITING_MAX,
    Pace,
)


def paced(slots: int, *seconds: float) -> Pace:
    """Return the pace of a node on which tasks took so long."""
    pace = Pace(slots)
    for each in seconds:
        pace.note(each, is_success=True)
    return pace


def test_nothing_waits_before_a_task_has_ended() -> None:
    """What tasks take is not known yet."""
    assert Pace(8).places(0.0) == 1


@pytest.mark.parametrize("slots", [1, 2, 8, 16, 64])
def test_short_tasks_wait_behind_others(slots: int) -> None:
    """A few more than there are slots, however short they are."""
    places = paced(slots, 0.0001).places(0.0)
    assert places >= 2
    assert (places - 1) * slots <= max(WAITING_MAX, slots)


def test_the_last_that_waits_starts_soon() -> None:
    """The longer tasks take the fewer wait; of long ones none."""
    means = (0.001, 0.004, 0.01, 0.02, 0.05)
    found = [paced(1, seconds).places(0.0) for seconds in (*means, 0.051, 3.0)]
    assert found == [21, 6, 3, 2, 2, 1, 1]
    assert all(
        (places - 1) * seconds < WAIT_SECONDS + seconds
        for places, seconds in zip(found, means, strict=False)
    )
    assert ONE_SECONDS <= GIVE_BACK_SECONDS / 2


def test_one_that_runs_for_long_has_nothing_behind_it() -> None:
    """However short the others were."""
    assert paced(4, 0.001).places(ONE_SECONDS + 0.001) == 1


def test_a_failure_takes_nothing_more_to_the_node() -> None:
    """A node that spoils what it gets must not get more of it than others; then it begins anew."""
    pace = paced(4, *[0.001] * 100)
    pace.note(0.001, is_success=False)
    assert pace.places(0.0) == 1
    pace.note(0.001, is_success=True)
    assert pace.places(0.0) > 1


def test_long_tasks_are_forgotten_by_and_by() -> None:
    """A mean: one short task after long ones does not make all short."""
    pace = paced(4, 1.0, 0.001)
    assert pace.places(0.0) == 1
    for _ in range(30):
        pace.note(0.001, is_success=True)
    assert pace.places(0.0) > 1


def test_ends_wait_for_each_other() -> None:
    """Of short tasks until half of the slots have ended; of long ones that began together for all;
    never for nothing.
    """
    unknown, short, long = Pace(4), paced(4, ONE_SECONDS), paced(4, ONE_SECONDS + 0.001)
    for told, waits in ((1, (True, True, True)), (2, (False, False, True))):
        paces = zip((unknown, short, long), waits, strict=True)
        for pace, expected in paces:
            found = pace.gather_seconds(told, is_busy=True)
            assert found == (GATHER_SECONDS if expected else 0.0)
            assert pace.gather_seconds(told, is_busy=False) == 0.0
    assert Pace(1).gather_seconds(1, is_busy=True) == 0.0
