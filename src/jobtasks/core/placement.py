"""Which tasks a node may take now: the room on a node and the pure form of the claim.

The service claims by statements (service/claim.py); `claim` here is the same rule over plain
values, the oracle that tests compare with.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from jobtasks.core.constraints import Needs
from jobtasks.core.sharing import Turn


@dataclass(frozen=True, slots=True)
class NodeSize:
    """What a node has in all; `memory_kib` is what may be reserved (R28)."""

    id: int
    memory_kib: int
    cores: int
    scratch_mb: int


@dataclass(frozen=True, slots=True)
class Occupant:
    """A live attempt on the node, or the seat of a gang whose process is on another (R25)."""

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

        What is kept for a gang may leave less than nothing: tasks that ask for none still fit.
        """
        return (
            is_large_enough(self.size, needs)
            and (not needs.memory_kib or needs.memory_kib <= self.free_kib)
            and (not needs.cores or needs.cores <= self.free_cores)
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
    priority: int = 0
    owner: str = ""
    slots: int = 0
    """Slots that it has, on all nodes."""


def claim(
    jobs: Iterable[RunningJob], room: Room, slots: int, now: int, usage: Mapping[str, int]
) -> list[int]:
    """Return the ids of the tasks of one node that the node takes, in order of claim.

    Each slot goes to the job whose turn it is (R18); within a job the frontier's tasks go in order
    of qsequence, past those that do not fit, are not due or avoid this node (R5, R12, R26–R30).
    `usage` says how many slots each user's jobs have.
    """
    waiting = list(jobs)
    mine = {job.id: job.slots for job in waiting}
    owners = {job.owner: usage.get(job.owner, 0) for job in waiting}

    def turn(job: RunningJob) -> Turn:
        return Turn(-job.priority, owners[job.owner], mine[job.id], job.id)

    taken: list[int] = []
    while waiting and len(taken) < slots:
        job = min(waiting, key=turn)
        task = _next(job, room, now, taken)
        if task is None:
            waiting.remove(job)
            continue
        room.take(Occupant(job.id, task.needs, task.needs.memory_kib))
        taken.append(task.id)
        mine[job.id] += 1
        owners[job.owner] += 1
    return taken


def _next(job: RunningJob, room: Room, now: int, taken: list[int]) -> WaitingTask | None:
    able = [
        task
        for task in job.waiting
        if task.id not in taken
        and task.sequence == job.frontier
        and _may_start(task, room, job.id, now)
    ]
    return min(able, key=lambda task: task.id, default=None)


def _may_start(task: WaitingTask, room: Room, job_id: int, now: int) -> bool:
    return (
        task.needs.nodes == 1
        and task.is_published
        and task.not_before <= now
        and not (room.size.id in task.avoid_nodes and now < task.avoid_until)
        and room.fits(task.needs)
        and room.admits(job_id, task.needs)
    )
