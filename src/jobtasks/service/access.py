"""Who may see and change what; everything that is not allowed here is denied."""

from __future__ import annotations

from jobtasks.core.errors import Forbidden, NotFound
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord, TaskRecord


def may_read_job(caller: Caller, job_id: int, owner_uuid: str) -> bool:
    """Return whether the caller sees a job and its tasks (R32)."""
    if caller.role == "attempt":
        return caller.job_id == job_id
    return caller.is_admin or (caller.role == "user" and caller.user_uuid == owner_uuid)


def visible_job(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Return a job that the caller may see.

    Raises:
        NotFound: there is none, or it is not the caller's to see: the two look alike.
    """
    job = ctx.tx.one(JobRecord, "job_by_uuid", uuid=uuid)
    if job is None or not may_read_job(caller, job.id, job.owner_uuid):
        raise NotFound
    return job


def own_job(ctx: Context, caller: Caller, uuid: str, what: str) -> JobRecord:
    """Return a job that the caller may change.

    Raises:
        Forbidden: an attempt never changes a job (R17).
    """
    job = visible_job(ctx, caller, uuid)
    if caller.role == "attempt":
        raise Forbidden(f"An attempt's token may not {what} a job: only its owner may.")
    return job


def visible_task(ctx: Context, caller: Caller, uuid: str) -> TaskRecord:
    """Return a task that the caller may see.

    Raises:
        NotFound: there is none, or it is not the caller's to see: the two look alike.
    """
    task = ctx.tx.one(TaskRecord, "task_by_uuid", uuid=uuid)
    if task is None or not may_read_job(caller, task.job_id, task.owner_uuid):
        raise NotFound
    return task


def require_agent(caller: Caller) -> None:
    """Raise `Forbidden` unless the caller is an agent."""
    if caller.role != "agent":
        raise Forbidden("Only an agent's token may do that.")
