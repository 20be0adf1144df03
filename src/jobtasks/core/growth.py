"""How many nodes a job is to have: when to ask for more, give some back, replace, drain, or stop.

One pure function, `plan`: the manager hands it what is known of a job and of its requests, and
writes down what it answers. Nothing here ends an attempt: nodes are given back when nothing runs
there, and what an engine does not say is no evidence (R35).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from jobtasks.core.constraints import Needs
from jobtasks.core.placement import NodeSize, is_large_enough
from jobtasks.core.requests import Ask, Limits, RequestState
from jobtasks.core.settings import Settings

MICROSECONDS = 1_000_000
NOT_NEEDED = "given back: there is not enough work for it"
TIME_IS_UP = "its engine takes it back soon"
JOB_OVER = "its job is over"
NOBODY_JOINED = "no agent has joined from it"
ALL_GONE = "all of its nodes are gone"
DRAIN_SHARE = 4
"""A node is drained no earlier than in this last part of its time, however short that is."""
STOP_SECONDS = 20.0
"""Beside the grace of R21: what an agent has to report its ends before its node is taken."""
WITHOUT_MAX = 50
"""Lost nodes that a request avoids."""


class Offer(NamedTuple):
    """What an engine gives where a job asks for nothing."""

    cores: int = 1
    """Of a node."""
    memory_kib: int = 0
    """Of a node; 0: whatever the engine gives."""
    nodes_max: int = 64
    """For a job that gives no max_nodes."""
    limits: Limits | None = None
    """None: not known yet."""


@dataclass(frozen=True, slots=True)
class OwnNode:
    """A node that has joined for the job."""

    id: int
    request_id: int
    place: str
    size: NodeSize
    slots: int
    is_live: bool = True
    takes_work: bool = True
    """It is neither draining nor held."""
    is_leaving: bool = False
    """It is draining, to be given back."""
    occupants: int = 0
    idle_since: int | None = None
    """Unix microseconds; None while something runs there."""
    lost_at: int | None = None
    """When its agent was lost, that had not been sent away."""


@dataclass(frozen=True, slots=True)
class OwnRequest:
    """A request for the job that is not over."""

    id: int
    state: RequestState
    ask: Ask
    created_at: int
    granted_at: int | None = None
    ends_at: int | None = None
    places: Sequence[str] = ()
    """The nodes that the engine says it has."""
    joined: int = 0
    """Nodes that have ever joined by it."""


@dataclass(frozen=True, slots=True)
class Demand:
    """Tasks with needs in common that could run now, were there room, or do run."""

    needs: Needs
    tasks: int


@dataclass(frozen=True, slots=True)
class JobWork:
    """What a job has to do."""

    is_over: bool
    has_begun: bool
    """Whether it runs; until then it waits for its first nodes."""
    min_nodes: int
    max_nodes: int
    """0: as its needs say, within what the engine offers."""
    needs: Needs
    """Of its tasks without constraints of their own."""
    demands: Sequence[Demand] = ()
    live_attempts: int = 0
    failures: int = 0
    """Requests in a row that brought no node."""
    failed_at: int = 0


@dataclass
class Plan:
    """What is to be written down."""

    ask: Ask | None = None
    cancel: list[tuple[int, str]] = field(default_factory=list)
    """Requests that are to end, and why."""
    drain: list[tuple[int, str]] = field(default_factory=list)
    """Nodes that take nothing new, and why."""
    release: list[int] = field(default_factory=list)
    """Nodes that can be given back now."""


def plan(
    job: JobWork,
    nodes: Sequence[OwnNode],
    requests: Sequence[OwnRequest],
    now: int,
    settings: Settings,
    offer: Offer,
) -> Plan:
    """Return what is to be done about a job's nodes now; times are Unix microseconds."""
    if job.is_over:
        ended = [(one.id, JOB_OVER) for one in requests] if not job.live_attempts else []
        return Plan(cancel=ended)
    made = Plan()
    made.cancel = [*_fruitless(nodes, requests, now, settings)]
    dropped = {request_id for request_id, _ in made.cancel}
    kept = [one for one in requests if one.id not in dropped]
    late = {one.id for one in kept if _is_late(one, now, settings)}
    made.drain = [
        (node.id, TIME_IS_UP) for node in nodes if node.request_id in late and not node.is_leaving
    ]
    last = {one.id for one in kept if _is_last_moment(one, now, settings)}
    made.release = [node.id for node in nodes if _may_go(node, last)]
    usable = [
        node
        for node in nodes
        if node.is_live and node.takes_work and node.request_id not in late | dropped
    ]
    pending = [one for one in kept if _is_pending(one, now, settings)]
    wanted = nodes_wanted(job, usable, offer)
    if len(usable) > wanted:
        made.drain += _surplus(usable, kept, len(usable) - wanted, now, settings)
    if len(usable) >= wanted:
        made.cancel += _needless(pending, now, settings)
    made.ask = _next_ask(job, usable, pending, wanted, nodes, now, settings, offer)
    return made


