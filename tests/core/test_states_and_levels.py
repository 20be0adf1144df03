"""States of jobs, frontiers, the end of a job, gaps of the clock (R5, R17, R19, R20, R33)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobtasks.core.leases import MICROSECONDS, Reading, is_gap
from jobtasks.core.sequencing import Level, frontier, job_end
from jobtasks.core.settings import Settings
from jobtasks.core.states import FINAL, AttemptState, JobState, TaskState, job_flags, may_follow

FROM_QUEUED = set(JobState)
ALLOWED = {
    JobState.QUEUED: FROM_QUEUED,
    JobState.RUNNING: {JobState.RUNNING, *FINAL},
    JobState.COMPLETE: {JobState.COMPLETE},
    JobState.FAILED: {JobState.FAILED},
    JobState.CANCELLED: {JobState.CANCELLED},
}


@pytest.mark.rule("R17")
@pytest.mark.parametrize(("old", "new"), list(product(JobState, JobState)))
def test_transitions(old: JobState, new: JobState) -> None:
    """Queued to any, Running to an end, an end to nothing else."""
    assert may_follow(old, new) is (new in ALLOWED[old])


@pytest.mark.rule("R17")
@pytest.mark.parametrize(
    ("state", "running", "success", "final"),
    [
        ("Queued", False, None, False),
        ("Running", True, None, False),
        ("Complete", False, True, True),
        ("Failed", False, False, True),
        ("Cancelled", False, False, True),
    ],
)
def test_flags_follow_the_state(
    state: str, running: bool, success: bool | None, final: bool
) -> None:
    """running and success are never stored apart from it."""
    assert job_flags(JobState(state)) == (running, success)
    assert JobState(state).is_final is final


def test_words_of_states() -> None:
    """As the API shows them."""
    assert [state.word for state in TaskState] == ["waiting", "running", "complete", "failed"]
    assert [state.word for state in AttemptState] == ["assigned", "running", "stopping", "ended"]


LEVELS = st.lists(
    st.builds(Level, st.integers(0, 9), *[st.integers(0, 2)] * 4),
    max_size=6,
    unique_by=lambda level: level.sequence,
)


@pytest.mark.rule("R5")
@given(levels=LEVELS)
def test_the_frontier_is_the_lowest_open_sequence(levels: list[Level]) -> None:
    """What waits, runs or failed for good holds it; complete tasks do not."""
    found = frontier(levels)
    open_levels = [level for level in levels if level.todo or level.running or level.failed]
    assert found == min((level.sequence for level in open_levels), default=None)


@pytest.mark.rule("R17", "R19", "R20")
@pytest.mark.parametrize(
    ("facts", "end"),
    [
        ({}, JobState.COMPLETE),
        ({"live": 1}, None),
        ({"todo": 1, "frontier_todo": 1}, None),
        ({"todo": 1}, None),
        ({"todo": 1, "frontier_todo": 1, "halted": True}, JobState.FAILED),
        ({"todo": 1, "frontier_todo": 1, "halted": True, "live": 1}, None),
        ({"failed": 1}, JobState.FAILED),
        ({"failed": 1, "live": 1}, None),
        ({"failed": 1, "todo": 2, "frontier_todo": 1}, None),
        ({"failed": 1, "todo": 2}, JobState.FAILED),
        ({"running": 1}, None),
    ],
)
def test_when_a_job_ends(facts: dict[str, int], end: JobState | None) -> None:
    """Never with a live attempt; complete when all tasks are; failed when nothing can start."""
    found = job_end(
        todo=facts.get("todo", 0),
        running=facts.get("running", 0),
        failed=facts.get("failed", 0),
        live=facts.get("live", 0),
        halted=bool(facts.get("halted")),
        frontier_todo=facts.get("frontier_todo", 0),
    )
    assert found == end


SETTINGS = Settings(clock_gap_seconds=5.0)


def reading(wall_seconds: float, monotonic_seconds: float) -> Reading:
    """Return both clocks."""
    return Reading(round(wall_seconds * MICROSECONDS), monotonic_seconds)


@pytest.mark.rule("R33")
@pytest.mark.parametrize(
    ("wall", "monotonic", "gap"),
    [
        (1, 1, False),
        (5, 5, False),
        (5.1, 5.1, True),
        (86_400, 86_400, True),
        (6.1, 1, True),
        (5.9, 1, False),
        (-3.9, 1, False),
        (-4.1, 1, True),
        (1, 6, True),
        (0, 0, False),
    ],
)
def test_gaps(wall: float, monotonic: float, gap: bool) -> None:
    """A late look, or a wall clock that was stepped in either direction, by more than 5 s."""
    previous = reading(1000, 50)
    assert is_gap(previous, reading(1000 + wall, 50 + monotonic), SETTINGS) is gap


@pytest.mark.rule("R33")
def test_a_pause_of_the_store_is_a_gap() -> None:
    """However short: among what could not be written may have been renewals."""
    previous = Reading(1_000_000, 50.0, failures=3)
    assert not is_gap(previous, Reading(1_000_100, 50.0001, failures=3), SETTINGS)
    assert is_gap(previous, Reading(1_000_100, 50.0001, failures=4), SETTINGS)


@pytest.mark.rule("R33")
def test_the_first_look_is_a_gap() -> None:
    """At start and at take-over every lease is given anew."""
    assert is_gap(None, reading(0, 0), SETTINGS)
