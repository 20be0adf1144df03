"""Job tasks: what an attempt creates, reports and deletes, and what anyone may see (R2–R9)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from jobtasks.core import resources
from jobtasks.core.errors import Forbidden, Invalid, NotFound, StaleAttempt
from jobtasks.core.identifiers import task_id
from jobtasks.core.states import BatchState, JobState, TaskState
from jobtasks.core.verdict import with_progress
from jobtasks.service import access, changes, creation, families, foreign_tasks
from jobtasks.service.context import Caller, Context
from jobtasks.service.creation import BulkCreated
from jobtasks.service.idempotency import Name, once
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import AttemptRecord, JobAttemptRecord, JobRecord, TaskRecord

__all__ = [
    "BulkCreated",
    "all_attempts",
    "attempt",
    "attempts",
    "attempts_of_job",
    "create",
    "create_many",
    "delete",
    "named_attempts",
    "newest_attempts",
    "show",
    "update",
]

REPORTED = ("progress", "success", "output")
"""What an attempt may write of its own task (R7)."""


class Waited(NamedTuple):
    """How a task waited for another attempt."""

    due: int
    shape_id: int


def create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], key: Name | None = None
) -> TaskRecord:
    """Create one task of the attempt's job; it runs when its creator is complete (R2, R3)."""
    return show(ctx, caller, create_many(ctx, caller, [attributes], key).uuids[0])


def create_many(
    ctx: Context, caller: Caller, items: list[dict[str, Any]], key: Name | None = None
) -> BulkCreated:
    """Create tasks as one arrival: contiguous qsequence, all or nothing (R2); once a key (R22)."""
    if caller.role != "attempt":
        return _create_foreign(ctx, caller, items, key)
    return once(
        ctx,
        caller,
        key,
        lambda: creation.create_children(ctx, caller, items),
        lambda made: [made.first_qsequence, made.count],
        lambda place: creation.created_before(ctx, caller, *place),
    )


def show(ctx: Context, caller: Caller, uuid: str) -> TaskRecord:
    """Return a task."""
    return access.visible_task(ctx, caller, uuid)


def update(
    ctx: Context, caller: Caller, uuid: str, attributes: dict[str, Any], *, whole: bool
) -> TaskRecord:
    """Write what an attempt reports of its own task (R7–R9), or a foreign job's manager (R7b).

    Raises:
        Forbidden: the caller is not the attempt that runs the task.
        StaleAttempt: that attempt is over.
        Invalid: a value of the wrong type, or a change of what an attempt may not change.
    """
    task = access.visible_task(ctx, caller, uuid)
    if _is_foreign(ctx, caller, task):
        foreign_tasks.update(ctx, task, attributes, whole=whole)
        return show(ctx, caller, uuid)
    if caller.role != "attempt" or caller.task_id != task.id:
        raise Forbidden(
            "Only the process that was dispatched to this task, with its attempt's token, and the"
            " job manager may write to it (R7)."
        )
    given = changes.accepted(changes.TASKS, task, attributes, REPORTED, whole=whole)
    return report(ctx, caller, task, given)


def report(ctx: Context, caller: Caller, task: TaskRecord, given: dict[str, Any]) -> TaskRecord:
    """Store the values of `REPORTED` that a write names, the task's record being this attempt's.

    Return the record as it is then: nothing else of it is moved by that, so it is not read again.
    """
    if not given:
        return task
    values = with_progress({name: _reported(ctx, name, value) for name, value in given.items()})
    if isinstance(success := values.get("success"), bool):
        values["success"] = int(success)
    task = task._replace(**values, modified_at=ctx.now)
    changed = ctx.tx.run(
        "task_report",
        task_id=task.id,
        attempt_id=caller.attempt_id,
        progress=task.progress,
        success=task.success,
        output=task.output,
        now=ctx.now,
    )
    if not changed:
        raise StaleAttempt
    return task


def _reported(ctx: Context, name: str, value: Any) -> Any:
    attribute = resources.RESOURCES["job_tasks"].attributes[name]
    result = resources.coerce(attribute, value)
    if name == "progress" and result is not None and not 0.0 <= result <= 1.0:
        raise Invalid("progress must be a number from 0 to 1, or null")
    if name == "output" and result is not None:
        creation.check_size(ctx, name, result)
    return result


def delete(ctx: Context, caller: Caller, uuid: str) -> TaskRecord:
    """Delete a task and return it as it was (R24).

    Its creator's live attempt may until it is published; owner and admin when the job is over, or
    at any time when they run it themselves (R7b).
    """
    task = access.visible_task(ctx, caller, uuid)
    if _is_foreign(ctx, caller, task):
        foreign_tasks.delete(ctx, task)
        return task
    if task.batch_state == BatchState.LATENT:
        if caller.role != "attempt" or caller.attempt_id != task.creator_attempt_id:
            raise Forbidden("Only the attempt that created this task may delete it (R24).")
    else:
        _require_final_job(ctx, caller, task)
    ctx.tx.lock_jobs([task.job_id])
    _remove(ctx, task)
    return task


def _require_final_job(ctx: Context, caller: Caller, task: TaskRecord) -> None:
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=task.job_id)
    assert job is not None
    if caller.role == "attempt" or not JobState(job.state).is_final:
        raise Forbidden(
            "A published task may be deleted only by the job's owner when the job is over (R24)."
        )
    if job.live:
        raise Invalid("Processes of this job have not ended yet; repeat this in a moment (R24).")


