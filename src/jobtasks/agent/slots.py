"""Slots: a work directory and two pipes each, kept from attempt to attempt while they are clean."""

# On the path of every task, names as the system calls take them:
# ruff: noqa: PTH102, PTH116

from __future__ import annotations

import contextlib
import fcntl
import os

from jobtasks.agent.cgroups import Group
from jobtasks.agent.cleaner import Cleaner, empty
from jobtasks.agent.logs import Log
from jobtasks.agent.loop import Loop
from jobtasks.protocol.frames import STDERR, STDOUT

READ_BYTES_MAX = 64 * 1024
"""One read from one pipe per turn of the loop: no slot starves the others."""

DRAIN_READS_MAX = 64
"""After an end so many reads empty any pipe; more can only come from a foreign writer."""

INLINE_REMOVALS_MAX = 100
"""A work directory with more in it is set aside, for the cleaner's thread to empty."""


class Slot:
    """Place for one attempt: TASK_WORK, and the pipes for its stdout and stderr.

    Making two pipes and a directory per task would cost more than all else the agent does for it.
    So the slot keeps them, and `release` replaces whatever the attempt left in another state.
    """

    __slots__ = (
        "_cleaner", "_identity", "_loop", "_readers", "_unfit", "_writers", "actions", "attempt",
        "directory", "group", "log", "number", "rest_until", "work",
    )  # fmt: skip

    def __init__(
        self,
        number: int,
        parent: str,
        loop: Loop,
        null: int,
        cleaner: Cleaner,
        group: Group | None = None,
    ) -> None:
        self.number = number
        self.work = f"{parent}/slot-{number}"
        self.attempt = 0
        """The attempt that has the slot; 0 when it is free."""
        self.log: Log | None = None
        self.group = group
        """Its control group, where there can be one."""
        self._unfit = False
        self.rest_until = 0.0
        """Not offered before: the node could not start a process in it."""
        self._loop = loop
        self._cleaner = cleaner
        self.directory = -1
        self._open_directory()
        self._open_pipes()
        # stdin; the write ends are added by _open_pipes, as the two change together.
        self.actions: list[tuple[int, int, int]]
        self._set_actions(null)

    def _set_actions(self, null: int) -> None:
        sources = (null, *self._writers)
        self.actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(sources)]

    def _open_directory(self) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.work, 0o700)
        if self.directory >= 0:
            os.close(self.directory)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        self.directory = os.open(self.work, flags)
        os.fchmod(self.directory, 0o700)
        self._identity = self._look()

    def _look(self) -> tuple[int, int, int]:
        found = os.stat(self.work, follow_symlinks=False)
        return found.st_ino, found.st_mode, found.st_uid

    def _open_pipes(self) -> None:
        pairs = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        self._readers = (pairs[0][0], pairs[1][0])
        self._writers = (pairs[0][1], pairs[1][1])
        for fd in self._readers:
            os.set_blocking(fd, False)
        out, error = self._readers
        self._loop.watch(out, lambda events: self._take(out, STDOUT))
        self._loop.watch(error, lambda events: self._take(error, STDERR))

    def _close_pipes(self) -> None:
        for fd in self._readers:
            self._loop.forget(fd)
        for fd in self._readers + self._writers:
            os.close(fd)

    def _read(self, fd: int, stream: bytes) -> int:
        """Take one piece of output; return its size."""
        try:
            data = os.read(fd, READ_BYTES_MAX)
        except BlockingIOError:
            return 0
        if self.log is not None:
            self.log.add(stream, data)
        return len(data)

    def _take(self, fd: int, stream: bytes) -> None:
        self._read(fd, stream)

    def pipes(self) -> frozenset[str]:
        """The pipes' names as ``/proc/PID/fd`` shows them: who has one open belongs here."""
        return frozenset(f"pipe:[{os.fstat(fd).st_ino}]" for fd in self._readers)

    def drain(self) -> None:
        """Take what the ended attempt wrote last; to be called when nobody writes any more."""
        for fd, stream in zip(self._readers, (STDOUT, STDERR), strict=True):
            for _ in range(DRAIN_READS_MAX):
                if not self._read(fd, stream):
                    break

    def release(self, stained: bool, group: Group | None = None) -> None:
        """Make the slot ready for the next attempt.

        `stained`: processes other than the first were left, one may still hold a write end.
        `group`: the slot's control group, when the attempt was in it.
        """
        self.attempt = 0
        self.log = None
        null = self.actions[0][1]
        # A task may have set its end to non-blocking; the next would inherit that.
        if stained or any(fcntl.fcntl(fd, fcntl.F_GETFL) != os.O_WRONLY for fd in self._writers):
            self._close_pipes()
            self._open_pipes()
            self._set_actions(null)
        if group is not None:
            group.release(stained)
        self._unfit = not self._is_clean()
        self.is_fit()

    def is_fit(self) -> bool:
        """Return whether it has a clean directory; when it has none, try to make one."""
        if self._unfit:
            with contextlib.suppress(OSError):
                self._renew_directory()
                self._unfit = False
        return not self._unfit

    def _is_clean(self) -> bool:
        try:
            if self._look() != self._identity:
                return False
            with os.scandir(self.work) as entries:
                return next(entries, None) is None
        except OSError:
            return False

    def _renew_directory(self) -> None:
        with contextlib.suppress(OSError):
            os.fchmod(self.directory, 0o700)
            if self._look()[0] == self._identity[0] and empty(self.work, INLINE_REMOVALS_MAX):
                self._identity = self._look()
                return
        self._cleaner.take(self.work)
        self._open_directory()
