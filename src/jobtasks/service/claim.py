"""How a node's free slots are filled, by statements whose number does not depend on the tasks.

The rule in its pure form is core/placement.py, `claim`; tests compare the two. Which lanes are live
tells what is at the frontier; per lane the heads of its batches and its due retries are merged in
order of qsequence. (R5, R12, R26–R30)
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from jobtasks.core.constraints import Needs
from jobtasks.core.identifiers import attempt_token, token_hash
from jobtasks.core.placement import NodeSize, Occupant, Room
from jobtasks.core.states import TaskState
from jobtasks.service import events, shapes
from jobtasks.service.context import Context
from jobtasks.service.ledger import Ledger


class Shape(NamedTuple):
    """A distinct set of needs."""

    id: int
    needs: Needs


class Lane(NamedTuple):
    """Ready tasks of one job, sequence and shape."""

    job_id: int
    sequence: int
    shape_id: int


class Head(NamedTuple):
    """A batch and its first task that was never claimed."""

    batch_id: int
    task_id: int


class Candidate(NamedTuple):
    """A task that could be claimed; ordered by id, which is by qsequence within a job."""

    id: int
    uuid: str
    attempts: int
    parameters: str
    command: str | None
    spent: str | None
    shape_id: int
    sequence: int
    batch_id: int | None
    """None for a task that waited for another attempt."""


class Place(NamedTuple):
    """Where attempts begin."""

    node_id: int
    agent_id: int
    is_trial: bool
    """Whether they try the node out (R16)."""


class Claimed(NamedTuple):
    """A task with its new attempt."""

    attempt_id: int
    job_id: int
    slot: int
    task: Candidate
    needs: Needs


def claim(
    ctx: Context,
    ledger: Ledger,
    node: NodeSize,
    agent_id: int,
    slots: list[int],
    *,
    is_trial: bool = False,
) -> list[Claimed]:
    """Give the node's free `slots` to waiting tasks; return them with their attempts.

    `is_trial` says that these try the node out (R16). Counters move in `ledger`; the caller
    flushes it.
    """
    room = _room(ctx, node)
    needs = {shape.id: shape.needs for shape in _live_shapes(ctx) if room.fits(shape.needs)}
    chosen: list[tuple[int, Candidate]] = []
    for job_id, lanes in _jobs(ctx, list(needs), len(slots)):
        room.other_nodes[job_id] = _other_nodes(ctx, job_id, node, lanes, needs)
        for candidate in _candidates(ctx, lanes, node.id, len(slots) - len(chosen), needs, room):
            if len(chosen) == len(slots):
                break
            shape = needs[candidate.shape_id]
            if room.fits(shape) and room.admits(job_id, shape):
                room.take(Occupant(job_id, shape, shape.memory_kib))
                chosen.append((job_id, candidate))
        if len(chosen) == len(slots):
            break
    place = Place(node.id, agent_id, is_trial)
    return _store(ctx, ledger, place, slots, chosen, needs)


def _room(ctx: Context, node: NodeSize) -> Room:
    def occupant(job_id: int, needs: str, memory_kib: int) -> Occupant:
        return Occupant(job_id, shapes.decode_needs(needs), memory_kib)

    return Room(node, ctx.tx.all(occupant, "occupants_of_node", node_id=node.id))


def _live_shapes(ctx: Context) -> list[Shape]:
    def shape(shape_id: int, needs: str) -> Shape:
        return Shape(shape_id, shapes.decode_needs(needs))

    return ctx.tx.all(shape, "shapes_live")


def _jobs(ctx: Context, shape_ids: list[int], slots: int) -> Iterator[tuple[int, list[Lane]]]:
    """Yield (job, its live lanes of these shapes), oldest job first, reading on as needed.

    A job that cannot use a free slot has attempts on this node, or has all its nodes elsewhere: so
    few jobs are passed over, however many wait.
    """
    after_job = 0
    page_size = max(slots, 1)
    while True:
        pages = [
            ctx.tx.all(
                Lane, "lanes_of_shape", shape_id=shape_id, after_job=after_job, limit=page_size
            )
            for shape_id in shape_ids
        ]
        by_job: dict[int, list[Lane]] = defaultdict(list)
        for lane in (lane for page in pages for lane in page):
            by_job[lane.job_id].append(lane)
        full = [page[-1].job_id for page in pages if len(page) == page_size]
        complete_to = min(full, default=None)
        for job_id in sorted(by_job):
            if complete_to is None or job_id <= complete_to:
                yield job_id, by_job[job_id]
        if complete_to is None:
            return
        after_job = complete_to


def _other_nodes(
    ctx: Context, job_id: int, node: NodeSize, lanes: list[Lane], needs: dict[int, Needs]
) -> int:
    if not any(needs[lane.shape_id].max_nodes for lane in lanes):
        return 0
    return int(ctx.tx.value("other_nodes_of_job", job_id=job_id, node_id=node.id))


def _candidates(
    ctx: Context,
    lanes: list[Lane],
    node_id: int,
    limit: int,
    needs: dict[int, Needs],
    room: Room,
) -> Iterator[Candidate]:
    """Merge the job's lanes in order of qsequence, each read no further than `limit`."""
    job_id = lanes[0].job_id
    open_lanes = [lane for lane in lanes if room.admits(job_id, needs[lane.shape_id])]
    runs: list[list[Candidate]] = []
    for lane in open_lanes:
        runs.append(_due(ctx, lane, node_id, limit))
        runs.append(_fresh(ctx, lane, limit))
    return heapq.merge(*runs)


