"""Why a task or a job does not run: reads what the rule needs, asks core/explain.py (R31).

The number of statements does not depend on the size of the job, nor do the rows that they touch:
counters and the heads of batches are read, a few tasks are named.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobtasks.core.constraints import unknown_names
from jobtasks.core.explain import (
    AttemptView,
    Creator,
    Frontier,
    Group,
    Holder,
    JobView,
    TaskView,
    explain_job,
    explain_task,
)
from jobtasks.core.foreign_reasons import foreign_job, foreign_task, no_manager
from jobtasks.core.node_reasons import Fleet, Gathering, NodeView
from jobtasks.core.placement import NodeSize, Occupant
from jobtasks.core.reasons import LISTED_MAX, Reason
from jobtasks.core.sequencing import Level
from jobtasks.core.states import AttemptState, BatchState, JobState, TaskState
from jobtasks.service import access, endings, engines, gangs, shapes
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord, TaskRecord

HOLDERS_MAX = LISTED_MAX
"""Tasks of each kind that are named as holding a sequence."""
GROUPS_MAX = 20
"""Different needs of one sequence that are looked at."""
AGAIN_MAX = 1000
"""Tasks waiting for another attempt that are looked at."""


class NodeRow(NamedTuple):
    """A node as stored."""

    id: int
    uuid: str
    hostname: str
    memory_kib: int
    cores: int
    scratch_mb: int
    slots: int
    draining: int
    draining_reason: str | None
    held_until: int | None
    held_reason: str | None
    live: int
    has_canary: int
    kept_for_job: str | None


class OccupantRow(NamedTuple):
    """A live attempt on a node."""

    node_id: int
    job_id: int
    needs: str
    memory_kib: int


class AttemptRow(NamedTuple):
    """An attempt as stored."""

    number: int
    node: str
    slot: int
    state: int
    assigned_at: int
    started_at: int | None
    exit_code: int | None
    signal: int | None
    cause: str | None
    reason: str | None


class RequeuedRow(NamedTuple):
    """How a task waits for another attempt."""

    shape_id: int
    needs: str
    not_before: int
    avoid: str | None
    avoid_until: int | None


class LaneRow(NamedTuple):
    """Ready tasks of one shape; `ready_in_all` of all shapes of the sequence."""

    shape_id: int
    needs: str
    ready: int
    ready_in_all: int


class AgainRow(NamedTuple):
    """Tasks that wait for another attempt, alike in what they wait for."""

    due: int
    shape_id: int
    avoid: str | None
    tasks: int
    not_before: int
    avoid_until: int | None


def task_reasons(ctx: Context, caller: Caller, uuid: str) -> list[Reason]:
    """Return why a task does not run; one reason when it does, or has ended (R31)."""
    task = access.visible_task(ctx, caller, uuid)
    record = ctx.tx.one(JobRecord, "job_by_id", job_id=task.job_id)
    assert record is not None
    theirs = _theirs(ctx, record)
    if theirs is not None:
        return foreign_task(TaskState(task.state), theirs)
    frontier = _frontier_level(ctx, record)
    holders = []
    if frontier is not None and frontier.sequence < task.sequence:
        holders = _holders(ctx, record, frontier.sequence)
    return explain_task(
        _task(ctx, task), _job(ctx, record), frontier, holders, _fleet(ctx, record.id)
    )


def job_reasons(ctx: Context, caller: Caller, uuid: str) -> list[Reason]:
    """Return what keeps a job from starting, going on or ending, summed by needs (R31)."""
    record = access.visible_job(ctx, caller, uuid)
    theirs = _theirs(ctx, record)
    if theirs is not None:
        return [theirs]
    level = _frontier_level(ctx, record)
    frontier = None if level is None else _frontier(ctx, record, level)
    return explain_job(_job(ctx, record), frontier, _fleet(ctx, record.id))


def _theirs(ctx: Context, job: JobRecord) -> Reason | None:
    """Return the reason why a job is not for our manager to run, None when it is (R7b)."""
    state = JobState(job.state)
    if not job.managed:
        return foreign_job(job.uuid, state, job.is_locked_by_uuid)
    if state is JobState.QUEUED and not ctx.world.manages:
        return no_manager(job.uuid)
    return None


def _frontier_level(ctx: Context, job: JobRecord) -> Level | None:
    if job.state != JobState.RUNNING:
        return None
    return ctx.tx.one(Level, "explain_frontier", job_id=job.id)


def _holders(ctx: Context, job: JobRecord, sequence: int) -> list[Holder]:
    return ctx.tx.all(
        Holder,
        "explain_holders",
        job_id=job.id,
        sequence=sequence,
        now=ctx.now,
        limit=HOLDERS_MAX,
    )


def _task(ctx: Context, task: TaskRecord) -> TaskView:
    again = ctx.tx.one(RequeuedRow, "explain_requeued", task_id=task.id)
    shape = again.needs if again else ctx.tx.value("shape_needs", shape_id=task.shape_id)
    is_published = task.batch_state == BatchState.PUBLISHED
    creator = Creator(task.created_by_job_task_uuid or "", _attempt(ctx, task.creator_attempt_id))
    return TaskView(
        task.uuid,
        task.sequence,
        TaskState(task.state),
        shapes.decode_needs(shape),
        _attempt(ctx, task.attempt_id),
        None if is_published else creator,
        task.failed_count,
        task.finished_at,
        again.not_before if again else 0,
        _nodes_of(again.avoid if again else None),
        (again.avoid_until or 0) if again else 0,
        again is not None and again.shape_id != task.shape_id,
        unknown_names(msgspec.json.decode(task.runtime_constraints)),
    )


def _attempt(ctx: Context, attempt_id: int | None) -> AttemptView | None:
    if attempt_id is None:
        return None
    row = ctx.tx.one(AttemptRow, "explain_attempt", attempt_id=attempt_id)
    if row is None:
        return None
    end = ""
    if row.state >= AttemptState.STOPPING:
        failed = endings.FailedTask("", row.cause, row.exit_code, row.signal, row.reason)
        end = endings.describe(failed)
    has_begun = row.state != AttemptState.ASSIGNED
    since = row.started_at if row.started_at is not None else row.assigned_at
    return AttemptView(row.number, row.node, row.slot, has_begun, since, end)


def _job(ctx: Context, job: JobRecord) -> JobView:
    constraints = shapes.job_constraints(job.runtime_constraints)
    failed: list[endings.FailedTask] = []
    if job.failed:
        failed = ctx.tx.all(endings.FailedTask, "job_failed_tasks", job_id=job.id, limit=LISTED_MAX)
    return JobView(
        job.id,
        job.uuid,
        JobState(job.state),
        shapes.needs_of_job(job.runtime_constraints),
        constraints.min_nodes or 1,
        job.halt,
        [task.uuid for task in failed],
        job.finished_at or job.cancelled_at,
        job.log,
        job.todo,
        job.running_tasks,
        job.failed,
        job.live,
        unknown_names(msgspec.json.decode(job.runtime_constraints)),
    )


def _fleet(ctx: Context, job_id: int) -> Fleet:
    """Return the nodes that may serve a job, and what an engine was asked for it."""
    occupants: dict[int, list[Occupant]] = defaultdict(list)
    for row in ctx.tx.all(OccupantRow, "explain_occupants"):
        needs = shapes.decode_needs(row.needs)
        occupants[row.node_id].append(Occupant(row.job_id, needs, row.memory_kib))
    rows = ctx.tx.all(NodeRow, "explain_nodes", job_id=job_id)
    nodes = [_node(row, occupants[row.id]) for row in rows]
    return Fleet(ctx.now, nodes, engines.told(ctx, job_id), _gathering(ctx))


def _gathering(ctx: Context) -> Gathering | None:
    gang = gangs.gathering(ctx, 0)
    if gang is None:
        return None
    uuid = ctx.tx.value("task_uuid", task_id=gang.task_id)
    return Gathering(uuid, gang.job_id, gang.needs, tuple(ctx.tx.all(str, "kept_hosts")))


def _node(row: NodeRow, occupants: Sequence[Occupant]) -> NodeView:
    return NodeView(
        row.uuid,
        row.hostname,
        NodeSize(row.id, row.memory_kib, row.cores, row.scratch_mb),
        row.slots,
        bool(row.live),
        bool(row.draining),
        row.draining_reason,
        row.held_until,
        row.held_reason,
        bool(row.has_canary),
        row.kept_for_job,
        occupants,
    )


def _frontier(ctx: Context, job: JobRecord, level: Level) -> Frontier:
    place = {"job_id": job.id, "sequence": level.sequence}
    lanes = ctx.tx.all(LaneRow, "explain_lanes", **place, limit=GROUPS_MAX)
    again = ctx.tx.all(AgainRow, "explain_again", **place, now=ctx.now, limit=AGAIN_MAX)
    children = int(ctx.tx.value("explain_children", **place))
    ready = lanes[0].ready_in_all if lanes else 0
    delays = [row.not_before for row in again if not row.due]
    return Frontier(
        level,
        [group for lane in lanes for group in _groups(lane, again)],
        ready - sum(lane.ready for lane in lanes),
        max(0, level.todo - ready - children),
        min(delays, default=None),
        children,
    )


def _groups(lane: LaneRow, again: Sequence[AgainRow]) -> list[Group]:
    """Return the tasks of a lane by the nodes that they avoid; those that avoid none last."""
    needs = shapes.decode_needs(lane.needs)
    avoiding = [row for row in again if row.due and row.avoid and row.shape_id == lane.shape_id]
    groups = [
        Group(row.tasks, needs, _nodes_of(row.avoid), row.avoid_until or 0) for row in avoiding
    ]
    left = lane.ready - sum(group.tasks for group in groups)
    return [*groups, Group(left, needs)] if left > 0 else groups


def _nodes_of(avoid: str | None) -> frozenset[int]:
    return frozenset(msgspec.json.decode(avoid, type=list[int])) if avoid else frozenset()
