"""Whose process is that? The trees of attempts, orphans included (R36).

The agent is a subreaper: a process whose parent dies becomes the agent's child, whatever session it
is in. So every child of ours that is not an attempt's first process (its *leader*) is an orphan,
and belongs to the tree of some attempt.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from jobtasks.agent import procfs
from jobtasks.agent.cgroups import Group
from jobtasks.agent.group_files import SLOT_PREFIX

END_SECONDS_MAX = 10.0
"""How long `end_all` tries; what is left then cannot be killed (it hangs in the kernel)."""


@dataclass(frozen=True, slots=True)
class Owner:
    """One live attempt, by everything a process of its tree may be known by."""

    attempt: int
    leader: int
    marks: frozenset[bytes]
    """Variables that only this attempt has together."""
    work: str
    pipes: frozenset[str]
    group: str = ""
    """The name of its control group, if it has one."""


@dataclass(slots=True)
class Orphan:
    """A child of ours that we did not start."""

    started: int
    attempt: int | None
    """Whose it is: an attempt, 0 when of none that lives, None when it cannot be told."""
    candidates: set[int] = field(default_factory=set)
    """When it cannot be told: the attempts that had processes when it was first seen, and have."""


class Trees:
    """The agent's own children, sorted by attempt.

    All calls from one thread, the process's first: there the kernel files the children that it
    starts and those that the agent inherits, but not those that other threads start. Where the
    slots have control groups, these tell without guessing whose a process is; one that has left its
    group is judged as if there were none.
    """

    def __init__(self) -> None:
        pid = os.getpid()
        try:
            self._children = os.open(f"/proc/{pid}/task/{pid}/children", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise OSError("this kernel has no /proc/PID/task/TID/children") from None
        self.leaders: dict[int, int] = {}
        """pid → attempt, from start until reaped; 0 for a process that serves us."""
        self.elsewhere: set[int] = set()
        """Those of the leaders that another thread has started."""
        self.groups: dict[int, Group] = {}
        """attempt → its control group, where there is one."""
        self.orphans: dict[int, Orphan] = {}
        self._claims: dict[tuple[int, int], int] = {}
        self._over: set[int] = set()
        """Attempts whose leaders are gone, and whose trees are not yet."""

    def own(self) -> list[bytes]:
        """Return the pids of our first thread's children."""
        parts = b""
        while part := os.pread(self._children, 1 << 20, len(parts)):
            parts += part
        return parts.split()

    def crowded(self) -> bool:
        """Is there any child that is no leader? One system call, asked after each batch of ends."""
        data = os.pread(self._children, 65536, 0)
        here = len(self.leaders) - len(self.elsewhere)
        return len(data.split()) != here or len(data) > 65000

    def look(self, owners: list[Owner]) -> None:
        """Find new orphans, say whose they are, and reap the dead ones."""
        found = {int(word) for word in self.own()} - self.leaders.keys()
        for pid in found:
            if _reaped(pid):
                self.orphans.pop(pid, None)
            elif pid not in self.orphans and (seen := procfs.stat(pid)) is not None:
                self.orphans[pid] = self._judge(pid, seen, owners)
        for pid in self.orphans.keys() - found:
            del self.orphans[pid]

    def _judge(self, pid: int, seen: procfs.Stat, owners: list[Owner]) -> Orphan:
        attempt = self._claims.get((pid, seen.started))
        if attempt is None:
            attempt = attribute(pid, seen, owners)
        candidates = {owner.attempt for owner in owners} if attempt is None else set()
        orphan = Orphan(seen.started, attempt, candidates)
        self._decide(orphan)
        return orphan

    def _decide(self, orphan: Orphan) -> None:
        """Who may only be of attempts that are over belongs to one of these, or to none."""
        if orphan.attempt is None and orphan.candidates <= self._over:
            orphan.attempt = min(orphan.candidates, default=0)

    def over(self, attempt: int) -> None:
        """The leader of `attempt` is gone: orphans that can only be its own become its own."""
        self._over.add(attempt)
        for orphan in self.orphans.values():
            self._decide(orphan)

    def orphans_of(self, attempt: int) -> set[int]:
        """Return the orphans of an attempt, those of attempts that are over included."""
        return {pid for pid, orphan in self.orphans.items() if orphan.attempt in (attempt, 0)}

    def members(self, attempt: int, leader: int | None) -> set[int]:
        """Return every process of an attempt's tree that is known now; `leader` while it lives."""
        roots = self.orphans_of(attempt)
        if leader is not None:
            roots.add(leader)
        found = procfs.descendants(roots)
        if (group := self.groups.get(attempt)) is not None:
            found |= group.processes()
        for pid in found - roots:
            # While its ancestors live it is known whose it is; it may be an orphan soon.
            if (seen := procfs.stat(pid)) is not None:
                self._claims[pid, seen.started] = attempt
        return found

    def forget(self, attempt: int) -> None:
        """The whole tree of `attempt` is gone; what turned up last is nobody's."""
        self._over.discard(attempt)
        self.groups.pop(attempt, None)
        for orphan in self.orphans.values():
            orphan.candidates.discard(attempt)
            if orphan.attempt == attempt:
                orphan.attempt = 0
            self._decide(orphan)
        if self._claims:
            kept = [(key, owner) for key, owner in self._claims.items() if owner != attempt]
            self._claims = dict(kept)


def attribute(pid: int, seen: procfs.Stat, owners: Iterable[Owner]) -> int | None:
    """Return the attempt a process belongs to, 0 for one that is over, None when nothing tells.

    By its control group, else its environment, its session or process group, its working directory,
    an open pipe of a slot.
    """
    if (place := _slot_of(pid, owners)) is not None:
        return place
    variables = {
        variable
        for variable in procfs.environment(pid)
        if variable.startswith((b"TASK_UUID=", b"TASK_ATTEMPT="))
    }
    for owner in owners:
        if variables and owner.marks == variables:
            return owner.attempt
    if len(variables) == 2:
        return 0
    work, files = procfs.directory(pid), procfs.open_files(pid)
    for owner in owners:
        if owner.leader in (seen.session, seen.group) or files & owner.pipes:
            return owner.attempt
        if work == owner.work or work.startswith(owner.work + "/"):
            return owner.attempt
    return None


def _slot_of(pid: int, owners: Iterable[Owner]) -> int | None:
    """Return whose slot's control group a process is in, 0: nobody's; None: in no slot's."""
    places = [owner for owner in owners if owner.group]
    if not places:
        return None
    name = procfs.group(pid) + "/"
    for owner in places:
        if name.startswith(owner.group + "/"):
            return owner.attempt
    slots = f"{places[0].group.rpartition('/')[0]}/{SLOT_PREFIX}"
    return 0 if name.startswith(slots) else None


def _reaped(pid: int) -> bool:
    """Fetch the status of a child that is dead; True when there is no such child any more."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def end_all() -> None:
    """Kill every descendant of this process and reap it; blocks until none is left.

    For an agent that goes without ado, and repeated, because a storm of forks runs ahead of one
    round.
    """
    limit = time.monotonic() + END_SECONDS_MAX
    while time.monotonic() < limit:
        procfs.send(procfs.descendants(procfs.children(os.getpid())), signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not procfs.children(os.getpid()):
            return
        time.sleep(0.002)