def _due(ctx: Context, lane: Lane, node_id: int, limit: int) -> list[Candidate]:
    def candidate(*columns: Any) -> Candidate:
        return Candidate._make((*columns, lane.shape_id, lane.sequence, None))

    return ctx.tx.all(
        candidate, "tasks_due", **lane._asdict(), node_id=node_id, now=ctx.now, limit=limit
    )


def _fresh(ctx: Context, lane: Lane, limit: int) -> list[Candidate]:
    """Return the first tasks of a lane that were never claimed, over all its batches."""
    heads = ctx.tx.all(Head, "batch_heads", **lane._asdict(), limit=limit)
    found: list[Candidate] = []
    for head in heads:
        if len(found) >= limit and found[limit - 1].id < head.task_id:
            break
        found.extend(_of_batch(ctx, lane, head, limit))
        found.sort()
    return found[:limit]


def _of_batch(ctx: Context, lane: Lane, head: Head, limit: int) -> list[Candidate]:
    def candidate(*columns: Any) -> Candidate:
        return Candidate._make((*columns, lane.shape_id, lane.sequence, head.batch_id))

    return ctx.tx.all(
        candidate, "tasks_fresh", batch_id=head.batch_id, head=head.task_id, limit=limit
    )


def _store(
    ctx: Context,
    ledger: Ledger,
    place: Place,
    slots: list[int],
    chosen: list[tuple[int, Candidate]],
    needs: dict[int, Needs],
) -> list[Claimed]:
    if not chosen:
        return []
    first_id = int(ctx.tx.value("attempt_last_id") or 0) + 1
    claimed = [
        Claimed(first_id + turn, job_id, slots[turn], task, needs[task.shape_id])
        for turn, (job_id, task) in enumerate(chosen)
    ]
    started = ctx.tx.run_many("task_start", [_task_values(ctx, item) for item in claimed])
    assert started == len(claimed), "a task that was not waiting was claimed"
    ctx.tx.run_many("attempt_add", [_attempt_values(ctx, place, item) for item in claimed])
    again = [{"task_id": item.task.id} for item in claimed if item.task.batch_id is None]
    if again:
        ctx.tx.run_many("requeue_take", again)
    _advance_batches(ctx, claimed)
    for item in claimed:
        task = item.task
        ledger.live[item.job_id] += 1
        ledger.move(item.job_id, task.sequence, TaskState.WAITING, TaskState.RUNNING)
        ledger.make_ready(item.job_id, task.sequence, task.shape_id, -1)
        events.task_changed(
            ctx,
            item.job_id,
            task.id,
            TaskState.WAITING,
            TaskState.RUNNING,
            number=task.attempts + 1,
            node_id=place.node_id,
            slot=item.slot,
        )
    return claimed


def _task_values(ctx: Context, item: Claimed) -> dict[str, int]:
    return {
        "task_id": item.task.id,
        "number": item.task.attempts + 1,
        "attempt_id": item.attempt_id,
        "now": ctx.now,
    }


def _attempt_values(ctx: Context, place: Place, item: Claimed) -> dict[str, int | bytes]:
    return {
        "id": item.attempt_id,
        "task_id": item.task.id,
        "job_id": item.job_id,
        "number": item.task.attempts + 1,
        "node_id": place.node_id,
        "agent_id": place.agent_id,
        "canary": place.is_trial,
        "slot": item.slot,
        "shape_id": item.task.shape_id,
        "memory_kib": item.needs.memory_kib,
        "token_hash": token_hash(attempt_token(ctx.world.token_key, item.attempt_id)),
        "now": ctx.now,
    }


def _advance_batches(ctx: Context, claimed: list[Claimed]) -> None:
    """Move the heads of batches past what was claimed of them."""
    last: dict[int, tuple[int, int]] = {}
    for item in claimed:
        batch_id = item.task.batch_id
        if batch_id is not None:
            head, count = last.get(batch_id, (0, 0))
            last[batch_id] = (max(head, item.task.id + 1), count + 1)
    for batch_id, (head, count) in last.items():
        ctx.tx.run("batch_advance", batch_id=batch_id, head=head, count=count)
