"""The states of jobs, tasks, attempts and batches, and what may follow what (R17)."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from functools import cached_property


class JobState(StrEnum):
    """A job's state, spelled as on the wire."""

    QUEUED = "Queued"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_final(self) -> bool:
        """Whether nothing but the method `retry` leads on from here."""
        return self in FINAL


FINAL = frozenset({JobState.COMPLETE, JobState.FAILED, JobState.CANCELLED})

JOB_FOLLOWERS: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset(JobState) - {JobState.QUEUED},
    JobState.RUNNING: FINAL,
    JobState.COMPLETE: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}
"""What a PUT or PATCH may change a job's state to (R17)."""


def may_follow(old: JobState, new: JobState) -> bool:
    """Return whether a PUT or PATCH may change `old` to `new`; staying is no change."""
    return old == new or new in JOB_FOLLOWERS[old]


def job_flags(state: JobState) -> tuple[bool, bool | None]:
    """Return (running, success) as they follow from the state (R17)."""
    success = {JobState.COMPLETE: True, JobState.FAILED: False, JobState.CANCELLED: False}
    return state == JobState.RUNNING, success.get(state)


class TaskState(IntEnum):
    """A task's state; `word` is its spelling on the wire."""

    WAITING = 0
    RUNNING = 1
    COMPLETE = 2
    FAILED = 3

    @cached_property
    def word(self) -> str:
        """Return the spelling of attribute `state`."""
        return self.name.lower()


class NodeState(StrEnum):
    """What a node does about new work, spelled as on the wire; the first that holds is told."""

    GONE = "gone"
    """No agent of it is heard."""
    DRAINED = "drained"
    """It is draining, and nothing runs on it any more."""
    DRAINING = "draining"
    """It takes nothing new until it is released; what runs goes on."""
    HELD = "held"
    """The same, perhaps until a time (R16)."""
    BUSY = "busy"
    """Each of its slots has an attempt."""
    LIVE = "live"
    """It takes work."""


UNTIL_RELEASED = 2**62
"""Stands in `held_until` for a hold that has no end of its own."""


class BatchState(IntEnum):
    """What became of the tasks that one attempt created (R3, R4)."""

    LATENT = 0
    PUBLISHED = 1
    DEAD = 2


class AttemptState(IntEnum):
    """Where an attempt is between its claim and its end.

    STOPPING: its record is closed and its token dead (its job was cancelled), but its process may
    live still, so that it keeps its slot and memory until its agent says otherwise.
    """

    ASSIGNED = 0
    RUNNING = 1
    STOPPING = 2
    ENDED = 3

    @property
    def word(self) -> str:
        """Return the spelling of an attempt's `state`."""
        return self.name.lower()
