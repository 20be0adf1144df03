"""A disk that takes nothing for a while is a pause: nothing moves, and it ends by itself.

While it lasts every write is refused before it is tried, unless there is room again. Otherwise the
small ones would still go through and the large ones not, and half of a system would move.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
from pathlib import Path

ROOM_BYTES = 4 * 1024 * 1024
"""So much must be free before a pause may end: what one group of writes may need."""
ABOUT_STORAGE = frozenset(
    {
        sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_READONLY,
    }
)  # fmt: skip
"""SQLite's errors that tell of the file or its disk; all others are mistakes of ours."""
PRIMARY = 0xFF
"""The part of an extended error code that tells its kind."""

logger = logging.getLogger(__name__)


class Pause:
    """Whether something can be written now; its begin and its end are a line each in the log."""

    def __init__(self, what: str) -> None:
        self.what = what
        """"database" or "logs"."""
        self.reason = ""
        """Why it cannot be written; "" when it can."""
        self.failures = 0
        """How many writes were refused or failed so far; grows only."""
        self._lock = threading.Lock()

    def fail(self, reason: str) -> None:
        """A write failed or was refused."""
        with self._lock:
            self.failures += 1
            is_news, self.reason = not self.reason, self.reason or reason
        if is_news:
            logger.error("the %s cannot be written, a pause begins: %s", self.what, reason)

    def end(self) -> None:
        """A write succeeded."""
        with self._lock:
            is_news, self.reason = bool(self.reason), ""
        if is_news:
            logger.warning("the %s can be written again, the pause is over", self.what)


def is_about_storage(error: sqlite3.Error) -> bool:
    """Return whether the file or its disk is at fault, not the statement."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & PRIMARY in ABOUT_STORAGE


def has_room(directory: Path) -> bool:
    """Return whether the disk, and the quota, would take `ROOM_BYTES` more; nothing is left."""
    path = directory / f".room.{os.getpid()}"
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, ROOM_BYTES)
        finally:
            os.close(file)
    except OSError:
        return False
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
    return True
