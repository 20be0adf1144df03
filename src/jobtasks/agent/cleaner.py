"""Empties directories, however nasty; large ones in a thread, so that no task waits for it."""

# Names and modes as the system calls take them:
# ruff: noqa: PTH101, PTH104, PTH106, PTH108, PTH208

from __future__ import annotations

import contextlib
import logging
import os
import queue
import stat
import threading
import time
from pathlib import Path

logger = logging.getLogger(__name__)


def empty(path: str, budget: int | None = None) -> bool:
    """Remove everything in the directory `path`; False when `budget` entries did not suffice.

    Works at any depth: directories are moved up to the top before they are removed, so no path
    grows too long, and nothing recurses. Errors: OSError for what cannot be removed.
    """
    done = moved = 0
    while names := os.listdir(path):
        for name in names:
            done += 1
            if budget is not None and done > budget:
                return False
            full = f"{path}/{name}"
            if not stat.S_ISDIR(os.lstat(full).st_mode):
                os.unlink(full)
                continue
            os.chmod(full, 0o700)
            for inner in os.scandir(full):
                moved += 1
                if inner.is_dir(follow_symlinks=False):
                    # Moving a directory writes to it: its ".." changes.
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, f"{path}/.{os.getpid()}.{moved}.moved")
                else:
                    os.unlink(inner.path)
                    done += 1
            os.rmdir(full)
    return True


class Cleaner:
    """Empties set-aside directories in a thread of its own, so that no task waits for it.

    A directory that cannot be emptied (an immutable file, a mount) stays under its new name in
    `parent` until the next start of an agent tries again.
    """

    def __init__(self, parent: str) -> None:
        self._parent = parent
        self._count = 0
        self._queue: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, path: str) -> None:
        """Move `path` out of the way at once, and remove it later; a missing one is no error."""
        self._count += 1
        aside = f"{self._parent}/aside-{time.time_ns()}-{self._count}"
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, aside)
            self._remove_later(aside)

    def take_leftovers(self) -> None:
        """Remove what earlier agents set aside or left in their slots."""
        for path in Path(self._parent).iterdir():
            if path.name.startswith("aside-"):
                self._remove_later(str(path))
            elif not self._is_empty(path):
                self.take(str(path))

    @staticmethod
    def _is_empty(path: Path) -> bool:
        try:
            return next(path.iterdir(), None) is None
        except OSError:
            return False

    def _remove_later(self, path: str) -> None:
        self._queue.put(path)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="cleaner", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            path = self._queue.get()
            try:
                remove(path)
            except OSError as error:
                logger.warning("cannot remove %s: %s", path, error)


def remove(path: str) -> None:
    """Remove a file, or a directory with all that is in it; errors: OSError."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        os.unlink(path)
        return
    os.chmod(path, 0o700)
    empty(path)
    os.rmdir(path)
