"""What an update may name: whole records come back from clients, changed or not (R7, R17)."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from jobtasks.core import resources, states
from jobtasks.core.errors import Invalid
from jobtasks.core.states import JobState, TaskState
from jobtasks.core.timestamps import parse_time
from jobtasks.store.records import JobRecord, TaskRecord

EMPTY: tuple[Any, ...] = (None, "", {}, 0, False)
"""Values that a whole record may carry for an attribute that its sender did not fill (R7)."""


class Subject(NamedTuple):
    """A kind of record that updates name attributes of."""

    resource: str
    current: Callable[[Any], Mapping[str, Any]]
    """The record's values as a client would send them back; times as Unix microseconds."""
    stale: frozenset[str]
    """Read-only values that move by themselves: a whole record may carry older ones."""


def accepted(
    subject: Subject,
    record: Any,
    attributes: Mapping[str, Any],
    changeable: Collection[str],
    *,
    whole: bool,
) -> dict[str, Any]:
    """Return the attributes that the caller may change, as given.

    Others may be named when they do not change; in a whole record (PUT, a form) also when they are
    empty or a stale copy of what moves by itself.

    Raises:
        Invalid: an unknown attribute, or another change.
    """
    table = resources.RESOURCES[subject.resource]
    given: dict[str, Any] = {}
    for name, value in attributes.items():
        attribute = resources.attribute(table, name)
        if attribute.name in changeable:
            given[attribute.name] = value
        elif not attribute.ignored and not _is_harmless(subject, record, attribute, value, whole):
            raise Invalid(f"{attribute.name} cannot be changed")
    return given


def _is_harmless(
    subject: Subject, record: Any, attribute: resources.Attribute, value: Any, whole: bool
) -> bool:
    if whole and (attribute.name in subject.stale or any(_same(value, empty) for empty in EMPTY)):
        return True
    current = subject.current(record).get(attribute.name)
    if attribute.kind is resources.Kind.DATETIME and isinstance(value, str):
        try:
            value = parse_time(value)
        except ValueError:
            return False
    if attribute.name in {"job_uuid", "created_by_job_task_uuid"} and value in (None, ""):
        return not current or whole
    return _same(value, current)


def _same(value: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; true is not 1 unless both are numbers or null."""
    return bool(value == other)


def current_task(task: TaskRecord) -> Mapping[str, Any]:
    """Return a task's values as a client would send them back; times as Unix microseconds."""
    return {
        "uuid": task.uuid,
        "owner_uuid": task.owner_uuid,
        "job_uuid": task.job_uuid,
        "created_by_job_task_uuid": task.created_by_job_task_uuid,
        "sequence": task.sequence,
        "qsequence": task.qsequence,
        "parameters": json.loads(task.parameters),
        "runtime_constraints": json.loads(task.runtime_constraints),
        "command": task.command and json.loads(task.command),
        "progress": task.progress,
        "success": task.success,
        "output": task.output,
        "state": TaskState(task.state).word,
        "attempts": task.attempts,
        "started_at": task.started_at,
        "finished_at": task.finished_at,
        "failed_count": task.failed_count,
        "failed_at": task.failed_at and task.failed_at / 1e6,
        "failed_log": task.failed_log,
        "log": task.log,
    }


def differing(subject: Subject, record: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of the typed `values` that are not what the record has."""
    current = subject.current(record)
    return {name: value for name, value in values.items() if not _same(value, current.get(name))}


def _current_job(job: JobRecord) -> Mapping[str, Any]:
    running, success = states.job_flags(JobState(job.state))
    return {
        **job._asdict(),
        "script_parameters": json.loads(job.script_parameters),
        "runtime_constraints": json.loads(job.runtime_constraints),
        "components": json.loads(job.components),
        "command": job.command and json.loads(job.command),
        "running": running,
        "success": success,
        "nondeterministic": None if job.nondeterministic is None else bool(job.nondeterministic),
        "tasks_summary": tasks_summary(job),
    }


def tasks_summary(job: JobRecord) -> dict[str, Any]:
    """Return how many tasks are where, or what a foreign job's manager wrote of them (R17)."""
    if job.tasks_summary is not None:
        summary: dict[str, Any] = json.loads(job.tasks_summary)
        return summary
    return {
        "todo": job.todo,
        "running": job.running_tasks,
        "done": job.done,
        "failed": job.failed,
    }


TASKS = Subject(
    "job_tasks",
    current_task,
    frozenset(
        {
            "state",
            "attempts",
            "started_at",
            "finished_at",
            "failed_count",
            "failed_at",
            "failed_log",
            "log",
        }
    ),
)
JOBS = Subject("jobs", _current_job, frozenset({"output_truncated", "log"}))
