"""Counters of jobs: moved by differences, settled once per call.

A method notes what moved where, then flushes: counters are written once per (job, sequence), the
frontier is read again, lanes start or stop, and a job with nothing left to do ends. Counters are
what makes claiming, publishing and the end of a job independent of the number of tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set
from dataclasses import dataclass, field
from typing import NamedTuple

from jobtasks.core import sequencing
from jobtasks.core.states import JobState, TaskState
from jobtasks.service import endings
from jobtasks.service.context import Context
from jobtasks.store.base import Value

COLUMNS = {
    TaskState.WAITING: "todo",
    TaskState.RUNNING: "running",
    TaskState.COMPLETE: "done",
    TaskState.FAILED: "failed",
}
ZEROS = {"todo": 0, "running": 0, "done": 0, "failed": 0}


class TallyRow(NamedTuple):
    """Counters of a job, with its state."""

    state: str
    managed: int
    todo: int
    running: int
    done: int
    failed: int
    live: int
    halt: str | None
    frontier: int | None


class LevelHead(NamedTuple):
    """The frontier and how many of its tasks wait."""

    sequence: int
    todo: int


@dataclass
class Ledger:
    """Differences noted during one call; `flush` writes them and settles the jobs."""

    ctx: Context
    levels: dict[tuple[int, int], dict[str, int]] = field(
        default_factory=lambda: defaultdict(lambda: dict(ZEROS))
    )
    ready: dict[tuple[int, int, int], int] = field(default_factory=lambda: defaultdict(int))
    live: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    slots: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    log_bytes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    lineage: dict[tuple[int, int, int], list[int]] = field(
        default_factory=lambda: defaultdict(lambda: [0, 0])
    )
    """Tasks and creators by job, the creators' sequence and the tasks' (service/tree.py)."""
    touched: set[int] = field(default_factory=set)
    completed: list[dict[str, Value]] = field(default_factory=list)
    """Tasks that are complete, as `task_finish` takes them."""
    ended: list[dict[str, Value]] = field(default_factory=list)
    """Attempts that have ended, as `attempt_end` takes them."""
    successes: set[tuple[int, int]] = field(default_factory=set)
    """Nodes and jobs of which it is noted that a task completed there (service/suspicion.py)."""

    def add(self, job_id: int, sequence: int, state: TaskState, count: int = 1) -> None:
        """Note that `count` tasks came to be in `state`; negative: ceased to be."""
        self.levels[job_id, sequence][COLUMNS[state]] += count
        self.touched.add(job_id)

    def move(self, job_id: int, sequence: int, old: TaskState, new: TaskState) -> None:
        """Note that one task went from `old` to `new`."""
        counts = self.levels[job_id, sequence]
        counts[COLUMNS[old]] -= 1
        counts[COLUMNS[new]] += 1
        self.touched.add(job_id)

    def make_ready(self, job_id: int, sequence: int, shape_id: int, count: int = 1) -> None:
        """Note that `count` tasks could start now at their frontier; negative: were claimed."""
        self.ready[job_id, sequence, shape_id] += count
        self.touched.add(job_id)

    def descend(
        self, job_id: int, creator_sequence: int, sequence: int, tasks: int, creators: int
    ) -> None:
        """Note tasks that were published, which so many tasks of a sequence created."""
        counts = self.lineage[job_id, creator_sequence, sequence]
        counts[0] += tasks
        counts[1] += creators

    def occupy(self, job_id: int, slots: int) -> None:
        """Note an attempt that has so many slots, one on each node of a gang (R18, R25)."""
        self.live[job_id] += 1
        self.slots[job_id] += slots
        self.touched.add(job_id)

    def vacate(self, job_id: int, slots: int) -> None:
        """Note that an attempt is over, and its process gone."""
        self.live[job_id] -= 1
        self.slots[job_id] -= slots
        self.touched.add(job_id)

    def touch(self, job_id: int) -> None:
        """Have the job settled though no counter moved."""
        self.touched.add(job_id)

    def write_ended(self) -> None:
        """Write what has ended: before attempts or tasks are read, and by whom they are noted."""
        if self.completed:
            self.ctx.tx.run_many("task_finish", self.completed)
            self.completed = []
        if self.ended:
            self.ctx.tx.run_many("attempt_end", self.ended)
            self.ended = []

    def has_only_moved(self, levels: Set[tuple[int, int]]) -> bool:
        """Return whether all that is noted are counters of these jobs' sequences, and no task of
        them may start that could not before.
        """
        return (
            not any(self.ready.values())
            and not self.lineage
            and self.levels.keys() <= levels
            and self.touched <= {job_id for job_id, _ in levels}
        )

    def flush(self) -> None:
        """Write the differences, then settle every job that was touched."""
        open_tasks = self._write_levels()
        tallies = self._write_tallies()
        fresh_lanes = self._write_lanes()
        self._write_lineage()
        touched = sorted(self.touched)
        self.levels.clear()
        self.ready.clear()
        self.live.clear()
        self.slots.clear()
        self.log_bytes.clear()
        self.touched.clear()
        for job_id in touched:
            tally = tallies.get(job_id) or self.ctx.tx.one(TallyRow, "tally_of_job", job_id=job_id)
            if tally is not None:
                moved = open_tasks.get(job_id, {})
                settle(self.ctx, job_id, tally, moved, has_fresh_lanes=job_id in fresh_lanes)

    def _write_levels(self) -> dict[int, dict[int, int]]:
        """Return how many tasks are not complete, by job and sequence, where that has moved."""
        found: dict[int, dict[int, int]] = defaultdict(dict)
        for (job_id, sequence), counts in self.levels.items():
            if not any(counts.values()):
                continue
            where = {"job_id": job_id, "sequence": sequence}
            left = self.ctx.tx.value("level_change", **where, **counts)
            if left is None:
                self.ctx.tx.run("level_add", **where, **counts)
                left = counts["todo"] + counts["running"] + counts["failed"]
            found[job_id][sequence] = left
        return found

    def _write_tallies(self) -> dict[int, TallyRow]:
        """Return the counters of the jobs whose counters moved."""
        moved: dict[int, dict[str, int]] = defaultdict(lambda: dict(ZEROS))
        for (job_id, _), counts in self.levels.items():
            if any(counts.values()):
                for column, count in counts.items():
                    moved[job_id][column] += count
        found: dict[int, TallyRow] = {}
        for job_id in moved.keys() | self.live.keys():
            tally = self.ctx.tx.one(
                TallyRow,
                "tally_change",
                job_id=job_id,
                live=self.live.get(job_id, 0),
                slots=self.slots.get(job_id, 0),
                log_bytes=self.log_bytes.get(job_id, 0),
                **moved[job_id],
            )
            if tally is not None:
                found[job_id] = tally
        return found

    def _write_lanes(self) -> set[int]:
        """Return the jobs that got a lane they did not have."""
        fresh: set[int] = set()
        for (job_id, sequence, shape_id), ready in self.ready.items():
            if not ready:
                continue
            where = {"job_id": job_id, "sequence": sequence, "shape_id": shape_id}
            if not self.ctx.tx.run("lane_change", **where, ready=ready):
                self.ctx.tx.run("lane_add", **where, ready=ready)
                fresh.add(job_id)
            if ready > 0:
                self.ctx.wake.add("nodes")
        return fresh

    def _write_lineage(self) -> None:
        for (job_id, creator_sequence, sequence), (tasks, creators) in self.lineage.items():
            self.ctx.tx.run(
                "lineage_change",
                job_id=job_id,
                creator_sequence=creator_sequence,
                sequence=sequence,
                tasks=tasks,
                creators=creators,
            )
        self.lineage.clear()


def settle(
    ctx: Context, job_id: int, tally: TallyRow, moved: dict[int, int], *, has_fresh_lanes: bool
) -> None:
    """Let what may start follow the counters; end the job when nothing is left (R5, R20).

    `moved` says how many tasks are not complete in each sequence whose counters have moved.
    """
    if _stays(tally, moved):
        move_frontier(ctx, job_id, tally.frontier, tally.frontier, has_fresh_lanes)
        return
    head = None
    if tally.state == JobState.RUNNING and tally.managed:
        head = ctx.tx.one(LevelHead, "level_frontier", job_id=job_id)
        end = sequencing.job_end(
            todo=tally.todo,
            running=tally.running,
            failed=tally.failed,
            live=tally.live,
            halted=tally.halt is not None,
            frontier_todo=head.todo if head else 0,
        )
        if end is not None:
            endings.finish(ctx, job_id, end)
            head = None
    may_start = head if tally.halt is None else None
    move_frontier(ctx, job_id, tally.frontier, may_start and may_start.sequence, has_fresh_lanes)


def _stays(tally: TallyRow, moved: dict[int, int]) -> bool:
    """Return whether a job goes on where it is, as far as these counters tell without more.

    It is what most ends and starts are: something of the job runs, its frontier has tasks that are
    not complete, and nothing was created below it.
    """
    frontier = tally.frontier
    return (
        frontier is not None
        and tally.state == JobState.RUNNING
        and bool(tally.managed)
        and tally.halt is None
        and tally.live > 0
        and moved.get(frontier, 0) > 0
        and all(sequence >= frontier for sequence in moved)
    )


def move_frontier(
    ctx: Context, job_id: int, old: int | None, new: int | None, has_fresh_lanes: bool
) -> None:
    """Stop the lanes of the old frontier and start those of the new one."""
    if old != new:
        ctx.tx.run("tally_frontier", job_id=job_id, frontier=new)
        if old is not None:
            ctx.tx.run("lanes_stop", job_id=job_id, sequence=old)
    if new is not None and (old != new or has_fresh_lanes):
        ctx.tx.run("lanes_start", job_id=job_id, sequence=new)
        ctx.wake.add("nodes")
