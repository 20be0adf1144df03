"""The method `retry`: a failed or cancelled job is queued again (R23)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import constraints as rules
from jobtasks.core.errors import Invalid
from jobtasks.core.packs import Pack
from jobtasks.core.states import BatchState, JobState, TaskState
from jobtasks.service import (
    access,
    creation,
    engines,
    events,
    families,
    family_retry,
    notices,
    shapes,
)
from jobtasks.service.context import Caller, Context
from jobtasks.service.creation import Creator
from jobtasks.service.idempotency import Name, once
from jobtasks.store.records import JobRecord, TaskRecord


class ResetFacts(NamedTuple):
    """What a reset of a task needs."""

    id: int
    uuid: str
    sequence: int
    state: int
    attempts: int
    runtime_constraints: str
    batch_id: int
    own: str
    shape_id: int
    creator_task_id: int | None
    creator_attempt_id: int | None
    creator_sequence: int | None


class FailedFamily(NamedTuple):
    """The failed tasks of a family, in place of a list of tasks (core/families.py)."""

    name: str
    ram_factor: float | None = None
    """How much more memory they get than their last attempt had."""


Chosen = list[str] | FailedFamily | None
"""UUIDs of tasks, a family of failures, or None: whatever is not complete."""


class Own(NamedTuple):
    """A batch and its tasks' own constraints."""

    id: int
    own: str


def retry(
    ctx: Context,
    caller: Caller,
    uuid: str,
    chosen: Chosen,
    constraints: dict[str, Any] | None,
    key: Name | None = None,
    pack: Pack | None = None,
) -> JobRecord:
    """Queue a failed or cancelled job again, in one transaction (R23); once a key (R22).

    Complete tasks and their children stay. Where none is `chosen` every other task is reset and
    `constraints` replace those of the job that they name; else only the chosen tasks are reset and
    get the constraints. `pack` is what its script's directory holds now; None: what it had.

    Raises:
        Invalid: the job is not failed or cancelled, has a live attempt, or a task cannot be reset.
    """
    return once(
        ctx,
        caller,
        key,
        lambda: _retry(ctx, caller, uuid, chosen, constraints, pack),
        lambda job: job.uuid,
        lambda _: access.own_job(ctx, caller, uuid, "retry"),
    )


def _retry(
    ctx: Context,
    caller: Caller,
    uuid: str,
    chosen: Chosen,
    constraints: dict[str, Any] | None,
    pack: Pack | None,
) -> JobRecord:
    job = access.own_job(ctx, caller, uuid, "retry")
    if not job.managed:
        raise Invalid("A manager of its own runs this job, and tries it again or not (R7b).")
    if job.state not in (JobState.FAILED, JobState.CANCELLED):
        raise Invalid(f"Only a Failed or Cancelled job can be retried; this one is {job.state}.")
    if job.live:
        raise Invalid("Processes of this job have not ended yet; repeat this in a moment (R23).")
    ctx.tx.lock_jobs([job.id])
    merged = job.runtime_constraints
    if chosen is None and constraints:
        merged = _merge(ctx, job.runtime_constraints, constraints)
        notices.check_target(ctx, shapes.job_constraints(merged).notify_url)
        engines.refuse_impossible(ctx, merged)
    ctx.tx.run(
        "job_requeue",
        job_id=job.id,
        runtime_constraints=merged,
        now=ctx.now,
        user_uuid=caller.user_uuid,
    )
    if pack is not None:
        ctx.tx.run("job_packed", job_id=job.id, script_hash=pack.hash, script_remark=pack.remark)
    if chosen is None:
        _reset_all(ctx, job, merged)
    elif isinstance(chosen, FailedFamily):
        family_retry.reset_family(ctx, job, chosen.name, constraints or {}, chosen.ram_factor)
    else:
        _reset_listed(ctx, job, chosen, constraints or {})
    recount(ctx, job.id)
    events.job_changed(ctx, job.id, uuid, job.state, JobState.QUEUED)
    ctx.wake.update({"manager", uuid})
    return access.visible_job(ctx, caller, uuid)


def _merge(ctx: Context, stored: str, given: dict[str, Any]) -> str:
    return creation.object_text(
        ctx, "runtime_constraints", {**msgspec.json.decode(stored), **given}
    )


