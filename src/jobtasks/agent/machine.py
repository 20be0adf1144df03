"""What this machine has to offer: cores, memory, scratch space."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

MEMORY_SHARE = 0.95
"""R28: the node's memory less 5 %."""


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def memory_kib(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the memory for tasks: the smaller of machine and control groups, less 5 % (R28)."""
    limits = [int(_field(proc / "meminfo", "MemTotal:")), *_group_limits(proc, groups)]
    return int(min(limits) * MEMORY_SHARE)


def scratch_mb(directory: str) -> int:
    """Return the free space of the disk that holds `directory`, in units of 10^6 bytes."""
    return shutil.disk_usage(directory).free // 1_000_000


def _field(path: Path, name: str) -> str:
    lines = path.read_text().splitlines()
    return next(line.split()[1] for line in lines if line.startswith(name))


def _group_limits(proc: Path, groups: Path) -> Iterator[int]:
    """Yield the limits, in KiB, of our control group and all above it (version 2 and 1)."""
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            yield from _limits(groups, name, "memory.max")
        elif "memory" in controllers.split(","):
            yield from _limits(groups / "memory", name, "memory.limit_in_bytes")


def _limits(root: Path, name: str, file: str) -> Iterator[int]:
    own = root / name.lstrip("/")
    for directory in (own, *own.parents):
        if directory == root.parent:
            return
        try:
            text = (directory / file).read_text().strip()
        except OSError:
            # In a container the path may be the one outside of it.
            continue
        if text.isdigit():
            yield int(text) // 1024
