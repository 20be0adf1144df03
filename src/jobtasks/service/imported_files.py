"""Files of a job that comes from another server: written where they will be read (ADR 0026).

They lie there before the job is on record, named by uuids alone; what belongs to no job in the end
is removed, now or by a later look (api/collecting.py).
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jobtasks.core.errors import Invalid, TooLarge
from jobtasks.core.job_stream import AttachmentLine, AttemptLine, PackLine
from jobtasks.core.settings import Settings
from jobtasks.service import attachments, logs
from jobtasks.service.disk import room_needed, sync_directory
from jobtasks.service.imported_pack import ImportedPack
from jobtasks.service.packs import Packs

WHAT = "A file of the job"
"""What a disk may refuse."""


class ImportedFiles:
    """What was written of an import's files."""

    def __init__(self, log_dir: Path, job_uuid: str, settings: Settings, packs: Packs) -> None:
        self._log_dir = log_dir
        self._job_uuid = job_uuid
        self._settings = settings
        self._packs = packs
        self._pack: ImportedPack | None = None
        self._file: int | None = None
        self._log_bytes = 0

    def begin_pack(self, line: PackLine, pack: str | None) -> None:
        """Take the directory of the script of a job with this `script_hash`.

        Raises:
            Invalid: it has none, or two.
            TooLarge: it is larger than such a file may be (R40).
            Unavailable: the disk does not take it.
        """
        if pack is None or self._pack is not None:
            raise Invalid("The stream has scripts that the job does not have.")
        self.end()
        self._pack = ImportedPack(self._packs, pack, line.file_bytes)

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
        with room_needed(WHAT):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.open(path, flags, 0o600)

    def write(self, data: bytes) -> None:
        """Take the next bytes of the file."""
        if self._file is None:
            assert self._pack is not None, "bytes follow the record of their file"
            self._pack.write(data)
            return
        view = memoryview(data)
        with room_needed(WHAT):
            while view:
                view = view[os.write(self._file, view) :]

    def end(self) -> None:
        """Have the file on disk that was begun last, if one was (R37)."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                with room_needed(WHAT):
                    os.fsync(file)
            finally:
                os.close(file)

    def hear(self) -> None:
        """Have what came so far be kept until the rest has come."""
        if self._pack is not None:
            self._pack.hear()

    def keep(self) -> None:
        """Have all of them on disk under their names."""
        self.end()
        if self._pack is not None:
            self._pack.keep()
        with room_needed(WHAT), contextlib.suppress(FileNotFoundError):
            sync_directory(self._log_dir / self._job_uuid)

    def let_go(self) -> None:
        """Have no file open; what has the job's name may be another import's by now."""
        if self._file is not None:
            os.close(self._file)
            self._file = None
        if self._pack is not None:
            self._pack.remove()

    def remove(self) -> None:
        """Remove them: nothing of the job is kept."""
        self.let_go()
        logs.remove_job_logs(self._log_dir, self._job_uuid)
