"""Agents join and sync: ends recorded, leases renewed, free slots filled, in one transaction."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import leases
from jobtasks.core.constraints import Needs
from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import attempt_token
from jobtasks.core.log_room import log_bytes_allowed
from jobtasks.core.placement import NodeSize
from jobtasks.core.states import AttemptState
from jobtasks.protocol import messages
from jobtasks.protocol.messages import (
    Assignment,
    Ended,
    EndKind,
    JobBrief,
    Join,
    Joined,
    LogChunks,
    Orders,
    Stop,
    Sync,
)
from jobtasks.service import access, ends, engines, events, fleet, gangs, shapes
from jobtasks.service.claim import claim
from jobtasks.service.context import Caller, Context
from jobtasks.service.fleet import TakenSlot
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import AttemptRecord

MICROSECONDS = 1_000_000
PLACES_MAX = 33
"""So many attempts may a slot have, whatever its agent says."""
LOOK_FOR_OVER = 16
"""Of the syncs that start something one in so many looks which jobs are over: there is time."""
SENT_AWAY = 2
"""Stands in `leaving` of a node whose agent is to go."""
NOT_STARTED = "its agent did not start it: it was too late, or no process could be started then"


class KnownNode(NamedTuple):
    """A node that has joined before."""

    id: int
    agent_id: int | None
    request_id: int | None
    """By which it was granted last."""


class ServedNode(NamedTuple):
    """The node that an agent serves."""

    id: int
    hostname: str
    slots: int
    memory_kib: int
    cores: int
    scratch_mb: int
    draining: int
    held_until: int | None
    held_seconds: float
    """Above 0: the manager held it, and no task has completed there since (R16)."""
    kept_job_id: int | None
    """The job for whose start it takes nothing new (R18)."""
    job_id: int | None
    """The only job that it serves (R18)."""
    leaving: int
    """2: it was given back to its engine, and its agent is to go."""
    sync_number: int
    live: int


class AssignmentRow(NamedTuple):
    """What an assignment says, as stored."""

    attempt: int
    job_id: int
    job_uuid: str
    task_uuid: str
    number: int
    sequence: int
    qsequence: int
    slot: int
    assigned_at: int
    parameters: str
    command: str | None
    memory_kib: int
    needs: str
    job_log_bytes: int
    script_hash: str | None
    script_remark: str | None


class BriefRow(NamedTuple):
    """A job as its brief tells it."""

    uuid: str
    script: str | None
    script_version: str | None
    command: str | None
    script_parameters: str


def join(ctx: Context, caller: Caller, message: Join) -> Joined:
    """Let an agent in; what its predecessor ran and it does not name has ended (cause: agent lost).

    That it holds the node's lock is positive evidence (R35).
    """
    access.require_agent(caller)
    if message.version != messages.VERSION:
        raise Invalid(f"This server speaks version {messages.VERSION}, not {message.version}.")
    request = engines.admit(ctx, message.request) if message.request else None
    if message.request and request is None:
        return _joined(ctx, 0, [], leave=True)
    known = ctx.tx.one(KnownNode, "node_by_lasting_id", lasting_id=message.node)
    node_id = known.id if known else _add_node(ctx, message)
    ctx.tx.run("node_come_back", node_id=node_id)
    ctx.tx.run("agents_of_node_end", node_id=node_id, now=ctx.now)
    agent_id = ctx.tx.add(
        "agent_add",
        node_id=node_id,
        incarnation=message.incarnation,
        lease_until=ctx.lease_until,
        now=ctx.now,
    )
    ctx.tx.run("node_update", node_id=node_id, agent_id=agent_id, now=ctx.now, **_size_of(message))
    if request is not None:
        is_new = known is None or known.request_id != request.id
        engines.bind(ctx, request, node_id, message.place, is_new=is_new)
    _settle_predecessor(ctx, node_id, agent_id, message)
    events.node_changed(ctx, node_id, "joined")
    ctx.wake.update({"manager", "nodes"})
    return _joined(ctx, agent_id, [ended.attempt for ended in message.ended])


def _add_node(ctx: Context, message: Join) -> int:
    return ctx.tx.add(
        "node_add",
        uuid=ctx.world.uuids.make("node", ctx.now),
        lasting_id=message.node,
        engine=ctx.world.engine,
        now=ctx.now,
        **_size_of(message),
    )


def _size_of(message: Join) -> dict[str, Any]:
    return {
        "hostname": message.hostname,
        "slots": message.slots,
        "memory_kib": message.memory_kib,
        "cores": message.cores,
        "scratch_mb": message.scratch_mb,
    }


def _settle_predecessor(ctx: Context, node_id: int, agent_id: int, message: Join) -> None:
    ledger = Ledger(ctx)
    ends.record_ends(ctx, ledger, message.ended, node_id)
    going_on = {alive.attempt for alive in message.running}
    for attempt_id in ctx.tx.all(int, "attempts_live_on_node", node_id=node_id):
        if attempt_id not in going_on:
            lost = Ended(attempt_id, EndKind.AGENT_LOST, reason="the agent was restarted")
            ends.record_end(ctx, ledger, lost, node_id)
    ctx.tx.run("attempts_hand_over", node_id=node_id, agent_id=agent_id)
    ledger.flush()


def _joined(ctx: Context, agent_id: int, acknowledged: list[int], *, leave: bool = False) -> Joined:
    settings = ctx.settings
    return Joined(
        agent=agent_id,
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.renew_seconds,
        patience_seconds=settings.patience_seconds,
        grace_seconds=settings.grace_seconds,
        freeze_seconds=leases.freeze_seconds(settings),
        log_bytes_max=settings.log_bytes_max,
        acknowledged=acknowledged,
        leave=leave,
    )


def sync(ctx: Context, caller: Caller, message: Sync) -> Orders:
    """Record ends, renew leases, fill free slots; return what to start and stop (R33, R35)."""
    access.require_agent(caller)
    node = ctx.tx.one(ServedNode, "node_of_agent", agent_id=message.agent)
    if node is None or not node.live:
        return Orders(message.number, rejoin=True)
    if not ctx.tx.run(
        "agent_renew",
        agent_id=message.agent,
        number=message.number,
        lease_until=ctx.lease_until,
        now=ctx.now,
    ):
        return Orders(message.number, stale=True)
    ctx.measured.append(("lease_renewals", "", 1))
    acknowledged = [*(ended.attempt for ended in message.ended), *message.refused, *message.unknown]
    ledger = Ledger(ctx)
    if acknowledged:
        node = _record_ends(ctx, ledger, node, message)
        if node.kept_job_id is not None:
            ctx.wake.add("manager")
    if message.leaving:
        ledger.flush()
        lose_agent(ctx, message.agent, node.id, EndKind.AGENT_LOST, "the agent has gone")
        return Orders(message.number, renewed=True, acknowledged=acknowledged)
    orders = _orders(ctx, ledger, node, message)
    orders.acknowledged = acknowledged
    orders.renewed = True
    return orders


def poll(ctx: Context, caller: Caller, message: Sync) -> Orders:
    """Look again for a sync that waits at the server: fill slots, find what to stop.

    Nothing is recorded and no lease renewed; a sync that is no longer the newest is stale.
    """
    access.require_agent(caller)
    node = ctx.tx.one(ServedNode, "node_of_agent", agent_id=message.agent)
    if node is None or not node.live:
        return Orders(message.number, rejoin=True)
    if node.sync_number != message.number:
        return Orders(message.number, stale=True)
    orders = _orders(ctx, Ledger(ctx), node, message)
    orders.renewed = True
    return orders


def _record_ends(ctx: Context, ledger: Ledger, node: ServedNode, message: Sync) -> ServedNode:
    """Record what the agent says has ended; return its node as that leaves it.

    Counters may be left to be written with those of what starts.
    """
    all_completed = ends.record_ends(ctx, ledger, _ends_of(message), node.id)
    if all_completed and not node.held_seconds:
        return node
    ledger.flush()
    # What has just ended may have held its node, or have ended the hold (R16).
    return ctx.tx.one(ServedNode, "node_of_agent", agent_id=message.agent) or node


def _ends_of(message: Sync) -> list[Ended]:
    """Return what has ended, and in what is not to be waited for any more."""
    refused = [Ended(one, EndKind.STOPPED, reason=NOT_STARTED) for one in message.refused]
    unknown = [
        Ended(one, EndKind.AGENT_LOST, reason="its agent does not know it")
        for one in message.unknown
    ]
    return message.ended + refused + unknown


def _orders(ctx: Context, ledger: Ledger, node: ServedNode, message: Sync) -> Orders:
    taken = fleet.taken_slots(ctx, node.id)
    live = [one for one in taken if one.is_first]
    _note_running(ctx, live, message)
    named = {alive.attempt for alive in message.running}.union(message.held)
    to_start = any(a.state == AttemptState.ASSIGNED and a.id not in named for a in live)
    free = _open_slots(ctx, node, _free_slots(node, taken, message.free_slots))
    behind = _places_behind(ctx, node, taken, free, message.places)
    if free or behind:
        size = NodeSize(node.id, node.memory_kib, node.cores, node.scratch_mb)
        began = time.perf_counter()
        is_trial = bool(node.held_seconds)
        claimed = claim(
            ctx,
            ledger,
            size,
            message.agent,
            free,
            taken,
            behind=behind,
            is_trial=is_trial,
            only_job=node.job_id,
        )
        to_start |= bool(claimed)
        ctx.measured.append(("claim_seconds", "", time.perf_counter() - began))
    ledger.flush()
    starts: list[AssignmentRow] = []
    if to_start:
        assigned = ctx.tx.all(AssignmentRow, "assignments_of_node", node_id=node.id)
        starts = [row for row in assigned if row.attempt not in named]
    return _compose(ctx, node, message, starts, live, named)


def _takes_more(ctx: Context, node: ServedNode) -> bool:
    is_held = node.held_until is not None and node.held_until > ctx.now
    return not node.draining and not is_held and node.kept_job_id is None


def _open_slots(ctx: Context, node: ServedNode, free: list[int]) -> list[int]:
    """Return the free slots that may be filled.

    None of a node that is held, draining, or kept for a job that is about to start (R18); one of a
    node on trial on which no trial task runs (R16).
    """
    if not free or not _takes_more(ctx, node):
        return []
    if not node.held_seconds:
        return free
    return [] if ctx.tx.value("canaries_live", node_id=node.id) else free[:1]


def _note_running(ctx: Context, live: list[TakenSlot], message: Sync) -> None:
    """Note which attempts the agent names; those it does not name are asked about (R35)."""
    named = {alive.attempt: alive for alive in message.running}
    held = set(message.held)
    begun: list[dict[str, int]] = []
    for attempt in live:
        alive = named.get(attempt.id)
        if alive is None and attempt.id not in held:
            if attempt.missing_since is None:
                ctx.tx.run("attempt_missing", attempt_id=attempt.id, now=ctx.now)
            continue
        if alive is not None and attempt.state == AttemptState.ASSIGNED:
            begun.append({"attempt_id": attempt.id, "now": ctx.now})
        elif attempt.missing_since is not None:
            ctx.tx.run("attempt_found", attempt_id=attempt.id)
        if alive is not None and alive.stderr_tail is not None:
            text = ends.tail_text(alive.stderr_tail, "")
            ctx.tx.run("tail_put", attempt_id=attempt.id, stderr=text)
    if begun:
        ctx.tx.run_many("attempt_running", begun)


def _free_slots(node: ServedNode, taken: list[TakenSlot], offered: list[int]) -> list[int]:
    """Return the offered slots that nothing has, within the node's size."""
    numbers = {one.slot for one in taken}
    free = sorted(slot for slot in set(offered) if 1 <= slot <= node.slots and slot not in numbers)
    return free[: max(node.slots - len(numbers), 0)]


