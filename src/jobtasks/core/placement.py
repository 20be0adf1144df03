"""Which tasks a node may take now: the room on a node and the pure form of the claim.

The service claims by statements (service/claim.py); `claim` here is the same rule over plain
values, the oracle that tests compare with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from jobtasks.core.constraints import Needs


@dataclass(frozen=True, slots=True)
class NodeSize:
    """What a node has in all; `memory_kib` is what may be reserved (R28)."""

    id: int
    memory_kib: int
    cores: int
    scratch_mb: int


@dataclass(frozen=True, slots=True)
class Occupant:
    """A live attempt on the node."""

    job_id: int
    needs: Needs
    memory_kib: int


def is_large_enough(node: NodeSize, needs: Needs, memory_kib: int = 0) -> bool:
    """Return whether a node could ever run a task of these needs, busy or not (R28, R29, R30)."""
    return (
        max(needs.memory_kib, memory_kib) <= node.memory_kib
        and needs.node_memory_kib <= node.memory_kib
        and needs.cores <= node.cores
        and needs.node_cores <= node.cores
        and needs.node_scratch_mb <= node.scratch_mb
    )


@dataclass
class Room:
    """What is left on one node while a claim fills it."""

    size: NodeSize
    occupants: Iterable[Occupant] = ()
    other_nodes: dict[int, int] = field(default_factory=dict)
    """Per job: how many other nodes have a live attempt of it (R26)."""
    free_kib: int = field(init=False)
    free_cores: int = field(init=False)
    counts: dict[int, int] = field(init=False, default_factory=dict)
    """Per job: live attempts on this node."""
    node_limits: dict[int, int] = field(init=False, default_factory=dict)
    """Per job: the strictest max_tasks_per_node among its live attempts here (R27)."""

    def __post_init__(self) -> None:
        self.free_kib = self.size.memory_kib
        self.free_cores = self.size.cores
        for occupant in self.occupants:
            self.take(occupant)

    def take(self, occupant: Occupant) -> None:
        """Note one more live attempt."""
        job_id, needs = occupant.job_id, occupant.needs
        self.free_kib -= occupant.memory_kib
        self.free_cores -= needs.cores
        self.counts[job_id] = self.counts.get(job_id, 0) + 1
        if needs.max_tasks_per_node:
            limit = self.node_limits.get(job_id, needs.max_tasks_per_node)
            self.node_limits[job_id] = min(limit, needs.max_tasks_per_node)

    def fits(self, needs: Needs) -> bool:
        """Return whether the node's free memory and cores allow a task of these needs.

        Gangs (more than one node) are not placed yet. (R25)
        """
        return (
            needs.nodes == 1
            and is_large_enough(self.size, needs)
            and needs.memory_kib <= self.free_kib
            and needs.cores <= self.free_cores
        )

    def admits(self, job_id: int, needs: Needs) -> bool:
        """Return whether the job's own limits allow one more of its tasks here (R26, R27)."""
        here = self.counts.get(job_id, 0)
        limits = (needs.max_tasks_per_node, self.node_limits.get(job_id, 0))
        if any(limit and here >= limit for limit in limits):
            return False
        return not needs.max_nodes or self.other_nodes.get(job_id, 0) < needs.max_nodes


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits, as the oracle sees it."""

    id: int
    sequence: int
    needs: Needs
    is_published: bool = True
    not_before: int = 0
    avoid_nodes: frozenset[int] = frozenset()
    avoid_until: int = 0


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that our manager runs, as the oracle sees it."""

    id: int
    frontier: int | None
    """Lowest sequence that is not all complete; None when nothing may start."""
    waiting: Sequence[WaitingTask]


def claim(jobs: Iterable[RunningJob], room: Room, slots: int, now: int) -> list[int]:
    """Return the ids of the tasks that the node takes, in order of claim.

    Oldest job first; within a job the frontier's tasks in order of qsequence, past those that do
    not fit, are not due or avoid this node (R5, R12, R26–R30).
    """
    taken: list[int] = []
    for job in sorted(jobs, key=lambda job: job.id):
        for task in sorted(job.waiting, key=lambda task: task.id):
            if len(taken) == slots:
                return taken
            if task.sequence == job.frontier and _may_start(task, room, job.id, now):
                room.take(Occupant(job.id, task.needs, task.needs.memory_kib))
                taken.append(task.id)
    return taken


def _may_start(task: WaitingTask, room: Room, job_id: int, now: int) -> bool:
    return (
        task.is_published
        and task.not_before <= now
        and not (room.size.id in task.avoid_nodes and now < task.avoid_until)
        and room.fits(task.needs)
        and room.admits(job_id, task.needs)
    )
