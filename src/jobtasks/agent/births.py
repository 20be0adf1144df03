"""Has processes started in control groups, by a small process that forks in our place."""

from __future__ import annotations

import contextlib
import errno
import logging
import marshal
import os
import signal
import socket
import struct
import sys
from pathlib import Path

from jobtasks.agent import spawner

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 60
"""How long a machine may take to start a process before the spawner is taken for broken."""

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)


class Births:
    """Our end of the spawner, which is started when it is first needed, and again when it died."""

    def __init__(self, leaders: dict[int, int] | None = None) -> None:
        self.leaders = {} if leaders is None else leaders
        """Our children that are no orphans: the spawner has no attempt, so it stands for 0."""
        self._pid = 0
        self._socket: socket.socket | None = None

    def start(
        self, command: list[str], variables: dict[str, str], fds: tuple[int, ...], group: int
    ) -> int:
        """Start a process in the group that `group` is open on, as our child; return its pid.

        `fds`: stdin, stdout, stderr, working directory. Errors: OSError for the program's fault,
        ValueError for what is no command line, `BlockingIOError` when the group or the spawner was
        at fault: then nothing runs in the group that we know of.
        """
        order = (
            os.environ.get("PATH", os.defpath),
            os.fsencode(command[0]),
            [os.fsencode(word) for word in command],
            {os.fsencode(name): os.fsencode(value) for name, value in variables.items()},
        )
        try:
            pid, error = self._ask(marshal.dumps(order), (*fds, group))
        except OSError as found:
            self.close()
            raise BlockingIOError(errno.EAGAIN, f"the spawner: {found}") from None
        if pid < 0:
            raise BlockingIOError(errno.EAGAIN, f"its control group: {os.strerror(error)}")
        if error:
            os.waitpid(pid, 0)
            if error == spawner.NO_COMMAND:
                raise ValueError("an argument or variable cannot be passed on")
            raise OSError(error, os.strerror(error))
        return pid

    def _ask(self, order: bytes, fds: tuple[int, ...]) -> tuple[int, int]:
        asked = self._socket or self._launch()
        head = spawner.ORDER.pack(len(order)) + order
        sent = socket.send_fds(asked, [head], fds)
        if sent < len(head):
            asked.sendall(memoryview(head)[sent:])
        answer = asked.recv(spawner.ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < spawner.ANSWER.size:
            raise ConnectionResetError(errno.ECONNRESET, "it has died")
        pid, error = spawner.ANSWER.unpack(answer)
        return pid, error

    def _launch(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        # The kernel's own limit: Python's would be another call before each.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", ANSWER_SECONDS, 0))
        with theirs:
            self._pid = os.posix_spawn(
                sys.executable,
                words(os.getpid()),
                # Its own marks are none: nothing of a task, and nothing that changes Python.
                {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
                setsigmask=(),
                setsigdef=SIGNALS,
            )
        self.leaders[self._pid] = 0
        self._socket = ours
        return ours

    def close(self) -> None:
        """End the spawner."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            self.leaders.pop(self._pid, None)


def words(agent: int) -> list[str]:
    """Return the command line of an agent's spawner."""
    return [sys.executable, "-I", "-S", str(Path(spawner.__file__)), str(agent)]
