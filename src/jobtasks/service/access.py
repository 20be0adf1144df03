"""Who may see and change what; everything that is not allowed here is denied."""

from __future__ import annotations

from jobtasks.core.errors import Forbidden, NotFound
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord, NodeRecord, TaskRecord


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


def may_read_nodes(caller: Caller) -> bool:
    """Return whether the caller sees nodes: people do, to know where their work may run."""
    return caller.is_admin or caller.role == "user"


def visible_node(ctx: Context, caller: Caller, uuid: str) -> NodeRecord:
    """Return a node that the caller may see.

    Raises:
        NotFound: there is none, it was deleted, or it is not the caller's to see.
    """
    node = ctx.tx.one(NodeRecord, "node_by_uuid", uuid=uuid) if may_read_nodes(caller) else None
    if node is None:
        raise NotFound
    return node_as_seen(caller, node)


def node_as_seen(caller: Caller, node: NodeRecord) -> NodeRecord:
    """Return a node; the job that it serves is not named where it is another's."""
    owner = node.job_owner_uuid
    if owner is None or caller.is_admin or owner == caller.user_uuid:
        return node
    return node._replace(job_uuid=None, job_owner_uuid=None)


def steered_node(ctx: Context, caller: Caller, uuid: str, what: str) -> NodeRecord:
    """Return a node that the caller may steer.

    Raises:
        Forbidden: the caller is no administrator: a node serves everyone.
    """
    node = visible_node(ctx, caller, uuid)
    if not caller.is_admin:
        raise Forbidden(f"Only an administrator may {what} a node.")
    return node


def require_admin(caller: Caller, what: str) -> None:
    """Raise `Forbidden` unless the caller is an administrator; `what` ends "Only … may"."""
    if not caller.is_admin:
        raise Forbidden(f"Only an administrator's token may {what}.")


def require_agent(caller: Caller) -> None:
    """Raise `Forbidden` unless the caller is an agent."""
    if caller.role != "agent":
        raise Forbidden("Only an agent's token may do that.")
