"""The space that attempts' logs take on disk: measured, and given back when they are not kept."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from jobtasks.core.identifiers import is_uuid

NANOSECONDS = 1000
"""In a microsecond."""


LOG = ".log"
"""How the names of logs end (service/logs.py)."""


class Space(NamedTuple):
    """What files take."""

    files: int
    bytes: int

    def __add__(self, other: object) -> Space:
        """Return both together."""
        assert isinstance(other, Space)
        return Space(self.files + other.files, self.bytes + other.bytes)


NOTHING = Space(0, 0)


def job_names(log_dir: Path) -> list[str]:
    """Return the names of the folders that hold logs of a job each; nothing else is ours."""
    with contextlib.suppress(FileNotFoundError), os.scandir(log_dir) as entries:
        return [entry.name for entry in entries if is_uuid(entry.name, "job")]
    return []


def space_of(log_dir: Path, uuids: Iterable[str] | None = None, ending: str = "") -> Space:
    """Return what the files of these jobs take, of all when none are named: logs, attachments.

    With an `ending` only those whose names end so.
    """
    total = NOTHING
    for uuid in job_names(log_dir) if uuids is None else uuids:
        for path, status in _files(log_dir / uuid):
            if path.endswith(ending):
                total += Space(1, status.st_size)
    return total


def remove(log_dir: Path, jobs: Iterable[tuple[str, int | None]]) -> Space:
    """Remove the logs of (uuid, moment) that were written until then; return how much.

    A job that was queued again meanwhile may have newer logs: they stay, and so does what its
    tasks read. None stands for all files of a job that is gone.
    """
    total = NOTHING
    for uuid, until in jobs:
        for path, status in _files(log_dir / uuid):
            if until is None or _is_log_until(path, status, until):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108
                    total += Space(1, status.st_size)
        with contextlib.suppress(OSError):
            (log_dir / uuid).rmdir()
    return total


def _is_log_until(path: str, status: os.stat_result, until: int) -> bool:
    return path.endswith(LOG) and status.st_mtime_ns <= until * NANOSECONDS


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = os.scandir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                yield entry.path, entry.stat(follow_symlinks=False)