def _places_behind(
    ctx: Context, node: ServedNode, taken: list[TakenSlot], free: list[int], places: int
) -> list[int]:
    """Return the slots behind whose attempts, or those that the `free` ones get, others may wait.

    A slot is named once for each place, all that have few before those that have more.
    """
    if places <= 1 or node.held_seconds or not _takes_more(ctx, node):
        return []
    had = Counter(one.slot for one in taken if one.slot <= node.slots)
    had.update(free)
    for one in taken:
        if not one.is_first:
            del had[one.slot]
    return [
        slot
        for place in range(1, min(places, PLACES_MAX))
        for slot in sorted(had)
        if had[slot] <= place
    ]


def _compose(
    ctx: Context,
    node: ServedNode,
    message: Sync,
    starts: list[AssignmentRow],
    live: list[TakenSlot],
    named: set[int],
) -> Orders:
    orders = Orders(message.number)
    orders.leave = node.leaving == SENT_AWAY
    orders.start = [_assignment(ctx, node, row) for row in starts]
    orders.jobs = _briefs(ctx, starts, set(message.jobs_known))
    orders.stop = _stops(live, named)
    orders.ask = [
        attempt.id
        for attempt in live
        if attempt.id not in named
        and (attempt.state != AttemptState.ASSIGNED or attempt.stop is not None)
    ]
    if message.jobs_known and (not starts or message.number % LOOK_FOR_OVER == 0):
        uuids = msgspec.json.encode(message.jobs_known).decode()
        orders.jobs_over = ctx.tx.all(str, "jobs_over", uuids=uuids)
    return orders


