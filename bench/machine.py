"""What is known of the machine that figures are from."""

from __future__ import annotations

import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

SYNCS = 50
TURNS = 100_000


def describe() -> dict[str, Any]:
    """Return cores, processor, memory, kernel, interpreter, and the disk that states lie on."""
    folder = Path(tempfile.gettempdir())
    return {
        "at": time.strftime("%Y-%m-%d %H:%M"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": processor(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
        "python_ms": round(interpreter_milliseconds(), 1),
        "file_system": file_system(folder),
        "fdatasync_ms": round(fdatasync_milliseconds(folder), 3),
        "load": round(os.getloadavg()[0], 2),
    }


def processor() -> str:
    """Return what the processor calls itself."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def interpreter_milliseconds() -> float:
    """Return how long this interpreter takes for a loop of `TURNS`: the best of some.

    Builds of one version differ by almost a half, and no build tells reliably how it was made.
    """
    times = []
    for _ in range(5):
        kept: dict[int, str] = {}
        begin = time.process_time()
        for turn in range(TURNS):
            kept[turn % 1000] = str(turn)
            _ = [number + turn for number in (1, 2, 3)]
        times.append((time.process_time() - begin) * 1000)
    return min(times)


def file_system(folder: Path) -> str:
    """Return the type of the file system of a folder."""
    found, longest = "unknown", -1
    for line in Path("/proc/mounts").read_text().splitlines():
        _, point, kind, *_ = line.split()
        if folder.is_relative_to(point) and len(point) > longest:
            found, longest = kind, len(point)
    return found


def fdatasync_milliseconds(folder: Path) -> float:
    """Return how long it takes to put 4 KiB on disk, as a commit does: the median."""
    times = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(SYNCS):
            file.write(b"x" * 4096)
            file.flush()
            begin = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)
