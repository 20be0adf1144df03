"""Requests to engines: what the manager decides of them, and what is learned about them.

`arrange` is the manager's part: it reads, asks core/growth.py, writes. The rest is called by who
carries the requests out (api/engine_keeper.py), one short transaction for each thing that became
known.
Every write names the state that it expects, so that what came too late changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from jobtasks.core.constraints import Constraints, Needs, needs_of
from jobtasks.core.errors import Invalid
from jobtasks.core.growth import Demand, JobWork, OwnNode, OwnRequest, Plan, plan
from jobtasks.core.node_reasons import EngineRequest
from jobtasks.core.placement import NodeSize, is_large_enough
from jobtasks.core.requests import Ask, RequestState, Sighting, refusal
from jobtasks.core.states import JobState
from jobtasks.service import events, fleet, shapes
from jobtasks.service.context import MICROSECONDS, Context

NAME = "jobtasks-{what}-{number}"
"""What a request is called at its engine."""
QUEUED_MAX = 100
"""Queued jobs that are looked at in one tick: the oldest."""
KEPT_SECONDS = 86400.0
"""How long a request that is over is remembered."""
SWEPT = 100
REASON_CHARACTERS_MAX = 255
FAILURES_SECONDS = 3600.0
"""How long it is told that requests brought no node."""
FAILURES_MAX = 5
"""Reasons that are told."""
VANISHED = "the engine does not know it any more"


class JobRow(NamedTuple):
    """A job that may need nodes, or has requests that are to end."""

    id: int
    uuid: str
    state: str
    runtime_constraints: str
    live: int
    """Attempts that may still have a process."""


class RequestRow(NamedTuple):
    """A request that is not over."""

    id: int
    name: str
    job_id: int | None
    state: str
    ask: str
    engine_id: str | None
    places: str
    joined: int
    ending: str | None
    created_at: int
    asked_at: int | None
    granted_at: int | None
    ends_at: int | None


class GrantedNode(NamedTuple):
    """A node that joined by a request for a job."""

    id: int
    request_id: int
    job_id: int
    place: str
    memory_kib: int
    cores: int
    scratch_mb: int
    slots: int
    is_live: int
    takes_work: int
    leaving: int
    occupants: int
    idle_since: int | None
    lost_at: int | None


class Failures(NamedTuple):
    """Requests for a job in a row that brought no node."""

    number: int
    last_at: int | None
    reason: str | None


class InState(NamedTuple):
    """Requests in one state."""

    state: str
    requests: int


class Failure(NamedTuple):
    """Requests that brought no node for the same reason."""

    reason: str
    requests: int
    last_at: int


class Asked(NamedTuple):
    """What became of what an engine was asked for."""

    requests: dict[str, int]
    """How many are in each state that is not over."""
    failures: list[Failure]
    """Of the last hour, the last first."""


class Known(NamedTuple):
    """A request by which an agent joins."""

    id: int
    job_id: int | None
    state: str
    ending: str | None


def arrange(ctx: Context) -> None:
    """Have the jobs' nodes be as many as they need: write down what engines are to do."""
    if ctx.world.offer is None:
        return
    ctx.tx.run("nodes_idle", now=ctx.now)
    requests, nodes = _requests(ctx), _nodes(ctx)
    for job in ctx.tx.all(JobRow, "jobs_needing_nodes", limit=QUEUED_MAX):
        mine = [row for row in requests[job.id] if row.ending is None]
        own = nodes[job.id]
        made = plan(
            _work(ctx, job),
            [_own_node(node) for node in own],
            [_own_request(row) for row in mine],
            ctx.now,
            ctx.settings,
            ctx.world.offer,
        )
        _write(ctx, job, made)
    for request_id in ctx.tx.all(int, "requests_orphaned"):
        _end(ctx, request_id, "its job was deleted")
    _forget(ctx)


def want_hosts(ctx: Context, hosts: Sequence[str]) -> None:
    """Have one request for each host of a standing engine, and none for others."""
    wanted = set(hosts)
    for row in _requests(ctx)[None]:
        place = msgspec.json.decode(row.ask, type=Ask).place
        if place in wanted and row.ending is None:
            wanted.discard(place)
        elif row.ending is None:
            _end(ctx, row.id, "its host is not listed any more")
    after = ctx.now - round(ctx.settings.engine_retry_seconds * MICROSECONDS)
    tried = {
        msgspec.json.decode(ask, type=Ask).place
        for ask in ctx.tx.all(str, "hosts_tried", after=after)
    }
    for host in sorted(wanted - tried):
        _add(ctx, None, host, Ask(place=host))


def refuse_impossible(ctx: Context, runtime_constraints: str) -> None:
    """Raise `Invalid` when neither the engine nor nodes that are there can ever run a job (R30)."""
    job = shapes.job_constraints(runtime_constraints)
    _refuse_needs(ctx, job.min_nodes or 1, shapes.needs_of_job(runtime_constraints))


