"""Tasks that take several nodes at once: one of them gathers its nodes at a time (R25).

The first gang in the order of claims gathers: every node that would do keeps one slot and room for
it at its next claims. The node that makes their number complete takes them all, in its transaction,
and starts the process; the others have a *seat* each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jobtasks.core import sharing
from jobtasks.core.constraints import Needs
from jobtasks.core.identifiers import job_of_task
from jobtasks.core.placement import NodeSize, Occupant, Room, is_large_enough
from jobtasks.service import fleet, shapes
from jobtasks.service.context import Context

LOST = "a node of its gang is gone"


class Gathering(NamedTuple):
    """The gang that gathers its nodes, ready to start."""

    task_id: int
    attempts: int
    job_id: int
    sequence: int
    shape_id: int
    needs_text: str
    batch_id: int | None
    """None when it waited for another attempt."""
    avoids: int
    """Whether it avoids the node that asks."""

    @property
    def needs(self) -> Needs:
        """What it needs, of each node."""
        return shapes.decode_needs(self.needs_text)


class KeptNode(NamedTuple):
    """A node that keeps a slot for the gang, and takes new work."""

    id: int
    slots: int
    memory_kib: int
    cores: int
    scratch_mb: int

    @property
    def size(self) -> NodeSize:
        """What it has in all."""
        return NodeSize(self.id, self.memory_kib, self.cores, self.scratch_mb)


class Seat(NamedTuple):
    """A further node of a gang."""

    node_id: int
    slot: int


def gathering(ctx: Context, node_id: int) -> Gathering | None:
    """Return the gang that gathers its nodes, as a node sees it."""
    return ctx.tx.one(Gathering, "gathering", node_id=node_id, now=ctx.now)


def gather(ctx: Context, task_id: int, needs: Needs) -> bool:
    """Have a gang gather its nodes, when enough of them would do; return whether it does."""
    if not _may_gather(ctx, task_id, needs):
        return False
    end(ctx)
    ctx.tx.run("gathering_begin", task_id=task_id, now=ctx.now)
    return True


def _may_gather(ctx: Context, task_id: int, needs: Needs) -> bool:
    job_id = job_of_task(task_id)
    avoided = ctx.tx.all(int, "avoided_by_task", task_id=task_id, now=ctx.now)
    return sharing.may_gather(fleet.count_able(ctx, job_id, needs, avoided), needs)


def give_up(ctx: Context) -> None:
    """End a gathering that cannot succeed now: the manager looks from time to time."""
    if ctx.tx.value("gathering_task") is None:
        return
    gang = gathering(ctx, 0)
    if gang is None or not _may_gather(ctx, gang.task_id, gang.needs):
        end(ctx)


def end(ctx: Context) -> None:
    """Nobody gathers any more, what was kept is free, and all nodes look again."""
    ctx.tx.run("gathering_end")
    ctx.tx.run("kept_clear")
    ctx.wake.add("nodes")


def keep(ctx: Context, gang: Gathering, room: Room) -> list[Seat] | None:
    """Keep a slot and room of a node for a gang; return the seats elsewhere when it can start.

    `room` has less of both afterwards. None: it waits for more nodes.
    """
    needs, node_id = gang.needs, room.size.id
    has_room = room.fits(needs)
    room.take(Occupant(gang.job_id, needs, needs.memory_kib))
    if not has_room:
        ctx.tx.run("kept_remove", node_id=node_id)
        return None
    ctx.tx.run("kept_add", node_id=node_id)
    kept = ctx.tx.all(KeptNode, "kept_nodes", now=ctx.now)
    others = [node for node in kept if node.id != node_id]
    if len(others) + 1 < needs.nodes:
        return None
    offers = [_seat(ctx, node, gang) for node in others]
    seats = {seat.node_id: seat for seat in offers if seat is not None}
    job_nodes = set(ctx.tx.all(int, "nodes_of_job", job_id=gang.job_id))
    chosen = sharing.gang_nodes(node_id, list(seats), needs, job_nodes)
    return None if chosen is None else [seats[other] for other in chosen[1:]]


def may_use(gang: Gathering, room: Room) -> bool:
    """Return whether a node would do for the gang, once it has room (R12, R26, R27)."""
    return (
        not gang.avoids
        and is_large_enough(room.size, gang.needs)
        and room.admits(gang.job_id, gang.needs)
    )


def _seat(ctx: Context, node: KeptNode, gang: Gathering) -> Seat | None:
    """Return the slot that a node has for the gang; None when it has no room after all."""
    taken = fleet.taken_slots(ctx, node.id)
    free = set(range(1, node.slots + 1)) - {one.slot for one in taken}
    room = Room(node.size, [one.occupant for one in taken])
    if not free or not room.fits(gang.needs) or not may_use(gang, room):
        return None
    return Seat(node.id, min(free))


def take_seats(ctx: Context, attempt_id: int, seats: Sequence[Seat]) -> None:
    """Give a gang that starts its further nodes; nobody gathers any more."""
    rows = [{"attempt_id": attempt_id, **seat._asdict()} for seat in seats]
    ctx.tx.run_many("seat_add", rows)
    end(ctx)


def give_back(ctx: Context, attempt_id: int) -> bool:
    """Free the further nodes of a gang that is over; return whether one of them was lost."""
    if ctx.tx.run("seats_give_back", attempt_id=attempt_id):
        ctx.wake.add("nodes")
    return bool(ctx.tx.value("seats_lost", attempt_id=attempt_id))


def lose_seats(ctx: Context, node_id: int) -> None:
    """Stop the gangs that had a seat on a node that is gone: it is as if theirs were (R25)."""
    if ctx.tx.run("seats_lose", node_id=node_id):
        ctx.tx.run("attempts_stop_seatless", node_id=node_id, reason=LOST)
        ctx.wake.update(ctx.tx.all(str, "jobs_of_seatless", node_id=node_id))
