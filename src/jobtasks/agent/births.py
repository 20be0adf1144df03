"""Has processes started by small ones that fork in our place: in control groups, by the spawner."""

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
from typing import Any, Protocol

from jobtasks.agent import spawner

logger = logging.getLogger(__name__)

ANSWER_SECONDS = 60
"""How long a machine may take to start a process before the spawner is taken for broken."""

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGCHLD)
MARSHAL_VERSION = 2
"""All Pythons read it."""


class Starter(Protocol):
    """What starts a process as our child."""

    def start(
        self, command: list[str], variables: dict[str, str], fds: tuple[int, ...], group: int
    ) -> int:
        """Start a process in the group that `group` is open on; return its pid.

        `fds`: stdin, stdout, stderr, working directory. Errors: OSError for the program's fault,
        ValueError for what is no command line, `BlockingIOError` when the group or who starts was
        at fault: then nothing runs in the group that we know of.
        """


class Helper:
    """Our end of a process that starts others for us; it has no attempt, so it stands for 0."""

    def __init__(
        self, leaders: dict[int, int], socket_at: int, answer_seconds: int = ANSWER_SECONDS
    ) -> None:
        self.leaders = leaders
        """Our children that are no orphans."""
        self.socket: socket.socket | None = None
        self._pid = 0
        self._socket_at = socket_at
        self._answer_seconds = answer_seconds

    def launch(
        self, command: list[str], variables: dict[str, str], actions: list[tuple[int, ...]]
    ) -> socket.socket:
        """Start it, with its socket; errors: OSError."""
        ours, theirs = socket.socketpair()
        # The kernel's own limit: Python's would be another call before each.
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", self._answer_seconds, 0))
        with theirs:
            self._pid = os.posix_spawn(
                command[0],
                command,
                variables,
                file_actions=[
                    *actions, (os.POSIX_SPAWN_DUP2, theirs.fileno(), self._socket_at)
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=SIGNALS,
            )  # fmt: skip
        self.leaders[self._pid] = 0
        self.socket = ours
        return ours

    def ask(self, order: tuple[Any, ...], fds: tuple[int, ...]) -> tuple[int, int]:
        """Send an order; return the pid, -1 for none, and an error number.

        Errors: OSError when it has died or is broken, and is to be closed.
        """
        asked = self.socket
        if asked is None:
            raise ConnectionResetError(errno.ECONNRESET, "it does not run")
        text = marshal.dumps(order, MARSHAL_VERSION)
        head = spawner.ORDER.pack(len(text)) + text
        sent = socket.send_fds(asked, [head], fds)
        if sent < len(head):
            asked.sendall(memoryview(head)[sent:])
        answer = asked.recv(spawner.ANSWER.size, socket.MSG_WAITALL)
        if len(answer) < spawner.ANSWER.size:
            raise ConnectionResetError(errno.ECONNRESET, "it has died")
        pid, error = spawner.ANSWER.unpack(answer)
        return pid, error

    def close(self) -> None:
        """End it, and what it has started that nobody has heard of."""
        if self.socket is not None:
            _end(self._pid)
            with contextlib.suppress(OSError, struct.error):
                # An answer that came after we had given up waiting for it.
                late = self.socket.recv(spawner.ANSWER.size, socket.MSG_DONTWAIT)
                pid, _ = spawner.ANSWER.unpack(late)
                if pid > 0:
                    _end(pid)
            self.socket.close()
            self.socket = None
            self.leaders.pop(self._pid, None)


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


class Births:
    """The spawner, which is started when it is first needed, and again when it died."""

    def __init__(self) -> None:
        self._spawner = Helper({}, 0)

    def register(self, leaders: dict[int, int]) -> None:
        """Enter the spawner among those who are no orphans."""
        self._spawner.leaders = leaders

    def start(
        self, command: list[str], variables: dict[str, str], fds: tuple[int, ...], group: int
    ) -> int:
        """Start a process, as every `Starter`."""
        order = (
            os.environ.get("PATH", os.defpath),
            os.fsencode(command[0]),
            [os.fsencode(word) for word in command],
            encoded(variables),
        )
        try:
            if self._spawner.socket is None:
                # Its own marks are none: nothing of a task, and nothing that changes Python.
                own = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
                self._spawner.launch(words(os.getpid()), own, [])
            pid, error = self._spawner.ask(order, (*fds, group))
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

    def close(self) -> None:
        """End the spawner."""
        self._spawner.close()


def encoded(variables: dict[str, str]) -> dict[bytes, bytes]:
    """Return an environment as the system takes it."""
    return {os.fsencode(name): os.fsencode(value) for name, value in variables.items()}


def words(agent: int) -> list[str]:
    """Return the command line of an agent's spawner."""
    return [sys.executable, "-I", "-S", str(Path(spawner.__file__)), str(agent)]
