"""Which process each slot last started, for the agent that comes after a crash."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path


class SlotTable:
    """Which process each slot last started, in a file that outlives the agent.

    A memory map: a record costs no system call and survives `kill -9`. Beside the pid stands when
    the process was started, so that a later process with the same number is not mistaken for it.
    """

    _RECORD = struct.Struct("=qqqq")
    _TICKS = os.sysconf("SC_CLK_TCK")

    def __init__(self, path: str, slots: int) -> None:
        size = self._RECORD.size * slots
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(fd, 0)
            # A hole in the file would be filled when it is first written to: on a full disk that
            # is not an error that can be caught, but the signal that ends the process.
            os.posix_fallocate(fd, 0, size)
            self._map = mmap.mmap(fd, size)
        finally:
            os.close(fd)

    @classmethod
    def ticks(cls) -> int:
        """Time since boot in the unit of ``/proc/PID/stat``."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) * cls._TICKS // 1_000_000_000

    def note(self, slot: int, attempt: int, pid: int, before: int, after: int) -> None:
        """Write down that `pid` was started between two `ticks`."""
        self._RECORD.pack_into(
            self._map, (slot - 1) * self._RECORD.size, attempt, pid, before, after
        )

    @classmethod
    def read(cls, path: str) -> Iterator[tuple[int, int, int, int]]:
        """Yield (attempt, pid, before, after) of a table; nothing when there is none."""
        with contextlib.suppress(FileNotFoundError):
            data = Path(path).read_bytes()
            whole = len(data) - len(data) % cls._RECORD.size
            yield from cls._RECORD.iter_unpack(data[:whole])
