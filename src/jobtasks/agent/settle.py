"""Ends what an earlier agent of this node left running, before the new one joins (R36)."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable

from jobtasks.agent import procfs
from jobtasks.agent.slot_table import SlotTable

SETTLE_SECONDS_MAX = 30.0
"""How long survivors are given to go; one that hangs in the kernel longer is left behind."""


def survivors(table: Iterable[tuple[int, int, int, int]], work: str) -> set[int]:
    """Return the processes of earlier attempts, with their descendants.

    Known by the slot table (pid and time of start) or by TASK_WORK or a working directory below
    `work`. Dead ones that nobody has reaped yet do not count.
    """
    roots = {pid for _, pid, before, after in table if _is_same(pid, before, after)}
    roots.update(pid for pid in procfs.pids() if pid != os.getpid() and _is_marked(pid, work))
    return {pid for pid in procfs.descendants(roots) if not _is_dead(pid)}


def _is_same(pid: int, before: int, after: int) -> bool:
    seen = procfs.stat(pid) if pid > 0 else None
    return seen is not None and before <= seen.started <= after


def _is_dead(pid: int) -> bool:
    seen = procfs.stat(pid)
    return seen is None or seen.dead


def _is_marked(pid: int, work: str) -> bool:
    mark = f"TASK_WORK={work}/".encode()
    if any(variable.startswith(mark) for variable in procfs.environment(pid)):
        return True
    if not procfs.directory(pid).startswith(work + "/"):
        return False
    # A task has no terminal: somebody's shell that happens to stand there is left alone.
    seen = procfs.stat(pid)
    return seen is not None and seen.terminal == 0


def settle(table_path: str, work: str) -> int:
    """Kill all `survivors` until none is left; return how many there were at first.

    They are not our children, so their end cannot be waited for: looked for again, round by round.
    """
    table = list(SlotTable.read(table_path))
    limit = time.monotonic() + SETTLE_SECONDS_MAX
    found = survivors(table, work)
    first = len(found)
    while found and time.monotonic() < limit:
        procfs.send(found, signal.SIGKILL)
        time.sleep(0.005)
        found = survivors(table, work)
    return first
