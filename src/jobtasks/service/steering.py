"""Nodes as people see them, and as administrators steer them: hold, drain, release, delete."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from jobtasks.core import resources
from jobtasks.core.errors import Invalid
from jobtasks.core.states import UNTIL_RELEASED
from jobtasks.service import access, events, fleet
from jobtasks.service.context import MICROSECONDS, Caller, Context
from jobtasks.store.records import NodeRecord, OccupyingRecord

REASON = dataclasses.replace(resources.RESOURCES["nodes"].attributes["held_reason"], name="reason")
HOLD_SECONDS_MAX = 366 * 86400
"""The longest hold that has an end; without one it may last for ever."""


def show(ctx: Context, caller: Caller, uuid: str) -> NodeRecord:
    """Return a node.

    Raises:
        NotFound: there is none, it was deleted, or the caller is an attempt or an agent.
    """
    return access.visible_node(ctx, caller, uuid)


def attempts(ctx: Context, caller: Caller, uuid: str) -> list[OccupyingRecord]:
    """Return the attempts that may have a process on a node, by slot.

    A user is told of those of his own jobs; the node's `attempts_live` counts all.
    """
    node = access.visible_node(ctx, caller, uuid)
    found = ctx.tx.all(OccupyingRecord, "occupying_attempts", node_id=node.id)
    return [one for one in found if caller.is_admin or one.owner_uuid == caller.user_uuid]


def hold(
    ctx: Context, caller: Caller, uuid: str, seconds: Any = None, reason: Any = None
) -> NodeRecord:
    """Start nothing new on a node for so many `seconds`, or until it is released.

    What runs goes on. A node that is held already is held anew; the last node may be held, too.

    Raises:
        Forbidden: the caller is no administrator.
        Invalid: `seconds` is not above 0 and within `HOLD_SECONDS_MAX`; `reason` is no short text.
    """
    node = access.steered_node(ctx, caller, uuid, "hold")
    ctx.tx.run(
        "node_hold",
        node_id=node.id,
        held_until=_end_of_hold(ctx, seconds),
        reason=_reason(reason),
        changed_by=caller.user_uuid,
        now=ctx.now,
    )
    events.node_changed(ctx, node.id, "held")
    return _less_room(ctx, caller, node)


def drain(ctx: Context, caller: Caller, uuid: str, reason: Any = None) -> NodeRecord:
    """Start nothing new on a node until it is released; its agent may then be ended in peace.

    It stays so when its agent or the server begins anew.

    Raises:
        Forbidden: the caller is no administrator.
        Invalid: `reason` is no short text.
    """
    node = access.steered_node(ctx, caller, uuid, "drain")
    ctx.tx.run(
        "node_drain",
        node_id=node.id,
        reason=_reason(reason),
        changed_by=caller.user_uuid,
        now=ctx.now,
    )
    events.node_changed(ctx, node.id, "draining")
    return _less_room(ctx, caller, node)


def _less_room(ctx: Context, caller: Caller, node: NodeRecord) -> NodeRecord:
    """Return a node that takes no more work; the manager is to know when that ends."""
    fleet.fewer_nodes(ctx, node.id)
    ctx.wake.add("manager")
    return show(ctx, caller, node.uuid)


def release(ctx: Context, caller: Caller, uuid: str) -> NodeRecord:
    """End hold and draining of a node, now; without either nothing changes.

    Raises:
        Forbidden: the caller is no administrator.
    """
    node = access.steered_node(ctx, caller, uuid, "release")
    if ctx.tx.run("node_release", node_id=node.id, changed_by=caller.user_uuid, now=ctx.now):
        events.node_changed(ctx, node.id, "released")
        ctx.wake.update({"manager", "nodes"})
    return show(ctx, caller, uuid)


def delete(ctx: Context, caller: Caller, uuid: str) -> NodeRecord:
    """Delete a node that is gone for good; return it as it was.

    Attempts keep its name. When an agent of it joins again, the node is there again.

    Raises:
        Forbidden: the caller is no administrator.
        Invalid: its agent is live.
    """
    node = access.steered_node(ctx, caller, uuid, "delete")
    if not ctx.tx.run("node_delete", node_id=node.id, changed_by=caller.user_uuid, now=ctx.now):
        raise Invalid(f"{node.hostname} is there: only a node whose agent is gone can be deleted.")
    return node


def _end_of_hold(ctx: Context, seconds: Any) -> int:
    if seconds is None or seconds == "":
        return UNTIL_RELEASED
    number = _number(seconds)
    if not 0 < number <= HOLD_SECONDS_MAX:
        raise Invalid(
            f"seconds must be a number above 0, at most {HOLD_SECONDS_MAX}; without it the node is"
            " held until it is released"
        )
    return ctx.now + math.ceil(number * MICROSECONDS)


def _number(value: Any) -> float:
    """Return a number, or what a form's field spells; not a number when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _reason(value: Any) -> str | None:
    """Return why, as its column holds it; an empty reason is none."""
    text = resources.coerce(REASON, value)
    return " ".join(text.split()) or None if text else None
