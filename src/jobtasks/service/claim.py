"""How a node's free slots are filled, by statements whose number does not depend on the tasks.

The rule in its pure form is core/placement.py, `claim`; tests compare the two. Which lanes are live
tells what is at the frontier; per lane the heads of its batches and its due retries are merged in
order of qsequence; jobs take turns. (R5, R12, R18, R25–R30)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jobtasks.core.constraints import Needs
from jobtasks.core.identifiers import attempt_token, token_hash
from jobtasks.core.placement import NodeSize, Occupant, Room, is_large_enough
from jobtasks.core.states import TaskState
from jobtasks.service import events, gangs, lanes
from jobtasks.service.context import Context
from jobtasks.service.fleet import TakenSlot
from jobtasks.service.gangs import Seat
from jobtasks.service.lanes import Contender, FewLanes, Lane, ManyLanes, Shape
from jobtasks.service.ledger import Ledger
from jobtasks.service.turns import Turns


class Head(NamedTuple):
    """A batch and its first task that was never claimed."""

    batch_id: int
    task_id: int


class Candidate(NamedTuple):
    """A task that could be claimed; ordered by id, which is by qsequence within a job."""

    id: int
    attempts: int
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


class Chosen(NamedTuple):
    """A task that gets a slot."""

    job_id: int
    slot: int
    task: Candidate
    needs: Needs
    seats: Sequence[Seat]
    """The further nodes of a gang (R25)."""


class Claimed(NamedTuple):
    """A task with its new attempt; what follows the attempt is as in `Chosen`."""

    attempt_id: int
    job_id: int
    slot: int
    task: Candidate
    needs: Needs
    seats: Sequence[Seat]


def claim(
    ctx: Context,
    ledger: Ledger,
    node: NodeSize,
    agent_id: int,
    slots: Sequence[int],
    taken: Sequence[TakenSlot],
    *,
    behind: Sequence[int] = (),
    is_trial: bool = False,
    only_job: int | None = None,
) -> list[Claimed]:
    """Give the node's free `slots` to waiting tasks; return them with their attempts.

    `taken` are its slots that are not free; `behind` whose attempts others may wait when the free
    ones are filled. `is_trial` says that these try the node out (R16), `only_job` whose node it is
    (R18).
    Counters move in `ledger`, which is taken as it is and may be flushed; the caller flushes what
    is left.
    """
    live = lanes.read(ctx, ledger, only_job)
    wanted = live.shapes()
    if not wanted:
        return []
    room = Room(node, [one.occupant for one in taken])
    filling = Filling(ctx, room, slots, behind, is_trial, only_job)
    filling.fill(wanted, live)
    return _store(ctx, ledger, Place(node.id, agent_id, is_trial), filling.chosen)


class Filling:
    """One node's free slots while they are filled."""

    def __init__(
        self,
        ctx: Context,
        room: Room,
        slots: Sequence[int],
        behind: Sequence[int],
        is_trial: bool,
        only_job: int | None,
    ) -> None:
        self.chosen: list[Chosen] = []
        self._ctx = ctx
        self._room = room
        self._slots = [*slots, *behind]
        self._behind = len(behind)
        """So many of the slots, the last, are not free yet."""
        self._is_trial = is_trial
        self._only_job = only_job
        self._needs: dict[int, Needs] = {}
        self._waiting: dict[int, Iterator[Candidate]] = {}
        self._someone_gathers = is_trial

    def fill(self, wanted: list[Shape], live: FewLanes | ManyLanes) -> None:
        """Choose tasks of these shapes: first the gang that gathers, then by turns (R18, R25)."""
        if any(shape.needs.nodes > 1 for shape in wanted):
            # Nodes are kept for one and counted by their slots.
            self._slots = self._slots[: len(self._slots) - self._behind]
            self._behind = 0
            self._serve_gang()
        self._needs = {shape.id: shape.needs for shape in wanted if self._is_open(shape.needs)}
        # One more than can be taken: a page that is not full tells that nothing follows.
        turns = Turns(live.ready(self._needs.keys(), len(self._slots) + 1))
        while self._slots and (job := turns.next()) is not None:
            task = self._next(job)
            if task is not None:
                needs = self._needs[task.shape_id]
                self._room.take(Occupant(job.job_id, needs, needs.memory_kib))
                self.chosen.append(Chosen(job.job_id, self._slots.pop(0), task, needs, ()))
                turns.took(job)

    def _is_open(self, needs: Needs) -> bool:
        """Return whether tasks of these needs are looked at: a gang may wait for room."""
        if needs.nodes > 1:
            return not self._someone_gathers and is_large_enough(self._room.size, needs)
        return self._room.fits(needs)

    def _serve_gang(self) -> None:
        """Keep a slot for the gang that gathers its nodes, or start it."""
        gang = gangs.gathering(self._ctx, self._room.size.id)
        if gang is None:
            return
        self._someone_gathers = True
        is_strange = self._only_job not in (None, gang.job_id)
        if self._is_trial or is_strange or not gangs.may_use(gang, self._room):
            self._ctx.tx.run("kept_remove", node_id=self._room.size.id)
        elif self._slots:
            slot = self._slots.pop()
            seats = gangs.keep(self._ctx, gang, self._room)
            if seats is not None:
                task = Candidate(
                    gang.task_id, gang.attempts, gang.shape_id, gang.sequence, gang.batch_id
                )
                self.chosen.append(Chosen(gang.job_id, slot, task, gang.needs, seats))

    def _next(self, job: Contender) -> Candidate | None:
        """Return the next task of a job that fits; a gang on the way begins to gather."""
        if job.job_id not in self._waiting:
            self._note_other_nodes(job)
            self._waiting[job.job_id] = self._candidates(job)
        for task in self._waiting[job.job_id]:
            needs = self._needs[task.shape_id]
            if needs.nodes > 1:
                self._gather(task, needs)
                if not self._slots:
                    return None
            elif needs.exclusive and len(self._slots) <= self._behind:
                # Its time runs from here (R34): it is not to wait.
                continue
            elif self._room.fits(needs) and self._room.admits(job.job_id, needs):
                return task
        return None

    def _gather(self, task: Candidate, needs: Needs) -> None:
        if not self._someone_gathers and gangs.gather(self._ctx, task.id, needs):
            self._serve_gang()

    def _note_other_nodes(self, job: Contender) -> None:
        """Have the room know on how many other nodes the job is, where that is limited (R26)."""
        if any(self._needs[lane.shape_id].max_nodes for lane in job.lanes):
            nodes = self._ctx.tx.all(int, "nodes_of_job", job_id=job.job_id)
            self._room.other_nodes[job.job_id] = len({*nodes} - {self._room.size.id})

    def _candidates(self, job: Contender) -> Iterator[Candidate]:
        """Merge the job's lanes in order of qsequence, each read no further than slots are left."""
        runs: list[list[Candidate]] = []
        for lane in job.lanes:
            if self._room.admits(job.job_id, self._needs[lane.shape_id]):
                runs.append(_due(self._ctx, lane, self._room.size.id, len(self._slots)))
                runs.append(_fresh(self._ctx, lane, len(self._slots)))
        return heapq.merge(*runs)


