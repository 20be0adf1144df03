"""Whether the node's disk takes what an attempt needs; asked only after it once did not."""

from __future__ import annotations

import logging
import os
import time

logger = logging.getLogger(__name__)

ROOM_BYTES = 1024 * 1024
ROOM_FILES = 16
"""So much must be free before the node takes work again."""

PAUSE_SECONDS_MIN = 1.0
PAUSE_SECONDS_MAX = 15.0
"""A disk that seems to have room and takes nothing all the same (a quota) is asked less and less
often: each time costs an attempt that is given back."""

STEADY_SECONDS = 60.0
"""Trouble after so much quiet is new trouble."""


class Room:
    """The node's disk. While it is full no work is taken: a task would fail for want of space.

    What runs goes on; what it says beyond its log's place reaches the server as its last words.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._full = False
        self._pause_seconds = PAUSE_SECONDS_MIN
        self._not_before = 0.0

    def lack(self, what: str) -> None:
        """Something could not be written; the first time is told."""
        now = time.monotonic()
        steady = now - self._not_before > STEADY_SECONDS
        longer = min(2 * self._pause_seconds, PAUSE_SECONDS_MAX)
        self._pause_seconds = PAUSE_SECONDS_MIN if steady else longer
        self._not_before = now + self._pause_seconds
        if not self._full:
            logger.error("this node takes no work until its disk has room: %s", what)
        self._full = True

    def is_there(self) -> bool:
        """Return whether an attempt may be taken."""
        if self._full and time.monotonic() >= self._not_before and self._has_room():
            self._full = False
            logger.warning("the node's disk has room again: it takes work")
        return not self._full

    def _has_room(self) -> bool:
        try:
            found = os.statvfs(self._directory)
        except OSError:
            return False
        if found.f_flag & os.ST_RDONLY:
            return False
        # A file system that does not count files says that it has none at all.
        files = found.f_favail >= ROOM_FILES or not found.f_files
        return files and found.f_bavail * found.f_frsize >= ROOM_BYTES
