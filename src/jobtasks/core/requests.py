"""What an engine is asked for, what it may grant, and what is seen of it: plain values.

A *request* asks an engine for nodes. The nodes of an allocating engine (Slurm) serve the one job
for which they were asked; those of a standing one (a list of hosts) serve all jobs (R18).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from jobtasks.core.constraints import Needs
from jobtasks.core.reasons import sentence

USABLE_SHARE = 0.95
"""R28: of a node's memory tasks may have all but 5 %."""
KIB_PER_MIB = 1024


class RequestState(StrEnum):
    """How far a request is, as far as the engine has said. Only OVER ends anything (R35)."""

    WANTED = "wanted"
    """Decided; the engine has not been asked."""
    UNKNOWN = "unknown"
    """The engine was asked and has not said whether it takes it: it is looked for, not repeated."""
    ASKED = "asked"
    """The engine has it in its queue."""
    GRANTED = "granted"
    """Its nodes are there; agents join."""
    OVER = "over"
    """The engine has said that it holds nothing for us any more."""


class Ask(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a request asks for: so many nodes, each of at least this size."""

    min_nodes: int = 1
    """Fewer are of no use."""
    max_nodes: int = 1
    cores: int = 1
    """Of each node; as many tasks run there at a time."""
    memory_kib: int = 0
    """What tasks may have of each node, all together; 0: whatever the engine gives."""
    scratch_mb: int = 0
    without: tuple[str, ...] = ()
    """Nodes, as the engine names them, that were lost lately."""
    place: str = ""
    """The one host that is wanted, of a standing engine."""

    @property
    def node_memory_mb(self) -> int:
        """The memory a node must have so that tasks may have `memory_kib` of it (R28); 0: any."""
        return math.ceil(self.memory_kib / USABLE_SHARE / KIB_PER_MIB)


@dataclass(frozen=True, slots=True)
class Sighting:
    """A request as its engine shows it."""

    name: str
    """The request's, by which it is known again."""
    engine_id: str
    """What the engine calls it."""
    state: RequestState
    """ASKED, GRANTED or OVER."""
    word: str = ""
    """The engine's own word for its state: ``PENDING``."""
    reason: str = ""
    """Why it waits or ended, in the engine's words: ``Resources``."""
    places: tuple[str, ...] = ()
    """The nodes that it has now, the one that carries the others first."""
    ends_at: int | None = None
    """Unix microseconds: when the engine takes them back; None: never, or not known."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of one size that an engine has."""

    number: int
    """How many of them one request may have."""
    cores: int
    memory_kib: int
    """What tasks may have of it (R28)."""
    scratch_mb: int = 0
    """0: not known."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an engine can grant at most."""

    nodes_max: int = 0
    """Nodes of one request; 0: as many as it has."""
    kinds: Sequence[NodeKind] = ()
    """(): not known."""

    def nodes_for(self, needs: Needs) -> int:
        """Return how many nodes one request can have on which such a task could run."""
        number = sum(kind.number for kind in self.kinds if _is_large_enough(kind, needs))
        return min(number, self.nodes_max) if self.nodes_max else number

    def memory_for(self, cores: int) -> int:
        """Return the most memory of a node with so many cores; 0: not known."""
        return max((kind.memory_kib for kind in self.kinds if kind.cores >= cores), default=0)


def _is_large_enough(kind: NodeKind, needs: Needs) -> bool:
    return (
        max(needs.memory_kib, needs.node_memory_kib) <= kind.memory_kib
        and max(needs.cores, needs.node_cores) <= kind.cores
        and (not kind.scratch_mb or needs.node_scratch_mb <= kind.scratch_mb)
    )


def refusal(engine: str, limits: Limits | None, wanted: int, needs: Needs) -> str:
    """Return why an engine can never grant a job so many nodes for tasks of these needs (R30).

    "": it can, or nobody knows.
    """
    if limits is None or not limits.kinds:
        return ""
    able = limits.nodes_for(needs)
    if able >= wanted:
        return ""
    if able:
        return (
            f"Runtime constraints: min_nodes asks for {wanted} nodes; of those that are large"
            f" enough {engine} gives a job at most {able}"
        )
    return (
        f"Runtime constraints: {engine} has no node that is large enough: {_lacks(limits, needs)}"
    )


def _lacks(limits: Limits, needs: Needs) -> str:
    memory = max(kind.memory_kib for kind in limits.kinds)
    cores = max(kind.cores for kind in limits.kinds)
    scratch = max(kind.scratch_mb for kind in limits.kinds)
    asked = (
        ("min_ram_per_task", needs.memory_kib, memory, "KiB"),
        ("min_ram_per_node", needs.node_memory_kib, memory, "KiB"),
        ("min_cores_per_task", needs.cores, cores, "cores"),
        ("min_cores_per_node", needs.node_cores, cores, "cores"),
        ("min_scratch_mb_per_node", needs.node_scratch_mb, scratch or math.inf, "MB"),
    )
    parts = [
        f"{name} asks for {value} {unit}, the largest has {most}"
        for name, value, most, unit in asked
        if value > most
    ]
    return sentence(parts or ["each constraint is met by some node, all together by none"])[:-1]