def _stops(live: list[TakenSlot], named: set[int]) -> list[Stop]:
    ordered = [
        Stop(attempt.id, attempt.stop)
        for attempt in live
        if attempt.stop is not None and attempt.id in named
    ]
    strangers = [
        Stop(attempt_id, "it is not on record as running", discard=True)
        for attempt_id in sorted(named - {attempt.id for attempt in live})
    ]
    return ordered + strangers


def _assignment(ctx: Context, node: ServedNode, row: AssignmentRow) -> Assignment:
    needs = shapes.decode_needs(row.needs)
    waited_seconds = (ctx.now - row.assigned_at) / MICROSECONDS
    return Assignment(
        attempt=row.attempt,
        token=attempt_token(ctx.world.token_key, row.attempt),
        job=row.job_uuid,
        task=row.task_uuid,
        number=row.number,
        sequence=row.sequence,
        qsequence=row.qsequence,
        slot=row.slot,
        start_within_seconds=max(0.0, ctx.settings.start_within_seconds - waited_seconds),
        parameters=row.parameters,
        command=shapes.decode_command(row.command),
        memory_kib=row.memory_kib,
        max_run_seconds=needs.max_run_seconds,
        exclusive=needs.exclusive,
        nodes=_hosts(ctx, node, row, needs),
        log_bytes_max=log_bytes_allowed(ctx.settings, row.job_log_bytes),
        preload=list(needs.preload),
        script_hash=row.script_hash or "",
        script_remark=row.script_remark or "",
    )