def refuse_impossible_task(ctx: Context, job: Constraints, own: Constraints) -> None:
    """Raise `Invalid` when the same holds for a job's task of these constraints (R30)."""
    needs = needs_of(job, own)
    _refuse_needs(ctx, needs.nodes, needs)


def _refuse_needs(ctx: Context, wanted: int, needs: Needs) -> None:
    offer = ctx.world.offer
    reason = refusal(ctx.world.engine, offer.limits, wanted, needs) if offer else ""
    if not reason:
        return
    able = [one for one in fleet.alike_nodes(ctx) if is_large_enough(one.size, needs)]
    if sum(one.number for one in able) < wanted:
        raise Invalid(reason)


def _requests(ctx: Context) -> Mapping[int | None, list[RequestRow]]:
    found: dict[int | None, list[RequestRow]] = defaultdict(list)
    for row in ctx.tx.all(RequestRow, "requests_open"):
        found[row.job_id].append(row)
    return found


def _nodes(ctx: Context) -> Mapping[int, list[GrantedNode]]:
    found: dict[int, list[GrantedNode]] = defaultdict(list)
    for node in ctx.tx.all(GrantedNode, "nodes_granted", now=ctx.now):
        found[node.job_id].append(node)
    return found


def _own_node(node: GrantedNode) -> OwnNode:
    return OwnNode(
        node.id,
        node.request_id,
        node.place,
        NodeSize(node.id, node.memory_kib, node.cores, node.scratch_mb),
        node.slots,
        bool(node.is_live),
        bool(node.takes_work),
        node.leaving > 0,
        node.occupants,
        node.idle_since,
        node.lost_at,
    )


def _own_request(row: RequestRow) -> OwnRequest:
    return OwnRequest(
        row.id,
        RequestState(row.state),
        msgspec.json.decode(row.ask, type=Ask),
        row.created_at,
        row.granted_at,
        row.ends_at,
        msgspec.json.decode(row.places, type=list[str]),
        row.joined,
    )


def _work(ctx: Context, job: JobRow) -> JobWork:
    constraints = shapes.job_constraints(job.runtime_constraints)
    state = JobState(job.state)
    failed = ctx.tx.one(Failures, "requests_failed", job_id=job.id) or Failures(0, None, None)
    demands: dict[str, int] = defaultdict(int)
    if state is JobState.RUNNING:
        for needs, tasks in ctx.tx.all(_pair, "demand_of_job", job_id=job.id):
            demands[needs] += tasks
    return JobWork(
        state.is_final,
        state is JobState.RUNNING,
        constraints.min_nodes or 1,
        constraints.max_nodes or 0,
        shapes.needs_of_job(job.runtime_constraints),
        [Demand(shapes.decode_needs(needs), tasks) for needs, tasks in demands.items()],
        job.live,
        failed.number,
        failed.last_at or 0,
    )


def _pair(needs: str, tasks: int) -> tuple[str, int]:
    return needs, tasks


def _write(ctx: Context, job: JobRow, made: Plan) -> None:
    for request_id, reason in made.cancel:
        _end(ctx, request_id, reason)
    for node_id, reason in made.drain:
        if ctx.tx.run("node_give_back", node_id=node_id, reason=reason, now=ctx.now):
            events.node_changed(ctx, node_id, "draining")
            fleet.fewer_nodes(ctx, job.id)
    for node_id in made.release:
        if ctx.tx.run("node_send_away", node_id=node_id, now=ctx.now):
            ctx.wake.update({"nodes", "engine"})
    if made.ask is not None:
        _add(ctx, job.id, job.uuid, made.ask)


def _add(ctx: Context, job_id: int | None, what: str, ask: Ask) -> None:
    number = int(ctx.tx.value("request_last_id") or 0) + 1
    ctx.tx.add(
        "request_add",
        name=NAME.format(what=what, number=number),
        engine=ctx.world.engine,
        job_id=job_id,
        ask=msgspec.json.encode(ask).decode(),
        now=ctx.now,
    )
    ctx.wake.add("engine")


def _end(ctx: Context, request_id: int, reason: str) -> None:
    if ctx.tx.run("request_end", request_id=request_id, reason=reason, now=ctx.now):
        ctx.wake.add("engine")


def _forget(ctx: Context) -> None:
    """Forget nodes that were given back or whose job is over, and requests of long ago."""
    lost_before = ctx.now - round(ctx.settings.engine_avoid_seconds * MICROSECONDS)
    ctx.tx.run("nodes_forgotten", now=ctx.now, lost_before=lost_before)
    before = ctx.now - round(KEPT_SECONDS * MICROSECONDS)
    ctx.tx.run("requests_sweep", before=before, limit=SWEPT)


# Agents that join


