"""The manager: one function of guarded statements, run again and again by who holds the term."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from jobtasks.core.errors import Unavailable
from jobtasks.protocol.messages import Ended, EndKind
from jobtasks.service import (
    arrivals,
    ends,
    engines,
    events,
    gangs,
    jobs,
    node_history,
    nodes,
    repeats,
)
from jobtasks.service.context import Context
from jobtasks.service.ledger import Ledger

MICROSECONDS = 1_000_000
RIPEN_MAX = 1000
"""Delays that one tick finds to be over."""


class LostManager(Unavailable):
    """Another manager has taken over: this one must not write any more."""


class Standing(NamedTuple):
    """Who manages, as the database has it."""

    term: int
    holder: str
    held_until: int
    """Changes whenever the manager renews; 0: it has given way."""


class ExpiredAgent(NamedTuple):
    """An agent that was not heard for a whole lease."""

    id: int
    node_id: int


class RipeTask(NamedTuple):
    """A task whose delay is over."""

    task_id: int
    job_id: int
    sequence: int
    shape_id: int


class LostAttempt(NamedTuple):
    """An attempt that no agent names, with its node."""

    id: int
    node_id: int


def take_over(ctx: Context, holder: str) -> int:
    """Become the manager; return the term, which is higher than any before."""
    return int(ctx.tx.value("manager_take", holder=holder, held_until=ctx.lease_until))


def stand_by(ctx: Context, holder: str, silent: Standing | None) -> int | Standing:
    """Become the manager if none is at work; return the term, else who is.

    One is not when it gave way, when it was this server itself in an earlier life, or when it is
    still where `silent` has it, which was looked at so long ago that it must have renewed since.
    No clock of one machine is compared with that of another.
    """
    standing = ctx.tx.one(Standing, "manager_standing")
    is_free = standing is None or not standing.held_until or standing.holder == holder
    if standing is None or is_free or standing == silent:
        return take_over(ctx, holder)
    return standing


def give_way(ctx: Context, term: int) -> None:
    """Let another be the manager at once, unless one is already."""
    if ctx.tx.run("manager_yield", term=term):
        ctx.wake.add("manager")


def tick(ctx: Context, term: int, *, gap: bool = False) -> int | None:
    """Expire leases and holds, let delays ripen, start jobs, sweep; return µs until more is due.

    `gap` says that renewals could not be taken for a while (core/leases.py): every lease is given
    anew first (R33). None: nothing is due by itself.

    Raises:
        LostManager: a higher term exists; nothing was done.
    """
    if not ctx.tx.run("manager_renew", term=term, held_until=ctx.lease_until):
        raise LostManager
    if gap:
        ctx.tx.run("agents_spare", lease_until=ctx.lease_until)
        ctx.tx.run("attempts_spare", now=ctx.now)
        shorten_delays(ctx)
    expire(ctx)
    release(ctx)
    more = ripen(ctx) == RIPEN_MAX
    more = jobs.start_queued(ctx) or more
    gangs.give_up(ctx)
    node_history.note(ctx)
    engines.arrange(ctx)
    more = sweep(ctx) or more
    return 0 if more else _next_due(ctx)


def shorten_delays(ctx: Context) -> None:
    """Let nothing wait longer than it ever may, after the wall clock was set back.

    Delays, avoided nodes, holds of the manager, jobs that are overtaken (R12, R15, R16, R18). An
    administrator's hold is until the time that it names.
    """
    settings = ctx.settings
    longest_seconds = settings.delay_seconds_max * (1 + settings.delay_jitter)
    latest = ctx.now + round(longest_seconds * MICROSECONDS)
    ctx.tx.run("requeue_sooner", latest=latest)
    latest += round(settings.avoid_seconds * MICROSECONDS)
    ctx.tx.run("requeue_avoid_less", latest=latest)
    ctx.tx.run("nodes_hold_less", now=ctx.now)
    ctx.tx.run("start_waits_since", now=ctx.now)


def expire(ctx: Context) -> None:
    """End what ran under leases that ran out (R35)."""
    for agent in ctx.tx.all(ExpiredAgent, "agents_expired", now=ctx.now):
        reason = f"its node was not heard for {ctx.settings.lease_seconds:g} s"
        nodes.lose_agent(ctx, agent.id, agent.node_id, EndKind.AGENT_LOST, reason)
        ctx.tx.run("node_lost", node_id=agent.node_id, now=ctx.now)
    before = ctx.now - round(ctx.settings.lease_seconds * MICROSECONDS)
    ledger = Ledger(ctx)
    for attempt in ctx.tx.all(LostAttempt, "attempts_lost", before=before):
        lost = Ended(attempt.id, EndKind.AGENT_LOST, reason="its agent did not name it any more")
        ends.record_end(ctx, ledger, lost, attempt.node_id)
    ledger.flush()


def release(ctx: Context) -> None:
    """Let nodes take work again whose hold has passed, at once: their syncs wait (R16)."""
    if ctx.tx.run("nodes_release", now=ctx.now):
        ctx.wake.add("nodes")


def ripen(ctx: Context) -> int:
    """Make the tasks ready whose delay is over; return how many (R15)."""
    ripe = ctx.tx.all(RipeTask, "requeue_ripe", now=ctx.now, limit=RIPEN_MAX)
    ctx.tx.run_many("requeue_ripen", [{"task_id": task.task_id} for task in ripe])
    ledger = Ledger(ctx)
    for task in ripe:
        ledger.make_ready(task.job_id, task.sequence, task.shape_id)
    ledger.flush()
    return len(ripe)


def sweep(ctx: Context) -> bool:
    """Remove a slice of the rows of children that are gone; return whether there is more (R4)."""
    before = ctx.now - round(ctx.settings.idempotency_seconds * MICROSECONDS)
    ctx.tx.run("idempotency_sweep", before=before, limit=ctx.settings.sweep_rows)
    repeats.sweep(ctx)
    events.sweep(ctx)
    arrivals.forget(ctx)
    batch_id = ctx.tx.value("batch_dead")
    if batch_id is None:
        return False
    limit = ctx.settings.sweep_rows
    found = ctx.tx.all(int, "batch_dead_tasks", batch_id=batch_id, limit=limit)
    task_ids = msgspec.json.encode(found).decode()
    for query in ("tails_sweep", "seats_sweep", "attempts_sweep", "requeue_sweep", "tasks_sweep"):
        ctx.tx.run(query, task_ids=task_ids)
    if len(found) < limit:
        ctx.tx.run("batch_delete", batch_id=batch_id)
    return True


def _next_due(ctx: Context) -> int | None:
    found = (ctx.tx.value("requeue_next"), ctx.tx.value("nodes_held_next"))
    return min((max(0, int(at) - ctx.now) for at in found if at is not None), default=None)
