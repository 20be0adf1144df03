"""Who created whom: a job's tasks by sequence, and the children of one of them.

Batches and counters are read, and never a job's tasks: what it costs does not grow with them.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from jobtasks.core.errors import NotFound
from jobtasks.core.identifiers import task_id
from jobtasks.core.states import TaskState
from jobtasks.service import access
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import BranchRecord, ChildRecord, TaskRecord

BRANCHES_MAX = 1000
"""Pairs of sequences in one answer."""
COUNTED_MAX = 10_000
"""So many children are counted by their states in one call."""
BATCHES_MAX = 10_000
"""So many batches are looked at in one call; one create makes one for each constraints."""
NO_CREATOR = -1
"""Stands in the place of the sequence of tasks that nobody created."""


class Branches(NamedTuple):
    """Which sequences' tasks created which."""

    items: list[BranchRecord]
    is_whole: bool
    """Whether that is all of it."""


class Generation(NamedTuple):
    """The children of a task that are in one sequence."""

    sequence: int
    tasks: int
    states: dict[str, int] | None
    """How many are in which state; None where they are too many to be counted."""


class SequenceSize(NamedTuple):
    """How many children are in a sequence."""

    sequence: int
    tasks: int


class StateCount(NamedTuple):
    """How many children of a sequence are in a state."""

    sequence: int
    state: int
    tasks: int


class Head(NamedTuple):
    """The first task of a batch after a place."""

    batch_id: int
    first_id: int | None


def by_sequence(ctx: Context, caller: Caller, uuid: str) -> Branches:
    """Return what the tasks of each sequence of a job created, in order of their sequence.

    Raises:
        NotFound: there is no such job, or it is not the caller's to see.
    """
    job = access.visible_job(ctx, caller, uuid)
    bounds = {"job_id": job.id, "limit": BRANCHES_MAX + 1}
    if job.managed:
        found = ctx.tx.all(BranchRecord, "lineage_of_job", **bounds)
        found += ctx.tx.all(BranchRecord, "lineage_of_running", job_id=job.id)
    else:
        found = ctx.tx.all(BranchRecord, "lineage_of_foreign", batches=BATCHES_MAX, **bounds)
    branches = _added(found)
    return Branches(branches[:BRANCHES_MAX], len(branches) <= BRANCHES_MAX)


def _added(found: list[BranchRecord]) -> list[BranchRecord]:
    """Return one branch for each pair of sequences, in order."""
    branches: dict[tuple[int, int], BranchRecord] = {}
    for one in found:
        pair = (one.creator_sequence, one.sequence)
        known = branches.get(pair)
        if known is not None:
            one = one._replace(
                tasks=one.tasks + known.tasks, creators=one.creators + known.creators
            )
        branches[pair] = one
    return [branches[pair] for pair in sorted(branches)]


def children_by_sequence(
    ctx: Context, caller: Caller, task_uuid: str, job_uuid: str | None = None
) -> list[Generation]:
    """Return how many tasks a task created in each sequence, and in which states they are.

    Those of the smallest sequences are counted by state, at most `COUNTED_MAX` of them.

    Raises:
        NotFound: there is no such task, or not in that job, or it is not the caller's to see.
    """
    creator = _creator(ctx, caller, task_uuid, job_uuid)
    sizes = ctx.tx.all(
        SequenceSize,
        "children_by_sequence",
        task_id=creator.id,
        batches=BATCHES_MAX,
        limit=BRANCHES_MAX,
    )
    counted = _countable(sizes)
    states: dict[int, dict[str, int]] = {
        sequence: {state.word: 0 for state in TaskState} for sequence in counted
    }
    wanted = json.dumps(counted)
    for row in ctx.tx.all(StateCount, "children_by_state", task_id=creator.id, sequences=wanted):
        states[row.sequence][TaskState(row.state).word] = row.tasks
    return [Generation(one.sequence, one.tasks, states.get(one.sequence)) for one in sizes]


def _countable(sizes: list[SequenceSize]) -> list[int]:
    """Return the sequences whose children may be counted by state, within what one call does."""
    found = []
    left = COUNTED_MAX
    for one in sorted(sizes, key=lambda one: one.tasks):
        left -= one.tasks
        if left < 0:
            break
        found.append(one.sequence)
    return found


def children(
    ctx: Context,
    caller: Caller,
    task_uuid: str,
    sequence: int,
    after: int,
    limit: int,
    job_uuid: str | None = None,
) -> list[ChildRecord]:
    """Return at most `limit` tasks that a task created in a sequence, in order of qsequence.

    `after` is the qsequence of the last one that is known already, -1 at first.

    Raises:
        NotFound: there is no such task, or not in that job, or it is not the caller's to see.
    """
    creator = _creator(ctx, caller, task_uuid, job_uuid)
    after_id = task_id(creator.job_id, after)
    heads = ctx.tx.all(
        Head,
        "child_heads",
        task_id=creator.id,
        sequence=sequence,
        after=after_id,
        batches=BATCHES_MAX,
    )
    firsts = sorted((head.first_id, head.batch_id) for head in heads if head.first_id is not None)
    found: list[ChildRecord] = []
    for first_id, batch_id in firsts:
        if len(found) == limit and first_id > found[-1].id:
            # Nothing of this batch, nor of those that begin later, has a place on the page.
            break
        found += ctx.tx.all(
            ChildRecord, "children_of_batch", batch_id=batch_id, after=after_id, limit=limit
        )
        found = sorted(found)[:limit]
    return found


def _creator(ctx: Context, caller: Caller, task_uuid: str, job_uuid: str | None) -> TaskRecord:
    task = access.visible_task(ctx, caller, task_uuid)
    if job_uuid is not None and task.job_uuid != job_uuid:
        raise NotFound
    return task
