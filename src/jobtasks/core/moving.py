"""Which jobs may move to another server, and what of them cannot be true (R7b, R10, R11, R13, R17).

A stream comes from outside: what these rules let pass is what the program itself would have
written, as far as one record tells. What several records tell together is counted in the database
(service/imports.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from jobtasks.core.errors import Conflict, Invalid
from jobtasks.core.foreign import task_state
from jobtasks.core.job_stream import AttemptLine, FamilyLine, JobLine, TaskLine
from jobtasks.core.nesting import deeper_than
from jobtasks.core.retry import STOPS, Cause
from jobtasks.core.states import JobState, TaskState

LEFT = frozenset(
    {
        *("id", "uuid", "owner_uuid", "has_logs", "script_parameters_digest", "node_uuids"),
        *("todo", "running_tasks", "done", "failed", "live", "halt", "frontier"),
    }
)
"""Columns of a job's record that do not travel as they are: named otherwise, or counted anew."""
STATES = {state.word: state for state in TaskState}


def carried(columns: Iterable[str]) -> tuple[str, ...]:
    """Return which columns of a job's record travel: all that are not `LEFT`."""
    return tuple(name for name in columns if name not in LEFT)


def refuse_at_work(state: str, *, managed: bool, live: int) -> None:
    """Raise `Conflict` unless a job may be exported: it must not run here and there.

    A queued one may start at any moment. A foreign job is its own manager's, in any state (R7b).
    """
    if not managed:
        return
    if not JobState(state).is_final:
        raise Conflict(
            f"The job is {state}: it would run here and where it is imported. Cancel it first, or"
            " export it with --cancel."
        )
    if live:
        raise Conflict("Processes of the job have not ended yet; repeat this in a moment (R21).")


def state_of_job(line: JobLine) -> JobState:
    """Return the state of the job that a stream begins with.

    Raises:
        Invalid: a job in such a state is never exported.
    """
    found = line.attributes.get("state")
    if found not in tuple(JobState):
        raise Invalid(f"state must be one of {', '.join(JobState)}")
    state = JobState(found)
    managed = line.attributes.get("managed")
    if managed not in (0, 1) or isinstance(managed, float):
        raise Invalid("managed must be 0 or 1")
    if managed and not state.is_final:
        raise Invalid(f"A job that is {state} is not exported: it would run in two places.")
    if managed and line.tasks and not line.attributes.get("seeded"):
        raise Invalid("The job has tasks and was never seeded (R1).")
    return state


def can_resume(line: JobLine) -> bool:
    """Return whether a job that comes can be queued at once, by the rules of `retry` (R23)."""
    unfinished = line.attributes.get("state") in (JobState.FAILED, JobState.CANCELLED)
    return unfinished and line.attributes.get("managed") == 1


def check_text(*texts: str | None) -> None:
    """Raise `Invalid` where a text holds what no database takes."""
    for text in texts:
        if text and "\0" in text:
            raise Invalid("A text must not contain a NUL character")


def check_depth(values: Iterable[Any], depth_max: int) -> None:
    """Raise `Invalid` where a JSON value is nested too deep (R40)."""
    for value in values:
        if value and deeper_than(value, depth_max):
            raise Invalid(f"A value is nested deeper than {depth_max} levels")


def check_task(task: TaskLine, after: int, next_qsequence: int, *, managed: bool) -> TaskState:
    """Return the state of a task that a stream brings after qsequence `after`.

    Raises:
        Invalid: its values contradict each other.
    """
    check_text(task.output, task.failed_log, task.log, *(task.command or ()))
    state = STATES.get(task.state)
    if state is None:
        raise Invalid(f"{task.uuid}: state must be one of {', '.join(STATES)}")
    if not after < task.qsequence < next_qsequence:
        raise Invalid(f"{task.uuid}: its qsequence is out of order, or was never given (R6)")
    if (task.failed_count == 0) != (task.failed_at is None):
        raise Invalid(f"{task.uuid}: failed_at does not fit failed_count (R13)")
    if managed:
        _check_managed(task, state)
    else:
        _check_foreign(task, state)
    return state


def _check_managed(task: TaskLine, state: TaskState) -> None:
    if not _fits(task, state):
        raise Invalid(f"{task.uuid}: it cannot be {task.state} with these values (R10-R13)")
    if not task.attempts and (state is not TaskState.WAITING or task.failed_count):
        raise Invalid(f"{task.uuid}: it cannot be {task.state} without an attempt")
    if task.waits_until is not None and state is not TaskState.WAITING:
        raise Invalid(f"{task.uuid}: only a waiting task waits for another attempt")
    if task.created_by and task.created_by.qsequence >= task.qsequence:
        raise Invalid(f"{task.uuid}: it was created by a task that came later (R6)")
    if task.created_by and task.created_by.sequence is None:
        raise Invalid(f"{task.uuid}: the sequence of its creator is missing")
    if task.failed_log is not None or task.log is not None:
        raise Invalid(f"{task.uuid}: its logs belong to its attempts")


def _fits(task: TaskLine, state: TaskState) -> bool:
    """Return whether the values of a task that does not run amount to its state."""
    if state is TaskState.WAITING:
        return task.progress is None and task.success is None and task.output is None
    if state is TaskState.COMPLETE:
        return task.success is True and task.progress == 1.0
    return state is TaskState.FAILED and task.success is False


def _check_foreign(task: TaskLine, state: TaskState) -> None:
    amounts_to = task_state(
        progress=task.progress,
        success=task.success,
        started_at=task.started_at,
        finished_at=task.finished_at,
    )
    if state is not amounts_to:
        raise Invalid(f"{task.uuid}: it cannot be {task.state} with these values (R7b)")
    if task.waits_until is not None or task.spent is not None:
        raise Invalid(f"{task.uuid}: a task of a foreign job waits for nothing here (R7b)")
    if task.created_by and task.created_by.qsequence == task.qsequence:
        raise Invalid("A task is not created by itself")


def check_attempt(attempt: AttemptLine) -> None:
    """Raise `Invalid` when the values of an attempt contradict each other."""
    where = f"{attempt.job_task_uuid}, attempt {attempt.number}"
    texts = (attempt.reason, attempt.stderr, attempt.family, attempt.node.hostname)
    check_text(*texts, *(seat.node.hostname for seat in attempt.seats))
    if attempt.cause is not None and attempt.cause not in tuple(Cause):
        raise Invalid(f"{where}: cause must be one of {', '.join(Cause)}")
    failed = attempt.counted or attempt.node_fault
    if attempt.counted and attempt.node_fault:
        raise Invalid(f"{where}: a failure is counted, or its node's (R16)")
    if failed and (attempt.cause is None or attempt.cause in STOPS):
        raise Invalid(f"{where}: what was stopped is no failure (R14)")
    if attempt.family is not None and not failed:
        raise Invalid(f"{where}: it is among failures and did not fail")
    nodes = [attempt.node.uuid, *(seat.node.uuid for seat in attempt.seats)]
    if len(set(nodes)) != len(nodes):
        raise Invalid(f"{where}: a gang has one slot on each of its nodes (R25)")


def check_family(family: FamilyLine) -> None:
    """Raise `Invalid` when a family of failures cannot be."""
    check_text(family.name, family.message, family.sample_message)
    if not family.name:
        raise Invalid("A family of failures has a name")
    if family.cause is not None and family.cause not in tuple(Cause):
        raise Invalid(f"cause must be one of {', '.join(Cause)}")
