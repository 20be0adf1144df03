"""One attempt on this node, and what the node keeps of its job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from jobtasks.agent.cgroups import Group
from jobtasks.agent.environment import JobEnvironment
from jobtasks.agent.launcher import Birth
from jobtasks.agent.logs import Log
from jobtasks.agent.loop import Timer
from jobtasks.agent.slots import Slot
from jobtasks.protocol.messages import Assignment, EndKind, JobBrief

Busy = Callable[[Assignment, str], None]
"""Called when the node could not start a process, and why."""


@dataclass(slots=True)
class Job:
    """What the node keeps of a job."""

    brief: JobBrief
    environment: JobEnvironment
    live: int = 0
    """Attempts of it that have a slot."""


class Beginning(NamedTuple):
    """An attempt that is about to be."""

    assignment: Assignment
    job: Job
    birth: Birth
    before: int
    """When, in ticks (`SlotTable.ticks`), it was not yet."""


@dataclass(slots=True, eq=False)
class Attempt:
    """One attempt that has a slot, from start until its whole tree is gone."""

    assignment: Assignment
    job: Job
    slot: Slot
    group: Group | None
    """The slot's control group, when it runs in that."""
    log: Log
    pid: int
    pidfd: int
    started: float
    kind: EndKind = EndKind.EXIT
    reason: str = ""
    discard: bool = False
    status: int | None = None
    """As `os.wait4` gives it; None while the leader runs."""
    peak_memory_kib: int = 0
    killed: bool = False
    """We have begun to send KILL."""
    named: bool = False
    """The server was told that it runs."""
    stained: bool = False
    """It left processes behind."""
    rounds: int = 0
    timers: list[Timer] = field(default_factory=list)

    @property
    def id(self) -> int:
        """The attempt's number at the server."""
        return self.assignment.attempt
