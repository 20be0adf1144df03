"""Freezes the attempts of exclusive jobs when their node was cut off for too long (R34).

The keeper has one, for the agent may be stopped; the agent has one, for the keeper may be. Standard
library only, of ours only the control groups. Times are seconds of `now`, which counts while the
machine sleeps.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from jobtasks.agent import group_files

AGAIN_SECONDS = 0.1
"""While something is frozen: somebody may have continued it, or an orphan may have turned up."""

LOOK_SECONDS_MAX = 0.25
"""While something could be frozen: waits are not counted while the machine sleeps."""

ROUND_SECONDS_MAX = 0.5
ROUND_PAUSE_SECONDS = 0.001


def now() -> float:
    """Return the time since the machine was started, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Held(NamedTuple):
    """One attempt of an exclusive job, from before its start until its tree is gone."""

    task: str
    number: int
    leader: int = 0
    """Its first process; 0 while it is being started."""
    group: str = ""
    """The directory of its control group, if that can be frozen."""


class State(NamedTuple):
    """What the agent tells the keeper, whole, whenever something of it changes."""

    renewed_at: float = 0.0
    """When the last sync was sent of which a renewal was acknowledged."""
    freeze_seconds: float = 0.0
    """How long after that what is held goes on."""
    patience_seconds: float = 0.0
    """How long after that the agent ends what is held."""
    held: tuple[Held, ...] = ()

    def encode(self) -> bytes:
        """Return it as one message."""
        return json.dumps(self).encode()

    @classmethod
    def decode(cls, message: bytes) -> State:
        """Return what a message says; errors: ValueError, TypeError."""
        renewed_at, freeze_seconds, patience_seconds, held = json.loads(message)
        attempts = tuple(Held(*words) for words in held)
        return cls(renewed_at, freeze_seconds, patience_seconds, attempts)

    def left_seconds(self) -> float:
        """How long what is held may still run."""
        return self.renewed_at + self.freeze_seconds - now()

    def is_given_up(self) -> bool:
        """Is something held longer than any agent that works would hold it?"""
        limit = self.renewed_at + self.patience_seconds + self.freeze_seconds
        return bool(self.held) and now() > limit


SPAWNER = str(Path(__file__).with_name("spawner.py"))


class Freezer:
    """Freezes control groups, and stops processes below an agent that are in none; and back."""

    def __init__(self, agent: int) -> None:
        self._agent = agent
        self._stopped: set[tuple[int, str]] = set()
        self._frozen: set[str] = set()
        self.state = State()

    def look(self) -> float | None:
        """Freeze or thaw as the time demands; return how soon to look again, None for never."""
        if not (self.state.held or self._stopped or self._frozen):
            return None
        left = self.state.left_seconds()
        if left > 0 or not self.state.held:
            self._thaw()
            return min(max(left, 0.0), LOOK_SECONDS_MAX)
        self._freeze()
        return AGAIN_SECONDS

    def _freeze(self) -> None:
        """Stop until nothing runs: a process may start others while we look."""
        self._freeze_groups({one.group for one in self.state.held if one.group and one.leader})
        limit = time.monotonic() + ROUND_SECONDS_MAX
        while running := self._running():
            for pid, started in running:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGSTOP)
                    self._stopped.add((pid, started))
            if time.monotonic() > limit:
                return
            time.sleep(ROUND_PAUSE_SECONDS)

    def _freeze_groups(self, wanted: set[str]) -> None:
        """Freeze these, whoever may have thawed one meanwhile, and thaw the others."""
        for group in self._frozen - wanted:
            group_files.write(f"{group}/cgroup.freeze", "0")
        for group in wanted:
            group_files.write(f"{group}/cgroup.freeze", "1")
        self._frozen = wanted

    def _thaw(self) -> None:
        self._freeze_groups(set())
        for pid, started in self._stopped:
            if (seen := _stat(pid)) and seen[19] == started:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGCONT)
        self._stopped.clear()

    def _running(self) -> list[tuple[int, str]]:
        """Return (pid, time of start) of each process that is to be stopped and is not."""
        found = ((pid, _stat(pid)) for pid in descendants(self._roots()))
        return [(pid, seen[19]) for pid, seen in found if seen and seen[0] not in "TtZX"]

    def _roots(self) -> list[int]:
        held = self.state.held
        leaders = {str(attempt.leader) for attempt in held}
        marks = {_marks([f"TASK_UUID={one.task}", f"TASK_ATTEMPT={one.number}"]) for one in held}
        found = children(self._agent)
        if named := [one.group for one in held if one.group]:
            # Who is in a group is frozen with it, or not held, unless it is being started.
            loose = {"", *(one.group for one in held if not one.leader)}
            node = Path(named[0]).parent
            found = [pid for pid in found if group_files.slot_of(pid, node) in loose]
        own = _words(self._agent, "cmdline")
        return [pid for pid in found if self._is_held(pid, leaders, marks, own)]

    @staticmethod
    def _is_held(pid: int, leaders: set[str], marks: set[frozenset[str]], own: list[str]) -> bool:
        """Whether a child of the agent belongs to what is held, or may: an orphan without marks."""
        if str(pid) in leaders:
            return True
        words = _words(pid, "cmdline")
        if words == own or SPAWNER in words:
            # Not a task yet: the agent waits until it has become one.
            return False
        found = _marks(_words(pid, "environ"))
        return len(found) != 2 or found in marks


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, dead ones included."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            found += map(int, path.read_text().split())
    return found


def descendants(
    roots: Iterable[int], below: Callable[[int], list[int]] = children
) -> Iterable[int]:
    """Yield `roots` and all processes below them, each before its own children are looked for."""
    to_visit = list(roots)
    while to_visit:
        pid = to_visit.pop()
        yield pid
        to_visit += below(pid)


def _marks(variables: list[str]) -> frozenset[str]:
    return frozenset(word for word in variables if word.startswith(("TASK_UUID=", "TASK_ATTEMPT=")))


def _words(pid: int, file: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/{file}").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _stat(pid: int) -> list[str]:
    """Return the fields of a process's stat from its state on; [] when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