def _remove(ctx: Context, task: TaskRecord) -> None:
    families.forget(ctx, task.id)
    if not ctx.tx.run("task_delete", task_id=task.id):
        raise Forbidden("A running task cannot be deleted (R24).")
    waited = ctx.tx.one(Waited, "requeue_drop", task_id=task.id)
    never_claimed = task.state == TaskState.WAITING and not task.attempts and waited is None
    ctx.tx.run("batch_shrink", batch_id=task.batch_id, ready=int(never_claimed))
    ledger = Ledger(ctx)
    ledger.add(task.job_id, task.sequence, TaskState(task.state), -1)
    if never_claimed and task.batch_state == BatchState.PUBLISHED:
        ledger.make_ready(task.job_id, task.sequence, task.shape_id, -1)
    if task.batch_state == BatchState.PUBLISHED:
        where = {"job_id": task.job_id, "sequence": task.sequence, "batch_id": task.batch_id}
        ctx.tx.run("lineage_shrink", **where)
    if waited is not None and waited.due:
        ledger.make_ready(task.job_id, task.sequence, waited.shape_id, -1)
    ledger.flush()
    for sweep in ("tails_sweep", "attempts_sweep"):
        ctx.tx.run(sweep, task_ids=f"[{task.id}]")


def attempts(ctx: Context, caller: Caller, uuid: str) -> list[AttemptRecord]:
    """Return every attempt of a task, first to last (R13)."""
    task = access.visible_task(ctx, caller, uuid)
    return ctx.tx.all(AttemptRecord, "attempts_of_task", task_id=task.id)


class NewestAttempt(NamedTuple):
    """An attempt, of many tasks the newest of each, as far as its log is concerned."""

    id: int
    task_uuid: str
    qsequence: int
    sequence: int
    number: int
    state: int
    log_bytes: int
    log_removed_at: int | None
    """Set when the log is not kept any more: nothing more of it will come."""


def newest_attempts(
    ctx: Context, caller: Caller, job_uuid: str, qsequences: list[int]
) -> list[NewestAttempt]:
    """Return the newest attempts of these tasks of a job, in this order; none of one without."""
    job = access.visible_job(ctx, caller, job_uuid)
    ids = [task_id(job.id, number) for number in qsequences]
    return ctx.tx.all(NewestAttempt, "attempts_newest", task_ids=json.dumps(ids))


def all_attempts(
    ctx: Context, caller: Caller, job_uuid: str, qsequences: list[int]
) -> list[NewestAttempt]:
    """Return every attempt of these tasks of a job, task after task, first to last."""
    job = access.visible_job(ctx, caller, job_uuid)
    ids = [task_id(job.id, number) for number in qsequences]
    return ctx.tx.all(NewestAttempt, "attempts_of_tasks", task_ids=json.dumps(ids))


def named_attempts(
    ctx: Context, caller: Caller, job_uuid: str, named: list[tuple[int, int]]
) -> list[NewestAttempt]:
    """Return the attempts of a job that are named by (qsequence, number), in this order."""
    job = access.visible_job(ctx, caller, job_uuid)
    pairs = [(task_id(job.id, qsequence), number) for qsequence, number in named]
    return ctx.tx.all(NewestAttempt, "attempts_named", named=json.dumps(pairs))


def attempts_of_job(
    ctx: Context, caller: Caller, job_uuid: str, after: int, limit: int
) -> list[JobAttemptRecord]:
    """Return at most `limit` attempts of a job, in the order in which they began.

    `after` is the id of the last one that is known already: so a reader goes on where it was,
    and looks at new rows only.
    """
    job = access.visible_job(ctx, caller, job_uuid)
    return ctx.tx.all(JobAttemptRecord, "attempts_of_job", job_id=job.id, after=after, limit=limit)


def attempt(ctx: Context, caller: Caller, uuid: str, number: int | None) -> AttemptRecord:
    """Return one attempt of a task, the newest when no number is given."""
    found = attempts(ctx, caller, uuid)
    for record in reversed(found):
        if number is None or record.number == number:
            return record
    raise NotFound("This task has no such attempt.")


def _is_foreign(ctx: Context, caller: Caller, task: TaskRecord) -> bool:
    """Return whether the caller runs the task's job himself (R7b)."""
    if caller.role == "attempt":
        return False
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=task.job_id)
    return job is not None and not job.managed


def _create_foreign(
    ctx: Context, caller: Caller, items: list[dict[str, Any]], key: Name | None
) -> BulkCreated:
    """Create tasks for who runs the job himself (R7b); in any other job only attempts do (R2)."""
    job = _named_job(ctx, caller, items)
    if job.managed:
        raise Forbidden(
            "Only a running attempt of the job, with its own token, creates tasks in it (R2)."
        )
    return once(
        ctx,
        caller,
        key,
        lambda: foreign_tasks.create(ctx, job, items),
        lambda made: [made.first_qsequence, made.uuids],
        lambda place: foreign_tasks.created_before(ctx, *place),
    )


def _named_job(ctx: Context, caller: Caller, items: list[dict[str, Any]]) -> JobRecord:
    """Return the one job that all the items name."""
    names = {str(item.get("job_uuid") or "") for item in items}
    if len(names) > 1:
        raise Invalid("All tasks of one create belong to the same job")
    job_uuid = next(iter(names), "")
    if not job_uuid:
        raise Invalid("job_uuid must name the job that the task belongs to")
    job = ctx.tx.one(JobRecord, "job_by_uuid", uuid=job_uuid)
    if job is None or not access.may_read_job(caller, job.id, job.owner_uuid):
        raise Invalid(f"Job uuid '{job_uuid}' not found")
    return job
