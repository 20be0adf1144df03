"""Why no node takes a task: none there, none large enough, or those that are take nothing (R31).

Built on core/placement.py, by which nodes are filled, so that the two agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import msgspec

from jobtasks.core.constraints import Needs
from jobtasks.core.placement import NodeSize, Occupant, Room, is_large_enough
from jobtasks.core.reasons import LISTED_MAX, Reason, named, sentence, until
from jobtasks.core.states import UNTIL_RELEASED
from jobtasks.core.timestamps import render_time


@dataclass(frozen=True)
class NodeView:
    """A node that has joined once, with what runs there."""

    uuid: str
    hostname: str
    size: NodeSize
    slots: int
    is_live: bool = True
    """Whether its agent is there."""
    is_draining: bool = False
    draining_reason: str | None = None
    held_until: int | None = None
    """Unix microseconds; it takes no task before (R16). `UNTIL_RELEASED`: no end of its own."""
    held_reason: str | None = None
    has_canary: bool = False
    """Whether it is on trial, and the one task that it may run meanwhile runs (R16)."""
    kept_for_job: str | None = None
    """The job until whose start it takes nothing new (R18)."""
    occupants: Sequence[Occupant] = ()

    @cached_property
    def room(self) -> Room:
        """What is free here."""
        return Room(self.size, self.occupants)

    @property
    def free_slots(self) -> int:
        """Slots that no live attempt has."""
        return max(0, self.slots - len(self.occupants))

    def is_held(self, now: int) -> bool:
        """Whether it takes no task because too many failed there (R16)."""
        return self.held_until is not None and self.held_until > now


@dataclass(frozen=True, slots=True)
class EngineRequest:
    """What an engine was asked for and has not granted yet."""

    engine: str
    name: str
    """As the engine names it."""
    state: str
    """As the engine words it."""
    asked_at: int


@dataclass(frozen=True, slots=True)
class Gathering:
    """The one gang that gathers its nodes now (R25)."""

    task_uuid: str
    job_id: int
    needs: Needs
    nodes: tuple[str, ...]
    """Hostnames on which a slot with room is kept for it."""

    @property
    def occupant(self) -> Occupant:
        """What it takes of each node."""
        return Occupant(self.job_id, self.needs, self.needs.memory_kib)


@dataclass(frozen=True)
class Fleet:
    """All nodes at one time."""

    now: int
    """Unix microseconds."""
    nodes: Sequence[NodeView]
    requests: Sequence[EngineRequest] = ()
    gathering: Gathering | None = None

    @cached_property
    def live(self) -> list[NodeView]:
        """Nodes whose agent is there."""
        return [node for node in self.nodes if node.is_live]

    def fitting(self, needs: Needs) -> list[NodeView]:
        """Return the live nodes that could ever run a task of these needs, busy or not."""
        return [node for node in self.live if is_large_enough(node.size, needs)]

    @cached_property
    def nodes_per_job(self) -> Counter[int]:
        """On how many nodes each job has a live attempt."""
        return Counter(job_id for node in self.nodes for job_id in node.room.counts)

    def other_nodes(self, job_id: int, node: NodeView) -> int:
        """Return how many other nodes have a live attempt of the job (R26)."""
        return self.nodes_per_job[job_id] - (job_id in node.room.counts)


@dataclass(frozen=True, slots=True)
class Wish:
    """Tasks that want a node."""

    whom: str
    """How a sentence names them: ``it``, ``12 tasks of sequence 1``."""
    job_id: int
    needs: Needs
    retry: str
    """The command that queues them again with other constraints."""
    task_uuid: str = ""
    avoid_nodes: frozenset[int] = frozenset()
    avoid_until: int = 0
    is_memory_raised: bool = False
    """Whether more memory is asked for than the constraints say, after running out of it (R14)."""


class Asked(NamedTuple):
    """A constraint on the size of a node."""

    name: str
    unit: str
    of_needs: Callable[[Needs], int]
    of_node: Callable[[NodeSize], int]


SIZES = (
    Asked("min_ram_per_task", "KiB", lambda n: n.memory_kib, lambda s: s.memory_kib),
    Asked("min_ram_per_node", "KiB", lambda n: n.node_memory_kib, lambda s: s.memory_kib),
    Asked("min_cores_per_task", "cores", lambda n: n.cores, lambda s: s.cores),
    Asked("min_cores_per_node", "cores", lambda n: n.node_cores, lambda s: s.cores),
    Asked("min_scratch_mb_per_node", "MiB", lambda n: n.node_scratch_mb, lambda s: s.scratch_mb),
)


def node_reasons(wish: Wish, fleet: Fleet) -> list[Reason]:
    """Return why no node takes these tasks now; that one is about to, where nothing keeps them."""
    found = lasting_reasons(wish, fleet)
    if not found:
        found = _gang_reasons(wish, fleet) if wish.needs.nodes > 1 else _taken_reasons(wish, fleet)
    return [*found, *engine_reasons(found, fleet)]


def lasting_reasons(wish: Wish, fleet: Fleet) -> list[Reason]:
    """Return what waiting does not change: no node is there, or none is large enough."""
    if not fleet.live:
        return [_no_node(fleet)]
    fitting = fleet.fitting(wish.needs)
    if not fitting:
        return [_too_large(wish, fleet)]
    if len(fitting) < wish.needs.nodes:
        return [_too_few(wish, fitting)]
    return []


def engine_reasons(others: Iterable[Reason], fleet: Fleet) -> list[Reason]:
    """Return what an engine was asked for, when something else keeps the tasks waiting."""
    if not fleet.requests or any(reason.code == "ready" for reason in others):
        return []
    parts = [
        f"{one.engine} has not granted request {one.name} yet ({one.state})"
        for one in fleet.requests
    ]
    details = [
        {
            "engine": one.engine,
            "request": one.name,
            "state": one.state,
            "asked_at": render_time(one.asked_at),
        }
        for one in fleet.requests[:LISTED_MAX]
    ]
    lift = "The engine grants the request."
    return [Reason("engine_queue", sentence(parts[:3]), lift, {"requests": details})]


def _no_node(fleet: Fleet) -> Reason:
    lift = "An agent joins: `jobtasks serve` starts one on its machine, `jobtasks agent` others."
    if not fleet.nodes:
        return Reason("no_node", "No node has joined yet.", lift, {"away": []})
    names = [node.hostname for node in fleet.nodes]
    text = f"No node is there: the agents of {named(names)} are away."
    return Reason("no_node", text, lift, {"away": names[:LISTED_MAX]})


def _too_large(wish: Wish, fleet: Fleet) -> Reason:
    rows = [_largest(asked, wish.needs, fleet) for asked in SIZES if asked.of_needs(wish.needs)]
    unmet = [row for row in rows if row["asked"] > row["largest"]]
    parts = [
        f"{_constraint(row, wish)} asks for {row['asked']} {row['unit']}, the largest node"
        f" ({row['node']}) has {row['largest']}"
        for row in unmet
    ]
    if not unmet:
        wanted = named([f"{row['constraint']} {row['asked']} {row['unit']}" for row in rows])
        parts = [f"each of {wanted} is met by a node, all together by none"]
    text = f"No node is large enough for {wish.whom}: {sentence(parts)}"
    details = {"constraints": unmet or rows, **_away(wish, fleet)}
    return Reason("too_large", text, _lift_of_size(wish, details), details)


def _largest(asked: Asked, needs: Needs, fleet: Fleet) -> dict[str, Any]:
    node = max(fleet.live, key=lambda node: asked.of_node(node.size))
    return {
        "constraint": asked.name,
        "asked": asked.of_needs(needs),
        "unit": asked.unit,
        "largest": asked.of_node(node.size),
        "node": node.hostname,
    }


def _constraint(row: dict[str, Any], wish: Wish) -> str:
    raised = wish.is_memory_raised and row["constraint"] == "min_ram_per_task"
    return "min_ram_per_task, raised after it ran out of memory," if raised else row["constraint"]


def _away(wish: Wish, fleet: Fleet) -> dict[str, Any]:
    away = [
        node.hostname
        for node in fleet.nodes
        if not node.is_live and is_large_enough(node.size, wish.needs)
    ]
    return {"away": away[:LISTED_MAX]} if away else {}


def _lift_of_size(wish: Wish, details: dict[str, Any]) -> str:
    options = " ".join(f"-c {row['constraint']}=N" for row in details["constraints"])
    lift = (
        f"A node that is large enough joins, or you ask for less: cancel, `{wish.retry} {options}`."
    )
    if "away" in details:
        lift = f"{named(details['away'])} would do and is away: start its agent again. {lift}"
    return lift


def _too_few(wish: Wish, fitting: Sequence[NodeView]) -> Reason:
    names = [node.hostname for node in fitting]
    text = (
        f"min_nodes asks for {wish.needs.nodes} nodes at the same time for {wish.whom};"
        f" large enough are only {named(names)}."
    )
    lift = f"More nodes join, or you ask for fewer: cancel, `{wish.retry} -c min_nodes=N`."
    return Reason("too_few_nodes", text, lift, {"min_nodes": wish.needs.nodes, "nodes": names})


def _gang_reasons(wish: Wish, fleet: Fleet) -> list[Reason]:
    needed = f"{wish.whom} needs {wish.needs.nodes} nodes at the same time"
    needed = needed[0].upper() + needed[1:]
    details: dict[str, Any] = {"min_nodes": wish.needs.nodes}
    blocked = blocked_reasons(wish, fleet)
    if blocked:
        return blocked
    gathering = fleet.gathering
    if gathering is not None and not _is_theirs(gathering, wish):
        text = f"{needed}; task {gathering.task_uuid} gathers its own first."
        lift = "That task has its nodes and starts."
        return [Reason("gang_waits", text, lift, {**details, "task": gathering.task_uuid})]
    kept = gathering.nodes if gathering else ()
    have = f"{len(kept)} of them kept so far: {named(kept)}" if kept else "none is kept so far"
    text = f"{needed} and gathers them, {have}."
    lift = "Running tasks end on other nodes that are large enough."
    return [Reason("gang_gathering", text, lift, {**details, "nodes": list(kept)})]


def _is_theirs(gathering: Gathering, wish: Wish) -> bool:
    """Return whether it is for these tasks that nodes are gathered: for one of them is enough."""
    if wish.task_uuid:
        return gathering.task_uuid == wish.task_uuid
    return gathering.job_id == wish.job_id


LIFTS = {
    "max_nodes": "All of the job's tasks on one of its nodes end, or max_nodes is raised.",
    "max_tasks_per_node": "A task of the job ends there, or max_tasks_per_node is raised.",
    "nodes_busy": "A task ends there, or another node joins.",
    "nodes_kept": "What the slots are kept for starts, or another node joins.",
    "nodes_avoided": "That time passes, or another node joins.",
    "nodes_held": "The hold ends: at its time, or when an administrator releases the node"
    " (`jobtasks node release`).",
    "nodes_draining": "An administrator releases the node (`jobtasks node release`), or another"
    " joins.",
}
"""What lifts each kind of obstacle; in the order in which they are told."""
WORDS = {
    "max_nodes": "No room for {whom} by max_nodes: {nodes}",
    "max_tasks_per_node": "No room for {whom} by max_tasks_per_node: {nodes}",
    "nodes_busy": "No room for {whom}: {nodes}",
    "nodes_kept": "No slot for {whom}, as free ones are kept for others: {nodes}",
    "nodes_avoided": "Avoided for {whom}, as an attempt failed there: {nodes}",
    "nodes_held": "No start for {whom} on held nodes: {nodes}",
    "nodes_draining": "No start for {whom} on draining nodes: {nodes}",
}


def blocked_reasons(wish: Wish, fleet: Fleet) -> list[Reason]:
    """Return the held, draining and avoided among the nodes that are large enough; [] when as many
    as are needed remain.
    """
    obstacles = [
        _unusable(node, fleet.now) or _avoided(node, wish, fleet.now)
        for node in fleet.fitting(wish.needs)
    ]
    if obstacles.count(None) >= wish.needs.nodes:
        return []
    return _told(wish, fleet, [one for one in obstacles if one])


class Obstacle(NamedTuple):
    """What keeps one node from taking a task."""

    code: str
    text: str
    row: dict[str, Any]


def _taken_reasons(wish: Wish, fleet: Fleet) -> list[Reason]:
    obstacles: list[Obstacle] = []
    for node in fleet.fitting(wish.needs):
        obstacle = _obstacle(node, wish, fleet)
        if obstacle is None:
            text = f"Nothing keeps {wish.whom} waiting: {node.hostname} has room."
            lift = "Wait a moment: the node takes it when it is heard next."
            return [Reason("ready", text, lift, {"node": node.hostname})]
        obstacles.append(obstacle)
    return _told(wish, fleet, obstacles)


def _told(wish: Wish, fleet: Fleet, obstacles: Sequence[Obstacle]) -> list[Reason]:
    """Return one reason for each kind of obstacle, with the nodes it concerns."""
    found = []
    for code, lift in LIFTS.items():
        met = [one for one in obstacles if one.code == code]
        if met:
            nodes = named([one.text for one in met])
            text = WORDS[code].format(whom=wish.whom, nodes=nodes) + "."
            rows = [one.row for one in met[:LISTED_MAX]]
            found.append(Reason(code, text, lift, {"nodes": rows, "nodes_total": len(met)}))
    return found


def _obstacle(node: NodeView, wish: Wish, fleet: Fleet) -> Obstacle | None:
    """Return what keeps a node that is large enough from taking the tasks: what lasts longest."""
    return (
        _unusable(node, fleet.now)
        or _on_trial(node)
        or _avoided(node, wish, fleet.now)
        or _limited(node, wish, fleet)
        or _busy(node, wish)
        or _kept(node, wish, fleet.gathering)
    )


def _row(node: NodeView, **more: Any) -> dict[str, Any]:
    return {"node": node.hostname, "uuid": node.uuid, **more}


def _unusable(node: NodeView, now: int) -> Obstacle | None:
    if node.is_draining:
        text = node.hostname + _why(node.draining_reason)
        return Obstacle("nodes_draining", text, _row(node, reason=node.draining_reason))
    if node.held_until is None or node.held_until <= now:
        return None
    is_lasting = node.held_until >= UNTIL_RELEASED
    when = "it is released" if is_lasting else until(node.held_until, now)
    text = f"{node.hostname} until {when}{_why(node.held_reason)}"
    ends_at = None if is_lasting else render_time(node.held_until)
    return Obstacle("nodes_held", text, _row(node, until=ends_at, reason=node.held_reason))


def _on_trial(node: NodeView) -> Obstacle | None:
    if not node.has_canary:
        return None
    text = f"{node.hostname} until the task that tries it out has ended{_why(node.held_reason)}"
    return Obstacle("nodes_held", text, _row(node, until=None, reason=node.held_reason))


def _why(reason: str | None) -> str:
    return f": {reason}" if reason else ""


def _avoided(node: NodeView, wish: Wish, now: int) -> Obstacle | None:
    if node.size.id not in wish.avoid_nodes or wish.avoid_until <= now:
        return None
    text = f"{node.hostname} until {until(wish.avoid_until, now)}"
    return Obstacle("nodes_avoided", text, _row(node, until=render_time(wish.avoid_until)))


def _limited(node: NodeView, wish: Wish, fleet: Fleet) -> Obstacle | None:
    needs, room = wish.needs, node.room
    others = fleet.other_nodes(wish.job_id, node)
    if needs.max_nodes and others >= needs.max_nodes:
        text = f"{node.hostname} (it is on {others} of at most {needs.max_nodes} nodes)"
        return Obstacle("max_nodes", text, _row(node, max_nodes=needs.max_nodes, used=others))
    if room.admits(wish.job_id, msgspec.structs.replace(needs, max_nodes=0)):
        return None
    limits = (needs.max_tasks_per_node, room.node_limits.get(wish.job_id, 0))
    limit = min(limit for limit in limits if limit)
    here = room.counts.get(wish.job_id, 0)
    text = f"{node.hostname} (the job runs {here} there, at most {limit})"
    return Obstacle("max_tasks_per_node", text, _row(node, max_tasks_per_node=limit, used=here))


def _busy(node: NodeView, wish: Wish) -> Obstacle | None:
    room, size, needs = node.room, node.size, wish.needs
    lacks: list[str] = []
    if not node.free_slots:
        lacks.append(f"{node.slots} of {node.slots} slots taken")
    if needs.memory_kib > room.free_kib:
        free = f"{room.free_kib} of {size.memory_kib} KiB free"
        lacks.append(f"{free}, {needs.memory_kib} needed")
    if needs.cores > room.free_cores:
        lacks.append(f"{room.free_cores} of {size.cores} cores free, {needs.cores} needed")
    if not lacks:
        return None
    row = _row(
        node,
        slots=node.slots,
        free_slots=node.free_slots,
        free_memory_kib=room.free_kib,
        free_cores=room.free_cores,
        tasks_of_this_job=room.counts.get(wish.job_id, 0),
    )
    return Obstacle("nodes_busy", f"{node.hostname} ({', '.join(lacks)})", row)


def _kept(node: NodeView, wish: Wish, gang: Gathering | None) -> Obstacle | None:
    """Return for whom a node keeps what is free there, when that leaves nothing (R18, R25)."""
    if node.kept_for_job is not None:
        return _keeps(node, f"job {node.kept_for_job}")
    if gang is None or not is_large_enough(node.size, gang.needs):
        return None
    room = Room(node.size, [*node.occupants, gang.occupant])
    if node.free_slots > 1 and room.fits(wish.needs) and room.admits(wish.job_id, wish.needs):
        return None
    return _keeps(node, f"task {gang.task_uuid}")


def _keeps(node: NodeView, whom: str) -> Obstacle:
    return Obstacle("nodes_kept", f"{node.hostname} (for {whom})", _row(node, kept_for=whom))
