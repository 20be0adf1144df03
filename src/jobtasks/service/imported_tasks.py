"""Tasks of a job that comes from another server: checked, and put into batches (ADR 0026)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import moving
from jobtasks.core.constraints import Needs
from jobtasks.core.errors import Conflict, Invalid, Unavailable
from jobtasks.core.identifiers import task_id
from jobtasks.core.job_stream import TaskLine
from jobtasks.core.states import BatchState, TaskState
from jobtasks.service import creation, shapes
from jobtasks.service.context import Caller, Context
from jobtasks.service.creation import Creator, Limited
from jobtasks.service.import_under_way import Import, OpenBatch, hear, keep
from jobtasks.service.job_values import EMPTY_OBJECT

Facts = dict[str, Any]
ARRIVING = 2
"""In `due` of a task that waits for another attempt: of no job that is there yet."""


class KnownTask(NamedTuple):
    """A task that has a name which arrives."""

    uuid: str
    job_id: int
    batch_state: int | None


def checked_tasks(limited: Limited, arriving: Import, tasks: Sequence[TaskLine]) -> list[Facts]:
    """Return tasks as their columns hold them; each follows the one before.

    Raises:
        Invalid: a task breaks a rule.
    """
    found = []
    for task in tasks:
        try:
            found.append(_columns(limited, arriving, task))
        except Invalid as problem:
            said = [text.removeprefix(f"{task.uuid}: ") for text in problem.messages]
            raise Invalid(*(f"task {task.uuid}: {text}" for text in said)) from None
        arriving.after = task.qsequence
        arriving.tasks += 1
    if arriving.tasks > limited.settings.tasks_per_job_max:
        raise Invalid("The job has more tasks than a job may have (R40).")
    return found


def _columns(limited: Limited, arriving: Import, task: TaskLine) -> Facts:
    line = arriving.line
    state = moving.check_task(task, arriving.after, line.next_qsequence, managed=arriving.managed)
    moving.check_depth((task.parameters, task.runtime_constraints), limited.settings.depth_max)
    constraints = creation.object_text(limited, "runtime_constraints", task.runtime_constraints)
    if arriving.managed:
        shapes.task_constraints(constraints)
    for name, text in (("output", task.output), ("failed_log", task.failed_log), ("log", task.log)):
        if text:
            creation.check_size(limited, name, text)
    parameters = creation.object_text(limited, "parameters", task.parameters)
    return {
        "line": task,
        "state": state,
        "parameters": parameters,
        "runtime_constraints": constraints,
        "command": creation.command_text(limited, task.command),
    }


def add_tasks(ctx: Context, caller: Caller, arriving: Import, tasks: Sequence[Facts]) -> None:
    """Take the next tasks, checked.

    Raises:
        Conflict: a task of this name is here already.
        Invalid: a task contradicts its creator.
        Unavailable: the import was given up, or rows of an earlier one are still being swept.
    """
    hear(ctx, caller, arriving)
    _refuse_known(ctx, arriving, [facts["line"].uuid for facts in tasks])
    rows, waiting = [], []
    grown: dict[int, list[int]] = {}
    for facts in tasks:
        task: TaskLine = facts["line"]
        row_id = task_id(arriving.job.id, task.qsequence)
        batch = _batch(ctx, arriving, task, facts, row_id)
        is_held = _waits(arriving, task, facts["state"])
        if is_held:
            waiting.append(_waiting(arriving, task, row_id, batch.shape_id))
        is_ready = arriving.managed and facts["state"] is TaskState.WAITING and not is_held
        count = grown.setdefault(batch.id, [0, 0, 0])
        count[0] += 1
        if is_ready:
            count[2] = count[2] or row_id
            count[1] += 1
        rows.append(_row(task, facts, row_id, batch.id))
    ctx.tx.add_many("import_task_add", rows)
    ctx.tx.run_many("requeue_add", waiting)
    ctx.tx.run_many(
        "import_batch_grow",
        [
            {"batch_id": batch_id, "count": count, "ready": ready, "head": head or rows[0][0]}
            for batch_id, (count, ready, head) in grown.items()
        ],
    )


def _refuse_known(ctx: Context, arriving: Import, uuids: Sequence[str]) -> None:
    text = msgspec.json.encode(uuids).decode()
    if len(set(uuids)) != len(uuids):
        raise Invalid("Two tasks of the stream have one uuid.")
    known = ctx.tx.one(KnownTask, "import_known_task", uuids=text)
    if known is None:
        return
    if known.job_id == arriving.job.id:
        raise Invalid(f"Two tasks of the stream have the uuid {known.uuid}.")
    if known.batch_state in (None, int(BatchState.DEAD)):
        raise Unavailable(
            "What was here of this job before is still being removed; repeat the import in a while."
        )
    raise Conflict(f"The task {known.uuid} is here already, in another job.")


def _waits(arriving: Import, task: TaskLine, state: TaskState) -> bool:
    """Return whether a task waits for another attempt, and is not claimed as one of its batch."""
    is_waiting = arriving.managed and state is TaskState.WAITING
    return is_waiting and (task.attempts > 0 or task.waits_until is not None)


def _waiting(arriving: Import, task: TaskLine, row_id: int, shape_id: int) -> Facts:
    """Return how a task waits: where it failed before is elsewhere, so no node is avoided (R12)."""
    return {
        "task_id": row_id,
        "job_id": arriving.job.id,
        "sequence": task.sequence,
        "shape_id": shape_id,
        "not_before": task.modified_at if task.waits_until is None else task.waits_until,
        "due": ARRIVING,
        "avoid": None,
        "avoid_until": None,
    }


def _batch(ctx: Context, arriving: Import, task: TaskLine, facts: Facts, head: int) -> OpenBatch:
    """Return the batch of tasks that are created alike (ADR 0001)."""
    creator = task.created_by
    own = facts["runtime_constraints"] if arriving.managed else EMPTY_OBJECT
    key = (creator and creator.qsequence, task.sequence, own)
    found = arriving.batches.get(key)
    if found is None:
        found = _new_batch(ctx, arriving, task, own, head)
        keep(arriving.batches, key, found)
    else:
        arriving.batches.move_to_end(key)
    return found


def _new_batch(ctx: Context, arriving: Import, task: TaskLine, own: str, head: int) -> OpenBatch:
    job = arriving.job
    creator = _creator(ctx, arriving, task)
    if arriving.managed:
        constraints = shapes.task_constraints(own)
        batch_id = creation.add_batch(
            ctx, job, task.sequence, constraints, creator, head, BatchState.DEAD
        )
    else:
        batch_id = ctx.tx.add(
            "batch_add_foreign",
            job_id=job.id,
            sequence=task.sequence,
            shape_id=shapes.shape_of(ctx, Needs()),
            creator_task_id=creator.task_id,
            size=0,
            head=head,
        )
        ctx.tx.run("import_hide_batch", batch_id=batch_id)
    ctx.tx.run("batch_await", batch_id=batch_id, arrival_id=arriving.arrival_id)
    return OpenBatch(batch_id, int(ctx.tx.value("batch_shape", batch_id=batch_id)))


def _creator(ctx: Context, arriving: Import, task: TaskLine) -> Creator:
    """Return who created a task: perhaps one that was deleted since."""
    if task.created_by is None:
        return creation.NOBODY
    creator_id = task_id(arriving.job.id, task.created_by.qsequence)
    said = task.created_by.sequence
    if not arriving.managed:
        return Creator(creator_id, None, None)
    sequence = ctx.tx.value("import_sequence", task_id=creator_id)
    if sequence is not None and sequence != said:
        raise Invalid(f"task {task.uuid}: its creator has sequence {sequence}, not {said}.")
    return Creator(creator_id, None, said)


def _row(task: TaskLine, facts: Facts, row_id: int, batch_id: int) -> tuple[Any, ...]:
    """Return the columns of `import_task_add`."""
    spent = None if task.spent is None else msgspec.json.encode(task.spent).decode()
    return (
        *(row_id, task.uuid, batch_id, task.sequence, int(facts["state"])),
        *(facts["parameters"], facts["runtime_constraints"], facts["command"]),
        *(task.progress, None if task.success is None else int(task.success), task.output),
        *(task.created_at, task.modified_at, task.started_at, task.finished_at),
        *(task.attempts, task.failed_count, task.failed_at, task.failed_log, task.log, spent),
    )