def _due(ctx: Context, lane: Lane, node_id: int, limit: int) -> list[Candidate]:
    if not lane.has_due:
        return []

    def candidate(*columns: Any) -> Candidate:
        return Candidate._make((*columns, lane.shape_id, lane.sequence, None))

    return ctx.tx.all(
        candidate, "tasks_due", **_key(lane), node_id=node_id, now=ctx.now, limit=limit
    )


def _key(lane: Lane) -> dict[str, int]:
    return {"job_id": lane.job_id, "sequence": lane.sequence, "shape_id": lane.shape_id}


def _fresh(ctx: Context, lane: Lane, limit: int) -> list[Candidate]:
    """Return the first tasks of a lane that were never claimed, over all its batches."""
    heads = ctx.tx.all(Head, "batch_heads", **_key(lane), limit=limit)
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


def _store(ctx: Context, ledger: Ledger, place: Place, chosen: list[Chosen]) -> list[Claimed]:
    if not chosen:
        return []
    first_id = int(ctx.tx.value("attempt_last_id") or 0) + 1
    claimed = [Claimed(first_id + turn, *item) for turn, item in enumerate(chosen)]
    started = ctx.tx.run_many("task_start", [_task_values(ctx, item) for item in claimed])
    assert started == len(claimed), "a task that was not waiting was claimed"
    ctx.tx.run_many("attempt_add", [_attempt_values(ctx, place, item) for item in claimed])
    again = [{"task_id": item.task.id} for item in claimed if item.task.batch_id is None]
    if again:
        ctx.tx.run_many("requeue_take", again)
    _advance_batches(ctx, claimed)
    for item in claimed:
        if item.seats:
            gangs.take_seats(ctx, item.attempt_id, item.seats)
        _note(ctx, ledger, place, item)
    return claimed


def _note(ctx: Context, ledger: Ledger, place: Place, item: Claimed) -> None:
    """Move the counters by a task that starts, and tell of it."""
    task = item.task
    ledger.occupy(item.job_id, item.needs.nodes)
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
        "canary": int(place.is_trial),
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
