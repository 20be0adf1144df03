"""The nodes that take new work, and which jobs they allow to start (R18)."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple

import msgspec

from jobtasks.core import sharing
from jobtasks.core.constraints import Needs
from jobtasks.core.placement import NodeSize, Occupant, is_large_enough
from jobtasks.service import shapes
from jobtasks.service.context import MICROSECONDS, Context


class UsableNode(NamedTuple):
    """A node with a live agent that is neither held nor draining."""

    size: NodeSize
    is_on_trial: bool
    """Whether it takes one task at a time, until one has completed there (R16)."""
    free_slots: int
    free_memory_kib: int


class TakenSlot(NamedTuple):
    """A slot of a node, and the attempt that has it."""

    id: int
    """The attempt's."""
    job_id: int
    slot: int
    state: int
    stop: str | None
    missing_since: int | None
    memory_kib: int
    needs: str
    is_first: int
    """0: a further node of a gang, which has its process elsewhere (R25)."""

    @property
    def occupant(self) -> Occupant:
        """What it takes of the node."""
        return Occupant(self.job_id, shapes.decode_needs(self.needs), self.memory_kib)


class AlikeNodes(NamedTuple):
    """Nodes of one size."""

    size: NodeSize
    """That of one of them."""
    number: int
    """How many there are."""


class WaitingJob(NamedTuple):
    """A queued job that waits for several free nodes."""

    id: int
    priority: int
    needs: Needs
    min_nodes: int


class StartWait(NamedTuple):
    """Since when a job waits for several free nodes, in Unix microseconds."""

    job_id: int
    since: int


def usable_nodes(ctx: Context, job_id: int | None = None) -> list[UsableNode]:
    """Return the nodes that take new work of all jobs, and those that do of this one only (R18)."""
    return ctx.tx.all(_usable_node, "nodes_usable", job_id=job_id, now=ctx.now)


def _usable_node(
    node_id: int,
    memory_kib: int,
    cores: int,
    scratch_mb: int,
    slots: int,
    is_on_trial: int,
    live_attempts: int,
    reserved_kib: int,
) -> UsableNode:
    size = NodeSize(node_id, memory_kib, cores, scratch_mb)
    return UsableNode(size, bool(is_on_trial), slots - live_attempts, memory_kib - reserved_kib)


def alike_nodes(
    ctx: Context,
    job_id: int | None = None,
    *,
    on_trial: bool = False,
    without: Collection[int] = (),
) -> list[AlikeNodes]:
    """Return the same nodes by their sizes: a thousand alike are one row.

    Those on trial (R16) are among them when `on_trial` says so; those `without` are not.
    """

    def alike(
        node_id: int, memory_kib: int, cores: int, scratch_mb: int, number: int
    ) -> AlikeNodes:
        return AlikeNodes(NodeSize(node_id, memory_kib, cores, scratch_mb), number)

    return ctx.tx.all(
        alike,
        "nodes_alike",
        job_id=job_id,
        now=ctx.now,
        held_seconds_max=math.inf if on_trial else 0.0,
        without=msgspec.json.encode(without).decode(),
    )


def count_trusted(ctx: Context, job_id: int | None, without: Collection[int] = ()) -> int:
    """Return how many such nodes are not on trial, beside those `without`."""
    return sum(alike.number for alike in alike_nodes(ctx, job_id, without=without))


def count_able(ctx: Context, job_id: int, needs: Needs, without: Collection[int] = ()) -> int:
    """Return how many of the same nodes are large enough for such a task (R12, R25)."""
    found = alike_nodes(ctx, job_id, without=without)
    return sum(alike.number for alike in found if is_large_enough(alike.size, needs))


def largest_kib(ctx: Context, job_id: int) -> int:
    """Return the memory of the largest node that a job has, or that its engine could grant it."""
    sizes = [alike.size.memory_kib for alike in alike_nodes(ctx, job_id)]
    limits = ctx.world.offer.limits if ctx.world.offer else None
    return max([*sizes, *(kind.memory_kib for kind in (limits.kinds if limits else ()))], default=0)


def taken_slots(ctx: Context, node_id: int) -> list[TakenSlot]:
    """Return what takes slots of a node, in order of the attempts."""
    return ctx.tx.all(TakenSlot, "occupants_of_node", node_id=node_id)


def fewer_nodes(ctx: Context, node_id: int) -> None:
    """A node takes no more work: the last ones must not wait or be waited for (R12, R16)."""
    job_id = ctx.tx.value("node_job", node_id=node_id)
    if not count_trusted(ctx, job_id):
        for distrusted in ctx.tx.all(int, "nodes_distrusted", job_id=job_id):
            trust(ctx, distrusted)
    stop_avoiding(ctx, job_id)


def trust(ctx: Context, node_id: int) -> None:
    """Let a node that the manager held take work like any other (R16)."""
    if ctx.tx.run("node_trust", node_id=node_id, now=ctx.now):
        ctx.wake.update({"manager", "nodes"})


def stop_avoiding(ctx: Context, job_id: int | None) -> None:
    """Let no task wait for another node where only one takes work, or none (R12).

    With a job its own are meant: of the node that takes no more work it was the only one.
    """
    if count_trusted(ctx, job_id) > 1:
        return
    if ctx.tx.run("requeue_stop_avoiding", job_id=job_id, now=ctx.now):
        ctx.wake.add("nodes")


def is_enough_free(nodes: list[UsableNode], needs: Needs, min_nodes: int) -> bool:
    """Return whether so many nodes have room for one of these tasks at the same time (R18)."""
    free = [
        node
        for node in nodes
        if is_large_enough(node.size, needs)
        and node.free_slots > 0
        and node.free_memory_kib >= needs.memory_kib
        and not node.is_on_trial
    ]
    return len(free) >= min_nodes


def keep_for_start(ctx: Context, nodes: list[UsableNode], waiting: list[WaitingJob]) -> None:
    """Have the nodes take nothing new that would do for the job that has waited too long (R18)."""
    known = {wait.job_id: wait.since for wait in ctx.tx.all(StartWait, "start_waits")}
    if not waiting and not known:
        return
    for gone in known.keys() - {job.id for job in waiting}:
        ctx.tx.run("start_wait_end", job_id=gone)
    job_id: int | None = None
    kept: list[int] = []
    for job in sorted(waiting, key=lambda job: (-job.priority, job.id)):
        if job.id not in known:
            ctx.tx.run("start_wait_begin", job_id=job.id, now=ctx.now)
        if job_id is not None:
            continue
        fitting = [
            node.size.id
            for node in nodes
            if is_large_enough(node.size, job.needs) and not node.is_on_trial
        ]
        waited_seconds = (ctx.now - known.get(job.id, ctx.now)) / MICROSECONDS
        patience_seconds = ctx.settings.overtaken_seconds
        is_next = sharing.keeps_nodes(len(fitting), job.min_nodes, waited_seconds, patience_seconds)
        if is_next:
            job_id, kept = job.id, fitting
    node_ids = msgspec.json.encode(kept).decode()
    if ctx.tx.run("nodes_keep", job_id=job_id, node_ids=node_ids):
        ctx.wake.add("nodes")
