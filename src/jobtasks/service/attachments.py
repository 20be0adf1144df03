"""A job's attachment: bytes that its owner sends once and its tasks read.

Kept as a file beside the logs of the job, so that it goes when they go.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from jobtasks.core.errors import Invalid, NotFound
from jobtasks.core.states import JobState
from jobtasks.service import access
from jobtasks.service.context import Caller, Context
from jobtasks.service.disk import room_needed, sync_directory
from jobtasks.store.records import JobRecord

PIECE_BYTES = 256 * 1024
"""What is held in memory of an attachment that is read."""
NAME = "attachment"


def path_of(log_dir: Path, job_uuid: str) -> Path:
    """Return where a job's attachment is kept."""
    return log_dir / job_uuid / NAME


def receiving_job(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Return a job that may be given an attachment: the caller's to change, and not over.

    Raises:
        NotFound, Forbidden: as for any change of a job.
        Invalid: the job is final, nobody would read it.
    """
    job = access.own_job(ctx, caller, uuid, "attach anything to")
    if JobState(job.state).is_final:
        raise Invalid(f"The job is {job.state}: it takes no attachment any more.")
    return job


class Incoming:
    """An attachment that arrives; it takes its place when it is whole and on disk (R37).

    A context: what was not kept leaves nothing behind. A full disk is `Unavailable`: later perhaps.
    """

    def __init__(self, log_dir: Path, job_uuid: str) -> None:
        self._place = path_of(log_dir, job_uuid)
        with room_needed("The attachment"):
            self._place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd, self._name = tempfile.mkstemp(prefix=NAME + ".", dir=self._place.parent)

    def __enter__(self) -> Incoming:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._fd)
        Path(self._name).unlink(missing_ok=True)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        with room_needed("The attachment"):
            while view:
                view = view[os.write(self._fd, view) :]

    def keep(self) -> None:
        """Put it in its place; an earlier one is replaced."""
        with room_needed("The attachment"):
            os.fsync(self._fd)
            Path(self._name).rename(self._place)
            sync_directory(self._place.parent)


def size_of(path: Path) -> int:
    """Return how many bytes an attachment has; `NotFound` when there is none (yet)."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        raise NotFound("This job has no attachment (yet).") from None


def read(path: Path) -> Iterator[bytes]:
    """Yield an attachment in pieces."""
    with path.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece
