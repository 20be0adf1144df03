"""What every workload is given: sizes, the floor, where to say what it does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.floor import Floor


@dataclass(frozen=True)
class Sizes:
    """How much is run; the defaults are those of the goals."""

    rounds: int = 5
    commands: int = 6000
    """P1, P2: tasks of ``/bin/true`` in a run."""
    in_flight: int = 8
    """P2: slots of each system."""
    tree: int = 1000
    """P3: children of the seed."""
    python: int = 500
    """P4: tasks in Python."""
    singles: int = 100
    """P5, Arvados' client: jobs, or calls, one after the other."""
    bulk: int = 100_000
    """P6: tasks created in one call."""
    waiting: int = 1_000_000
    """P7, pages: waiting tasks, children."""
    million: int = 1_000_000
    """P8: tasks of one job."""
    life: int = 100_000
    """P10: tasks whose whole life is measured."""
    window: float = 30.0
    """P9: seconds in which the slots are watched."""
    slurm: int = 2000
    """slurm: tasks of ``/bin/true`` on its nodes."""
    steps: int = 200
    """slurm: steps of ``/bin/true`` beside them."""
    agents: tuple[int, ...] = (250, 1000)
    """P9: agents with tasks of 1 s, and with tasks of 10 s."""


@dataclass(frozen=True)
class Session:
    """One call of the bench."""

    sizes: Sizes
    floor: Floor
    say: Callable[[str], None]
    peers: Sequence[str] = ()
    """Names of the peers that are run beside ours."""
