"""The directory of a job's script that comes from another server (ADR 0025, ADR 0026)."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import IO

from jobtasks.core.errors import Invalid, TooLarge, Unavailable
from jobtasks.service.disk import room_needed
from jobtasks.service.packs import WHAT, Packs


class ImportedPack:
    """A pack that is on its way in; it has its name when all of its job has come.

    One that is here already is not stored twice, and none is where no packs are sent to nodes:
    what comes is checked all the same.
    """

    def __init__(self, packs: Packs, pack: str, file_bytes: int) -> None:
        """Take a pack of so many bytes.

        Raises:
            TooLarge: a directory within the limits cannot be so large (R40).
            Unavailable: the disk does not take it.
        """
        self._packs = packs
        self._hash = pack
        self._left_bytes = file_bytes
        self._digest = hashlib.sha256()
        self._file: IO[bytes] | None = None
        self._path = Path()
        if not packs.are_sent:
            return
        if file_bytes > packs.file_bytes_max:
            raise TooLarge(f"The scripts have more than {packs.file_bytes_max} bytes.")
        if not self._is_here():
            fd, name = packs.begin()
            self._file, self._path = os.fdopen(fd, "wb"), Path(name)

    def _is_here(self) -> bool:
        with room_needed(WHAT):
            return self._packs.keep(self._hash)

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Invalid: these were the last, and the whole is not what the job was made with.
        """
        self._digest.update(data)
        self._left_bytes -= len(data)
        if self._file is not None:
            with room_needed(WHAT):
                self._file.write(data)
        if not self._left_bytes and self._digest.hexdigest() != self._hash:
            raise Invalid("The scripts of the stream are not the job's: their SHA-256 is another.")

    def hear(self) -> None:
        """Have what came so far be kept: the rest of the job may take long."""
        if self._file is None:
            self._is_here()
            return
        with room_needed(WHAT):
            os.utime(self._file.fileno())

    def keep(self) -> None:
        """Have nodes be sent it.

        Raises:
            Unavailable: the disk does not take it; or it was here, and was removed meanwhile.
        """
        if not self._packs.are_sent:
            return
        if not self._is_here():
            if self._file is None:
                raise Unavailable("The scripts of the job were removed here; import it again.")
            self._packs.take(self._file, self._path, self._hash)
        self.remove()

    def remove(self) -> None:
        """Leave nothing that has no name yet."""
        if self._file is not None:
            file, self._file = self._file, None
            self._path.unlink(missing_ok=True)
            # What the disk did not take is of no use any more.
            with contextlib.suppress(OSError):
                file.close()