def admit(ctx: Context, name: str) -> Known | None:
    """Return the request by which an agent joins; None when it is over, and the agent is to go."""
    found = ctx.tx.one(Known, "request_by_name", name=name)
    if found is None or found.ending is not None or found.state == RequestState.OVER:
        return None
    return found


def bind(ctx: Context, request: Known, node_id: int, place: str, *, is_new: bool) -> None:
    """Note that a node has joined by a request; it serves the request's job only (R18)."""
    values = {"job_id": request.job_id, "request_id": request.id, "place": place}
    ctx.tx.run("node_bind", node_id=node_id, **values)
    ctx.tx.run("request_joined", request_id=request.id, new=int(is_new), now=ctx.now)
    ctx.wake.add("engine")


# What the engine was told, and what it says


def open_requests(ctx: Context) -> list[RequestRow]:
    """Return the requests that are not over."""
    return ctx.tx.all(RequestRow, "requests_open")


def asked(ctx: Context) -> Asked:
    """Return what became of all requests together, for administrators."""
    counts = dict(ctx.tx.all(InState, "requests_by_state"))
    after = ctx.now - round(FAILURES_SECONDS * MICROSECONDS)
    return Asked(
        {state.value: counts.get(state, 0) for state in RequestState if state != RequestState.OVER},
        ctx.tx.all(Failure, "requests_failed_lately", after=after, limit=FAILURES_MAX),
    )


def leaving_places(ctx: Context) -> dict[int, list[str]]:
    """Return, by request, the nodes whose agents have gone and that can be given back."""
    found: dict[int, list[str]] = defaultdict(list)
    for request_id, place in ctx.tx.all(_placed, "places_leaving"):
        found[request_id].append(place)
    return found


def _placed(request_id: int, place: str) -> tuple[int, str]:
    return request_id, place


def begin(ctx: Context, request_id: int) -> bool:
    """Note that the engine is about to be asked; False: it is not to be asked any more."""
    return bool(ctx.tx.run("request_begin", request_id=request_id, now=ctx.now))


def note_asked(ctx: Context, request_id: int, engine_id: str) -> None:
    """Note that the engine has taken a request."""
    if not ctx.tx.run("request_asked", request_id=request_id, engine_id=engine_id):
        ctx.tx.run("request_named", request_id=request_id, engine_id=engine_id)


def note_over(ctx: Context, request_id: int, reason: str) -> None:
    """Note that the engine holds nothing of a request: it refused it, ended it or forgot it."""
    short = reason[:REASON_CHARACTERS_MAX]
    if ctx.tx.run("request_over", request_id=request_id, reason=short, now=ctx.now):
        ctx.wake.add("manager")


def ask_again(ctx: Context, request_id: int) -> None:
    """Note that the engine knows nothing of a request that was made without a clear outcome."""
    if not ctx.tx.run("request_again", request_id=request_id):
        # It is to end, and there is nothing to end.
        note_over(ctx, request_id, VANISHED)


def note_seen(ctx: Context, request_id: int, sighting: Sighting) -> None:
    """Note what the engine shows of a request."""
    if sighting.state is RequestState.OVER:
        note_over(ctx, request_id, sighting.reason or sighting.word)
        return
    ctx.tx.run(
        "request_seen",
        request_id=request_id,
        state=sighting.state.value,
        engine_id=sighting.engine_id,
        word=sighting.word,
        reason=sighting.reason[:REASON_CHARACTERS_MAX],
        places=msgspec.json.encode(sighting.places).decode(),
        ends_at=sighting.ends_at,
        now=ctx.now,
    )


# What people are told


class ToldRow(NamedTuple):
    """A request as people are told of it."""

    engine: str
    name: str
    state: str
    engine_id: str | None
    word: str | None
    reason: str | None
    ending: str | None
    created_at: int


def told(ctx: Context, job_id: int) -> list[EngineRequest]:
    """Return what an engine was asked for a job and has not granted, and why not (R31)."""
    if ctx.world.offer is None:
        return []
    rows = ctx.tx.all(ToldRow, "requests_of_job", job_id=job_id)
    found = [
        EngineRequest(row.engine, row.engine_id or row.name, _words(row), row.created_at)
        for row in rows
        if row.state != RequestState.GRANTED and row.ending is None
    ]
    if rows:
        return found
    failed = ctx.tx.one(Failures, "requests_failed", job_id=job_id)
    if failed is None or not failed.number or failed.last_at is None:
        return found
    words = f"refused or ended {failed.number} times, lastly: {failed.reason}"
    return [EngineRequest(ctx.world.engine, "of the last try", words, failed.last_at)]


def _words(row: ToldRow) -> str:
    if row.state == RequestState.WANTED:
        return "about to be asked for"
    if row.state == RequestState.UNKNOWN:
        return "unknown: it gave no clear answer"
    return row.reason or row.word or row.state