def nodes_wanted(job: JobWork, usable: Sequence[OwnNode], offer: Offer) -> int:
    """Return how many nodes the job should have now, between its min_nodes and max_nodes."""
    most = job.max_nodes or max(offer.nodes_max, job.min_nodes)
    needed = sum(_nodes_for(demand, usable, job, offer) for demand in job.demands)
    if not job.has_begun and not job.max_nodes:
        needed = job.min_nodes
    elif not job.has_begun:
        needed = most
    return max(job.min_nodes, min(needed, most))


def _nodes_for(demand: Demand, usable: Sequence[OwnNode], job: JobWork, offer: Offer) -> int:
    """Return how many nodes all tasks of a demand would fill."""
    if not demand.tasks:
        return 0
    needs = demand.needs
    sizes = [(node.size, node.slots) for node in usable if is_large_enough(node.size, needs)]
    if not sizes:
        ask = ask_for(merged(job.needs, needs), offer)
        memory_kib = ask.memory_kib or needs.memory_kib
        sizes = [(NodeSize(0, memory_kib, ask.cores, ask.scratch_mb), ask.cores)]
    per_node = max(1, min(tasks_at_a_time(size, slots, needs) for size, slots in sizes))
    return max(needs.nodes, -(-demand.tasks * needs.nodes // per_node))


def tasks_at_a_time(size: NodeSize, slots: int, needs: Needs) -> int:
    """Return how many such tasks a node of this size runs at the same time (R27, R28)."""
    limits = [slots]
    if needs.memory_kib:
        limits.append(size.memory_kib // needs.memory_kib)
    if needs.cores:
        limits.append(size.cores // needs.cores)
    if needs.max_tasks_per_node:
        limits.append(needs.max_tasks_per_node)
    return min(limits)


def merged(job: Needs, task: Needs) -> Needs:
    """Return needs whose node would do for both."""
    return msgspec.structs.replace(
        task,
        memory_kib=max(job.memory_kib, task.memory_kib),
        cores=max(job.cores, task.cores),
        node_memory_kib=max(job.node_memory_kib, task.node_memory_kib),
        node_cores=max(job.node_cores, task.node_cores),
        node_scratch_mb=max(job.node_scratch_mb, task.node_scratch_mb),
    )


def ask_for(needs: Needs, offer: Offer) -> Ask:
    """Return the node that tasks of these needs want; as many of them run there as it has cores."""
    cores = max(offer.cores, needs.cores, needs.node_cores, 1)
    at_a_time = cores // needs.cores if needs.cores else cores
    if needs.max_tasks_per_node:
        at_a_time = min(at_a_time, needs.max_tasks_per_node)
    memory_kib = max(offer.memory_kib, needs.node_memory_kib, needs.memory_kib * at_a_time)
    most = offer.limits.memory_for(cores) if offer.limits else 0
    if most:
        memory_kib = min(memory_kib, max(most, needs.memory_kib, needs.node_memory_kib))
    return Ask(cores=cores, memory_kib=memory_kib, scratch_mb=needs.node_scratch_mb)


def retry_seconds(failures: int, settings: Settings) -> float:
    """Return how long to wait after so many requests in a row that brought no node."""
    if not failures:
        return 0.0
    seconds = settings.engine_retry_seconds * 2.0 ** min(failures - 1, 30)
    return min(seconds, settings.engine_retry_seconds_max)


def _next_ask(
    job: JobWork,
    usable: Sequence[OwnNode],
    pending: Sequence[OwnRequest],
    wanted: int,
    nodes: Sequence[OwnNode],
    now: int,
    settings: Settings,
    offer: Offer,
) -> Ask | None:
    """Return the next request: one for a size that nothing has, else one for more nodes."""
    if now < job.failed_at + retry_seconds(job.failures, settings) * MICROSECONDS:
        return None
    waiting = [demand.needs for demand in job.demands if demand.tasks] if job.has_begun else []
    waiting = waiting or [job.needs]
    unmet = next((needs for needs in waiting if not _is_met(needs, usable, pending)), None)
    lacking = wanted - len(usable)
    if unmet is None and (pending or lacking <= 0):
        return None
    most = 1 if pending else max(1, lacking)
    needs = merged(job.needs, waiting[0] if unmet is None else unmet)
    if offer.limits and offer.limits.nodes_max:
        most = min(most, offer.limits.nodes_max)
    least = min(most, max(1, job.min_nodes - len(usable))) if not job.has_begun else 1
    lost = _lost_lately(nodes, now, settings) if not job.failures else ()
    return msgspec.structs.replace(
        ask_for(needs, offer), min_nodes=least, max_nodes=most, without=lost
    )


def _is_met(needs: Needs, usable: Iterable[OwnNode], pending: Iterable[OwnRequest]) -> bool:
    """Return whether a node for such tasks is there, or on its way."""
    if any(is_large_enough(node.size, needs) for node in usable):
        return True
    return any(
        one.ask.cores >= max(needs.cores, needs.node_cores)
        and one.ask.memory_kib >= max(needs.memory_kib, needs.node_memory_kib)
        and one.ask.scratch_mb >= needs.node_scratch_mb
        for one in pending
    )


def _is_pending(one: OwnRequest, now: int, settings: Settings) -> bool:
    """Return whether nodes of a request are still to come."""
    if one.state is not RequestState.GRANTED:
        return True
    is_young = now - (one.granted_at or now) < settings.engine_join_seconds * MICROSECONDS
    return one.joined < (len(one.places) or one.ask.max_nodes) and is_young


def _fruitless(
    nodes: Sequence[OwnNode], requests: Iterable[OwnRequest], now: int, settings: Settings
) -> Iterable[tuple[int, str]]:
    """Yield the granted requests from which nothing can be expected any more."""
    live = {node.request_id for node in nodes if node.is_live}
    for one in requests:
        if one.id not in live and not _is_pending(one, now, settings):
            yield one.id, ALL_GONE if one.joined else NOBODY_JOINED


def _is_late(one: OwnRequest, now: int, settings: Settings) -> bool:
    """Return whether the engine takes a request's nodes back so soon that they are drained."""
    if one.ends_at is None or one.granted_at is None:
        return False
    whole = max(0, one.ends_at - one.granted_at)
    notice = min(settings.engine_drain_seconds * MICROSECONDS, whole / DRAIN_SHARE)
    return one.ends_at - now <= notice


def _is_last_moment(one: OwnRequest, now: int, settings: Settings) -> bool:
    """Return whether what still runs there is stopped now, before the engine kills it."""
    if one.ends_at is None:
        return False
    return one.ends_at - now <= (settings.grace_seconds + STOP_SECONDS) * MICROSECONDS


def _may_go(node: OwnNode, last: Collection[int]) -> bool:
    """Return whether a node that is leaving can be given back; one that was lost meanwhile, too."""
    is_free = not node.occupants or not node.is_live or node.request_id in last
    return node.is_leaving and is_free


def _surplus(
    usable: Sequence[OwnNode],
    requests: Sequence[OwnRequest],
    number: int,
    now: int,
    settings: Settings,
) -> list[tuple[int, str]]:
    """Return the nodes to give back: idle for long, of a request its first node last of all."""
    before = now - settings.engine_idle_seconds * MICROSECONDS
    first = {one.places[0]: one.id for one in requests if one.places}
    idle = [
        node
        for node in usable
        if not node.occupants and node.idle_since is not None and node.idle_since <= before
    ]

    def carries(node: OwnNode) -> bool:
        others = (one for one in usable if one.request_id == node.request_id and one is not node)
        return first.get(node.place) == node.request_id and any(others)

    able = [node for node in idle if not carries(node)]
    return [(node.id, NOT_NEEDED) for node in able[:number]]


def _needless(pending: Iterable[OwnRequest], now: int, settings: Settings) -> list[tuple[int, str]]:
    """Return the requests that nobody needs any more, when that has lasted for a while."""
    before = now - settings.engine_idle_seconds * MICROSECONDS
    return [
        (one.id, NOT_NEEDED)
        for one in pending
        if one.state is not RequestState.GRANTED and one.created_at <= before
    ]


def _lost_lately(nodes: Iterable[OwnNode], now: int, settings: Settings) -> tuple[str, ...]:
    """Return where nodes were lost not long ago: the engine may not know yet."""
    before = now - settings.engine_avoid_seconds * MICROSECONDS
    lost = {node.place for node in nodes if node.lost_at is not None and node.lost_at > before}
    return tuple(sorted(lost))[:WITHOUT_MAX]
