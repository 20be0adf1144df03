"""Whose turn it is when a slot is free, and which nodes a gang takes (R18, R25, R26)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import NamedTuple

from jobtasks.core.constraints import Needs


class Turn(NamedTuple):
    """A job's place among those that want a slot; the least goes first (R18)."""

    below: int
    """How far its priority is below 0: a higher priority goes first."""
    owner_slots: int
    """Slots that the jobs of its user have."""
    job_slots: int
    """Slots that it has itself."""
    job_id: int
    """Its age."""


def gang_nodes(
    first: int, others: Sequence[int], needs: Needs, job_nodes: Set[int]
) -> list[int] | None:
    """Return the nodes that a gang takes, `first` first; None when these are too few (R25).

    `others` have room for it, in the order in which they are preferred. Where max_nodes bounds the
    job, nodes that have tasks of it, `job_nodes`, go before (R26).
    """
    candidates = [node for node in others if node != first]
    if needs.max_nodes:
        candidates.sort(key=lambda node: node not in job_nodes)
    chosen = [first, *candidates[: needs.nodes - 1]]
    if len(chosen) < needs.nodes:
        return None
    if needs.max_nodes and len(job_nodes | set(chosen)) > needs.max_nodes:
        return None
    return chosen


def may_gather(fitting: int, needs: Needs) -> bool:
    """Return whether a gang may have nodes keep slots for it: `fitting` of them would do (R25)."""
    return fitting >= needs.nodes


def keeps_nodes(
    fitting: int, min_nodes: int, waited_seconds: float, patience_seconds: float
) -> bool:
    """Return whether nodes take nothing new until a job that waits for several has started (R18).

    Not when fewer than it asks for are there: they would wait for nothing.
    """
    return waited_seconds >= patience_seconds and fitting >= min_nodes
