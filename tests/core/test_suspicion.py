"""When a node is suspected, and how long it is held: the pure rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core import retry
from jobtasks.core.retry import Cause, Spent
from jobtasks.core.settings import Settings
from jobtasks.core.suspicion import (
    TELLING,
    Loss,
    Standing,
    after_loss,
    hold_seconds,
    is_suspected,
    streak_length,
)

pytestmark = pytest.mark.rule("R16")
SETTINGS = Settings()
SLOTS = 3


def lost(*jobs: int, is_witnessed: bool = False) -> Standing:
    """Return the standing of a node on which attempts of these jobs failed in this order."""
    standing = Standing()
    for attempt, job in enumerate(jobs):
        standing = after_loss(standing, Loss(attempt, job), SLOTS, SETTINGS)
    return Standing(standing.streak, is_witnessed)


def suspected(standing: Standing) -> bool:
    return is_suspected(standing, SLOTS, SETTINGS)


def test_two_and_slots_failures_of_two_jobs() -> None:
    """One fewer is not enough, nor is any number of one job."""
    assert streak_length(SLOTS, SETTINGS) == 5
    assert suspected(lost(1, 1, 1, 1, 2))
    assert not suspected(lost(1, 1, 1, 2))
    assert not suspected(lost(*[1] * 50))
    assert not suspected(Standing())


def test_one_job_that_goes_well_elsewhere() -> None:
    """A witness of it is as good as a second job; the number is the same."""
    assert suspected(lost(1, 1, 1, 1, 1, is_witnessed=True))
    assert not suspected(lost(1, 1, 1, 1, is_witnessed=True))


def test_only_the_last_failures_tell() -> None:
    """A job whose failure is too long ago does not count as the second."""
    assert suspected(lost(2, 1, 1, 1, 1))
    assert not suspected(lost(2, 1, 1, 1, 1, 1))


def test_a_witness_of_one_job_is_none_of_another() -> None:
    """When the streak becomes another job's alone, or gets a second one, it is forgotten."""
    witnessed = lost(1, 1, is_witnessed=True)
    assert after_loss(witnessed, Loss(9, 1), SLOTS, SETTINGS).is_witnessed
    assert not after_loss(witnessed, Loss(9, 2), SLOTS, SETTINGS).is_witnessed


@given(st.lists(st.integers(1, 3), max_size=20), st.integers(1, 6))
def test_a_streak_is_bounded_and_in_order(jobs: list[int], slots: int) -> None:
    """Whatever failed: the last failures, the newest last."""
    standing = Standing()
    for attempt, job in enumerate(jobs):
        standing = after_loss(standing, Loss(attempt, job), slots, SETTINGS)
    kept = list(enumerate(jobs))[-streak_length(slots, SETTINGS) :]
    assert list(standing.streak) == kept


def test_a_hold_doubles_up_to_half_an_hour() -> None:
    """From a minute."""
    seconds = [0.0]
    for _ in range(7):
        seconds.append(hold_seconds(seconds[-1], SETTINGS))
    assert seconds[1:] == [60, 120, 240, 480, 960, 1800, 1800]


def test_what_tells_about_a_node() -> None:
    """A process without a verdict, out of time, or that could not be started; nothing else."""
    assert {Cause.EXIT, Cause.TIME_LIMIT, Cause.UNABLE_TO_START} == TELLING


@pytest.mark.rule("R14")
def test_a_failure_of_the_nodes_uses_no_budget() -> None:
    """The next attempt waits as ever and avoids the node; an earlier failure is given back."""
    spent = Spent(own=1, asked=2, failed_nodes=(3,))
    again = retry.after_nodes_fault(spent, 7, 0.5, SETTINGS)
    assert again.spent == Spent(own=1, asked=2, failed_nodes=(3, 7))
    assert (again.avoid_nodes, again.delay_seconds) == ((3, 7), 8.0)
    assert retry.excuse(Cause.EXIT, spent, 7) == Spent(own=0, asked=2, failed_nodes=(3,))
    assert retry.excuse(Cause.TIME_LIMIT, Spent(), 7) == Spent()
    unable = Spent(own=1, unable_nodes=(3, 7))
    assert retry.excuse(Cause.UNABLE_TO_START, unable, 7) == Spent(own=1, unable_nodes=(3,))
