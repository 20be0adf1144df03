"""How much of each node was taken in the last day, noted by the manager about each minute."""

from __future__ import annotations

import json
from collections.abc import Iterable

from jobtasks.service import access
from jobtasks.service.context import MICROSECONDS, Caller, Context
from jobtasks.store.records import NodeUseRecord

POINTS_MAX = 500
"""Of one node in an answer."""
POINTS_OF_MANY = 120
"""Of each of several nodes."""


def note(ctx: Context) -> None:
    """Note how much of each node is taken, if it is time to; one statement for all nodes.

    A node has a row when that has changed since its row before. One whose agent is not heard has
    nothing.
    """
    settings = ctx.settings
    before = ctx.now - round(settings.node_history_seconds * MICROSECONDS)
    if not ctx.tx.run("history_due", now=ctx.now, before=before):
        return
    ctx.tx.run("history_note", now=ctx.now)
    kept_us = round(settings.retain_node_history_seconds * MICROSECONDS)
    ctx.tx.run("history_forget", before=ctx.now - kept_us)


def of_node(ctx: Context, caller: Caller, uuid: str) -> list[NodeUseRecord]:
    """Return how much of a node was taken, from the oldest that is kept on; what a row says holds
    until the next, and the first may be older than what is kept otherwise.

    Raises:
        NotFound: there is no such node, or it is not the caller's to see.
    """
    node = access.visible_node(ctx, caller, uuid)
    whole = _read(ctx, [node.id], 1)[node.id]
    return whole if len(whole) <= POINTS_MAX else _of(ctx, [node.id], POINTS_MAX)[node.id]


def of_nodes(
    ctx: Context, caller: Caller, node_ids: Iterable[int], points: int = POINTS_OF_MANY
) -> dict[int, list[NodeUseRecord]]:
    """Return the same of several nodes by their ids, each in at most so many rows.

    Where there are more, the last of each step of time is told. Who sees no nodes is told nothing.
    """
    ids = list(node_ids)
    return _of(ctx, ids, points) if access.may_read_nodes(caller) else {id: [] for id in ids}


def _of(ctx: Context, node_ids: list[int], points: int) -> dict[int, list[NodeUseRecord]]:
    kept_us = round(ctx.settings.retain_node_history_seconds * MICROSECONDS)
    # Of the time that is kept two steps may be there in part, and a row before it.
    return _read(ctx, node_ids, max(1, -(-kept_us // max(1, points - 3))))


def _read(ctx: Context, node_ids: list[int], step: int) -> dict[int, list[NodeUseRecord]]:
    """Return the last row of each step of so many microseconds."""
    found: dict[int, list[NodeUseRecord]] = {id: [] for id in node_ids}
    wanted = json.dumps(node_ids)
    for row in ctx.tx.all(NodeUseRecord, "history_of_nodes", node_ids=wanted, step=step):
        found[row.node_id].append(row)
    return found
