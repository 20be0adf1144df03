"""Which sequence of a job may run, and when the job is over (R5, R17, R19, R20)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jobtasks.core.states import JobState


@dataclass(frozen=True, slots=True)
class Level:
    """How many tasks of one sequence are where; children that wait for their creator are todo."""

    sequence: int
    todo: int = 0
    running: int = 0
    done: int = 0
    failed: int = 0

    @property
    def is_open(self) -> bool:
        """Whether not all tasks are complete; a task that failed for good is not complete."""
        return self.todo + self.running + self.failed > 0


def frontier(levels: Iterable[Level]) -> int | None:
    """Return the lowest sequence that is not all complete, None when all are (R5)."""
    return min((level.sequence for level in levels if level.is_open), default=None)


def job_end(
    *, todo: int, running: int, failed: int, live: int, halted: bool, frontier_todo: int
) -> JobState | None:
    """Return the state in which a running job ends now, None while it goes on.

    `live` counts attempts that may still have a process; `frontier_todo` the tasks of the frontier
    that wait. Failed for good at the frontier and nothing waiting there: nothing can start any
    more, also with ``on_failure: continue`` (R19).
    """
    if live:
        return None
    if halted:
        return JobState.FAILED
    if todo + running + failed == 0:
        return JobState.COMPLETE
    if failed and frontier_todo == 0:
        return JobState.FAILED
    return None
