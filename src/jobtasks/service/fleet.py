"""The nodes that take new work, and which jobs they allow to start (R18)."""

from __future__ import annotations

from typing import NamedTuple

from jobtasks.core.constraints import Needs
from jobtasks.core.placement import NodeSize, is_large_enough
from jobtasks.service.context import Context


class UsableNode(NamedTuple):
    """A node with a live agent that is neither held nor draining."""

    size: NodeSize
    free_slots: int
    free_memory_kib: int


def usable_nodes(ctx: Context) -> list[UsableNode]:
    """Return the nodes that take new work."""
    return ctx.tx.all(_usable_node, "nodes_usable", now=ctx.now)


def _usable_node(
    node_id: int,
    memory_kib: int,
    cores: int,
    scratch_mb: int,
    slots: int,
    live_attempts: int,
    reserved_kib: int,
) -> UsableNode:
    size = NodeSize(node_id, memory_kib, cores, scratch_mb)
    return UsableNode(size, slots - live_attempts, memory_kib - reserved_kib)


def stop_avoiding(ctx: Context) -> None:
    """Let no task wait for another node where only one takes work, or none (R12)."""
    if len(usable_nodes(ctx)) <= 1 and ctx.tx.run("requeue_stop_avoiding", now=ctx.now):
        ctx.wake.add("nodes")


def may_start(nodes: list[UsableNode], needs: Needs, min_nodes: int) -> bool:
    """Return whether a queued job may start (R18).

    With `min_nodes` 1: when one node is large enough, busy or not. With more: when so many fitting
    nodes have a free slot and free memory for one of its tasks at the same time.
    """
    fitting = [node for node in nodes if is_large_enough(node.size, needs)]
    if min_nodes <= 1:
        return bool(fitting)
    free = [
        node for node in fitting if node.free_slots > 0 and node.free_memory_kib >= needs.memory_kib
    ]
    return len(free) >= min_nodes