def _reset_all(ctx: Context, job: JobRecord, job_constraints: str) -> None:
    """Reset every task that is not complete; those never started need no row of their own."""
    ids = ctx.tx.all(int, "requeue_of_job", job_id=job.id)
    ids += ctx.tx.all(int, "tasks_failed", job_id=job.id)
    ctx.tx.run("requeue_clear", job_id=job.id)
    ctx.tx.run("families_recover", job_id=job.id)
    if job_constraints != job.runtime_constraints:
        _reshape(ctx, job.id, job_constraints)
    for task_id in ids:
        facts = ctx.tx.one(ResetFacts, "task_for_reset", task_id=task_id)
        if facts is not None:
            _reset(ctx, job.id, facts, facts.runtime_constraints, facts.batch_id, facts.shape_id)


def _reshape(ctx: Context, job_id: int, job_constraints: str) -> None:
    """Give every batch the shape that follows from the job's new constraints."""
    job = rules.parse_job(msgspec.json.decode(job_constraints))
    for batch in ctx.tx.all(Own, "batches_of_job", job_id=job_id):
        own = msgspec.json.decode(batch.own, type=rules.Constraints)
        shape_id = shapes.shape_for_job(ctx, job_id, job, own)
        ctx.tx.run("batch_reshape", batch_id=batch.id, shape_id=shape_id)


def _reset_listed(
    ctx: Context, job: JobRecord, task_uuids: Iterable[str], constraints: dict[str, Any]
) -> None:
    for uuid in dict.fromkeys(task_uuids):
        task = ctx.tx.one(TaskRecord, "task_by_uuid", uuid=uuid)
        if task is None or task.job_id != job.id:
            raise Invalid(f"Job task uuid '{uuid}' not found in this job")
        facts = ctx.tx.one(ResetFacts, "task_for_reset", task_id=task.id)
        if facts is None or facts.state == TaskState.COMPLETE:
            raise Invalid(f"Job task {uuid} is complete: it is not run again")
        _reset_one(ctx, job, facts, constraints)


def _reset_one(
    ctx: Context, job: JobRecord, facts: ResetFacts, constraints: dict[str, Any]
) -> None:
    """Reset a listed task, with constraints of its own in a batch of its own."""
    families.recovers(ctx, facts.id)
    held = ctx.tx.value("requeue_drop", task_id=facts.id) is not None
    never_started = facts.state == TaskState.WAITING and not facts.attempts and not held
    if not constraints:
        if not never_started:
            _reset(ctx, job.id, facts, facts.runtime_constraints, facts.batch_id, facts.shape_id)
        return
    text = _merge(ctx, facts.runtime_constraints, constraints)
    batch_id = creation.add_wanted(
        ctx,
        job,
        facts.sequence,
        shapes.task_constraints(text),
        Creator(facts.creator_task_id, facts.creator_attempt_id, facts.creator_sequence),
        facts.id,
        BatchState.PUBLISHED,
    )
    ctx.tx.run("batch_hold", batch_id=batch_id)
    shape_id = ctx.tx.value("batch_shape", batch_id=batch_id)
    _reset(ctx, job.id, facts, text, batch_id, shape_id)
    ctx.tx.run("batch_shrink", batch_id=facts.batch_id, ready=int(never_started))


def _reset(
    ctx: Context,
    job_id: int,
    facts: ResetFacts,
    runtime_constraints: str,
    batch_id: int,
    shape_id: int,
) -> None:
    """Let one task begin anew, ready at once."""
    ctx.tx.run(
        "task_reset",
        task_id=facts.id,
        runtime_constraints=runtime_constraints,
        batch_id=batch_id,
        now=ctx.now,
    )
    ctx.tx.run(
        "requeue_add",
        task_id=facts.id,
        job_id=job_id,
        sequence=facts.sequence,
        shape_id=shape_id,
        not_before=ctx.now,
        due=1,
        avoid=None,
        avoid_until=None,
    )


def recount(ctx: Context, job_id: int) -> None:
    """Recompute a job's counters from rows (R23); the start finds the frontier anew."""
    for query in ("level_delete", "level_recount", "lane_delete", "lane_recount", "tally_reset"):
        ctx.tx.run(query, job_id=job_id)
