"""What ``/proc`` says about processes; a process that has gone says nothing."""

# Thousands of small reads, names as the system calls take them:
# ruff: noqa: PTH115, PTH208

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Make orphaned descendants this process's children; errors: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


class Stat(NamedTuple):
    """A process's line in ``/proc/PID/stat``; `started` in ticks since boot."""

    state: str
    parent: int
    group: int
    session: int
    terminal: int
    """0: it has none."""
    started: int

    @property
    def dead(self) -> bool:
        """It runs no more; at most its exit status is still to be fetched."""
        return self.state in "ZX"


def stat(pid: int) -> Stat | None:
    """Return what is known of a process, None when there is none."""
    data = _read(f"/proc/{pid}/stat")
    if not data:
        return None
    # The name in parentheses may itself have parentheses and spaces.
    fields = data[data.rindex(b")") + 2 :].split()
    return Stat(fields[0].decode(), *(int(fields[index]) for index in (1, 2, 3, 4, 19)))


def pids() -> list[int]:
    """Return every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int]:
    """Return the children of all threads of a process, zombies included."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found = (_read(f"/proc/{pid}/task/{thread}/children") for thread in threads)
    return [int(word) for words in found for word in words.split()]


def descendants(roots: Iterable[int]) -> set[int]:
    """Return `roots` and all their descendants."""
    found: set[int] = set()
    to_visit = list(roots)
    while to_visit:
        pid = to_visit.pop()
        if pid not in found:
            found.add(pid)
            to_visit += children(pid)
    return found


def environment(pid: int) -> list[bytes]:
    """Return the environment a process was started with; [] when it cannot be read."""
    return _read(f"/proc/{pid}/environ").split(b"\0")


def directory(pid: int) -> str:
    """Return the working directory of a process; "" when it cannot be read."""
    return _link(f"/proc/{pid}/cwd")


def open_files(pid: int) -> set[str]:
    """Return what a process's descriptors point to; empty when that cannot be read."""
    try:
        return {_link(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    except OSError:
        return set()


def group(pid: int) -> str:
    """Return the control group (version 2) that a process is in; "" when it is in none."""
    for line in _read(f"/proc/{pid}/cgroup").splitlines():
        if line.startswith(b"0::"):
            return os.fsdecode(line[3:])
    return ""


def resident_pages(pid: int) -> int:
    """Return how many pages of a process are in memory, those that it shares included."""
    words = _read(f"/proc/{pid}/statm").split()
    return int(words[1]) if words else 0


def proportional_kib(pid: int) -> int | None:
    """Return a process's memory in KiB, of shared pages its part; None when it is not told."""
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return None


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes; those that have gone or are not ours are passed over."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def _read(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
