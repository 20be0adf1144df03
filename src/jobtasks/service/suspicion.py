"""Nodes that spoil what runs on them: suspected, held, tried out with one task, trusted (R16).

The rule is core/suspicion.py. A node's standing is read when something fails there; a success costs
one statement per job and call, whatever ended.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from jobtasks.core import retry, suspicion
from jobtasks.core.retry import Cause, Spent
from jobtasks.core.suspicion import Loss, Standing
from jobtasks.service import fleet, shapes
from jobtasks.service.context import MICROSECONDS, Context
from jobtasks.service.ledger import Ledger

MARK = "held against the node, not the task"
"""Ends the reason of a failure that uses no budget."""
REASON_CHARACTERS_MAX = 255
"""What the column of a reason holds."""


class Failed(NamedTuple):
    """A temporary failure, as it is about to be recorded."""

    attempt_id: int
    job_id: int
    node_id: int
    is_canary: bool
    cause: Cause
    reason: str


class StandingRow(NamedTuple):
    """A node's standing as stored."""

    slots: int
    losing_streak: str
    losing_witnessed: int
    held_seconds: float
    job_id: int | None
    """The only job that it serves."""


class CountedLoss(NamedTuple):
    """An earlier failure of a streak, which used a budget of its task."""

    attempt_id: int
    cause: str
    task_id: int
    spent: str | None


def note_success(
    ctx: Context, ledger: Ledger, node_id: int, job_id: int, *, is_canary: bool
) -> None:
    """Note that a task completed on a node: its streak ends, and after its trial so does the hold.

    Streaks of the same job on other nodes are witnessed.
    """
    if is_canary:
        fleet.trust(ctx, node_id)
    if (node_id, job_id) not in ledger.successes:
        ledger.successes.add((node_id, job_id))
        ctx.tx.run("nodes_succeed", node_id=node_id, job_id=job_id)


def note_failure(ctx: Context, ledger: Ledger, failed: Failed) -> bool:
    """Note a temporary failure; return whether it is the node's doing, and no budget is to be used.

    It is the last failure that makes the node suspected, one on a node that is suspected already,
    or its trial task's. The last node that takes work is never held.
    """
    if failed.cause not in suspicion.TELLING:
        return False
    row = ctx.tx.one(StandingRow, "node_standing", node_id=failed.node_id)
    assert row is not None
    ledger.successes = {one for one in ledger.successes if one[0] != failed.node_id}
    is_needed = not fleet.count_trusted(ctx, row.job_id, without=[failed.node_id])
    if row.held_seconds and not is_needed:
        if failed.is_canary:
            _hold(ctx, failed, row, f"the task that tried it out failed too: {failed.reason}")
        return True
    if row.held_seconds:
        fleet.trust(ctx, failed.node_id)
    return _lengthen(ctx, failed, row, is_needed)


def _lengthen(ctx: Context, failed: Failed, row: StandingRow, is_needed: bool) -> bool:
    """Add a failure to its node's streak; hold the node when that makes it suspected."""
    standing = Standing(_streak(row), bool(row.losing_witnessed))
    loss = Loss(failed.attempt_id, failed.job_id)
    standing = suspicion.after_loss(standing, loss, row.slots, ctx.settings)
    if suspicion.is_suspected(standing, row.slots, ctx.settings) and not is_needed:
        earlier = [one.attempt for one in standing.streak if one != loss]
        _excuse(ctx, failed.node_id, earlier)
        number = len(standing.streak)
        _hold(ctx, failed, row, f"{number} attempts in a row failed there, lastly: {failed.reason}")
        return True
    ctx.tx.run(
        "node_lose",
        node_id=failed.node_id,
        streak=json.dumps(standing.streak),
        only_job=standing.only_job,
        is_witnessed=standing.is_witnessed,
    )
    return False


def _streak(row: StandingRow) -> tuple[Loss, ...]:
    return tuple(Loss(*pair) for pair in json.loads(row.losing_streak))


def _hold(ctx: Context, failed: Failed, row: StandingRow, reason: str) -> None:
    seconds = suspicion.hold_seconds(row.held_seconds, ctx.settings)
    ctx.tx.run(
        "node_suspect",
        node_id=failed.node_id,
        seconds=seconds,
        held_until=ctx.now + round(seconds * MICROSECONDS),
        reason=reason[:REASON_CHARACTERS_MAX],
        now=ctx.now,
    )
    fleet.stop_avoiding(ctx, row.job_id)
    ctx.wake.add("manager")


def _excuse(ctx: Context, node_id: int, attempt_ids: Sequence[int]) -> None:
    """Give tasks back the budgets that they used by the earlier failures of a streak."""
    spent: dict[int, Spent] = {}
    wanted = json.dumps(attempt_ids)
    for loss in ctx.tx.all(CountedLoss, "losses_counted", attempt_ids=wanted):
        ctx.tx.run("attempt_excuse", attempt_id=loss.attempt_id, mark=MARK)
        if loss.spent is not None:
            before = spent.get(loss.task_id) or msgspec.json.decode(loss.spent, type=Spent)
            spent[loss.task_id] = retry.excuse(Cause(loss.cause), before, node_id)
    for task_id, left in spent.items():
        ctx.tx.run("task_excuse", task_id=task_id, spent=shapes.encode(left))
