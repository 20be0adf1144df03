"""Files of a job that comes from another server: written where they will be read (ADR 0026).

They lie there before the job is on record, named by uuids alone; what belongs to no job in the end
is removed, now or by a later look (api/collecting.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from jobtasks.core.errors import TooLarge, Unavailable
from jobtasks.core.job_stream import AttachmentLine, AttemptLine
from jobtasks.core.settings import Settings
from jobtasks.service import attachments, logs


class ImportedFiles:
    """What was written of an import's files."""

    def __init__(self, log_dir: Path, job_uuid: str, settings: Settings) -> None:
        self._log_dir = log_dir
        self._job_uuid = job_uuid
        self._settings = settings
        self._file: int | None = None
        self._log_bytes = 0

    def begin(self, line: AttachmentLine | AttemptLine) -> None:
        """Take the file that follows a record, in place of any that lies there.

        Raises:
            TooLarge: it is larger than such a file may be (R40).
            Unavailable: the disk does not take it.
        """
        if isinstance(line, AttachmentLine):
            limit = self._settings.attachment_bytes_max
            path = attachments.path_of(self._log_dir, self._job_uuid)
        else:
            limit = self._settings.log_bytes_max * logs.OVERHEAD
            path = logs.path_in(self._log_dir, self._job_uuid, line.job_task_uuid, line.number)
            self._log_bytes += line.file_bytes
        if line.file_bytes > limit:
            raise TooLarge(f"A file of the stream has more than {limit} bytes.")
        if self._log_bytes > self._settings.job_log_bytes_max * logs.OVERHEAD:
            raise TooLarge("The logs of the job have more bytes than those of a job may have.")
        self.end()
        with _room_needed():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)

    def write(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        assert self._file is not None, "bytes follow the record of their file"
        view = memoryview(data)
        with _room_needed():
            while view:
                view = view[os.write(self._file, view) :]

    def end(self) -> None:
        """Have the file on disk that was begun last, if one was (R37)."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with _room_needed():
                    os.fsync(file)
            finally:
                os.close(file)

    def keep(self) -> None:
        """Have all of them on disk under their names."""
        self.end()
        with contextlib.suppress(FileNotFoundError), _room_needed():
            directory = os.open(self._log_dir / self._job_uuid, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def remove(self) -> None:
        """Remove them: nothing of the job is kept."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        logs.remove_job_logs(self._log_dir, self._job_uuid)


@contextlib.contextmanager
def _room_needed() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Unavailable(f"A file cannot be stored: {error.strerror}") from None