def _hosts(ctx: Context, node: ServedNode, row: AssignmentRow, needs: Needs) -> list[str]:
    """Return the hostnames of the nodes that a task has: of a gang more than one (R25)."""
    if needs.nodes == 1:
        return [node.hostname]
    return [node.hostname, *ctx.tx.all(str, "seat_hosts", attempt_id=row.attempt)]


def _briefs(ctx: Context, starts: list[AssignmentRow], known: set[str]) -> list[JobBrief]:
    wanted = {row.job_uuid: row.job_id for row in starts if row.job_uuid not in known}
    return [_brief(ctx, job_id) for job_id in wanted.values()]


def _brief(ctx: Context, job_id: int) -> JobBrief:
    row = ctx.tx.one(BriefRow, "job_brief", job_id=job_id)
    assert row is not None
    return JobBrief(
        uuid=row.uuid,
        script=row.script,
        script_version=row.script_version,
        command=shapes.decode_command(row.command),
        script_parameters=row.script_parameters,
    )


def stored_logs(ctx: Context, caller: Caller, message: LogChunks) -> list[AttemptRecord]:
    """Return the attempts of these chunks that ran on the agent's node."""
    access.require_agent(caller)
    node = ctx.tx.one(ServedNode, "node_of_agent", agent_id=message.agent)
    if node is None:
        return []
    wanted = msgspec.json.encode([chunk.attempt for chunk in message.chunks]).decode()
    return ctx.tx.all(AttemptRecord, "attempts_of_agent", attempt_ids=wanted, node_id=node.id)


def lose_agent(ctx: Context, agent_id: int, node_id: int, kind: EndKind, reason: str) -> None:
    """End an agent and every attempt that it may still run."""
    if not ctx.tx.run("agent_end", agent_id=agent_id, now=ctx.now):
        return
    fleet.fewer_nodes(ctx, node_id)
    events.node_changed(ctx, node_id, "gone")
    gangs.lose_seats(ctx, node_id)
    ledger = Ledger(ctx)
    for attempt_id in ctx.tx.all(int, "attempts_live_on_node", node_id=node_id):
        ends.record_end(ctx, ledger, Ended(attempt_id, kind, reason=reason), node_id)
    ledger.flush()
