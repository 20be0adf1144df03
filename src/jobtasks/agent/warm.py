"""Warm starts: tasks in Python whose process has imported already what they name (`preload`).

For each interpreter and set of modules a fork server (`forkserver.py`) runs on the node, from the
first task that names them until nobody has for a while. No task waits for one: until it is ready,
and whenever anything is wrong with it, tasks start cold, as all others do.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
from collections.abc import Callable, Mapping
from typing import NamedTuple

from jobtasks.agent import forkserver, pythons, spawner
from jobtasks.agent.births import Helper, encoded
from jobtasks.agent.launcher import Birth
from jobtasks.agent.loop import Loop

logger = logging.getLogger(__name__)

SERVERS_MAX = 4
"""Fork servers on a node at the same time."""

RECENT_SECONDS = 10.0
"""One that was used so lately is not ended to make room for another."""

IDLE_SECONDS = 60.0
"""One that was not used for so long is ended: it holds memory."""

IMPORT_SECONDS_MAX = 120.0
"""How long the imports may take."""

FORK_SECONDS = 5
"""How long a fork may take. The agent waits for it; and what modules do at forks is up to them."""

RETRY_SECONDS = 60.0
"""How long the reason that a server could not be had is believed before it is tried again."""

DEATHS_MAX = 3
"""A server that was ready is replaced at once when it dies, but not after so many deaths without
a start between them."""

ROOM_BYTES = 16 * 1024
"""What /proc can show of a task's environment, in a process that was started with another."""

LINE_BYTES = 1024
"""What /proc can show of a task's command line, at least."""

MARKS = ("TASK_UUID", "TASK_ATTEMPT")
SAID_BYTES_MAX = 4096


class ColdError(Exception):
    """The task cannot start warm; the message is for its user, "" when there is nothing to tell."""


class Kind(NamedTuple):
    """What fork servers differ in."""

    interpreter: str
    modules: tuple[str, ...]


class Trouble(NamedTuple):
    """Why there is no server of a kind."""

    reason: str
    deaths: int
    until: float
    """Not tried again before."""


class ForkServer:
    """Our end of one fork server, a `Starter`. `ended` is called with the reason when it ends."""

    def __init__(
        self, loop: Loop, leaders: dict[int, int], kind: Kind, ended: Callable[[str], None]
    ) -> None:
        self.kind = kind
        self.ready = False
        self.used_at = self.started_at = loop.now()
        self._loop = loop
        self._helper = Helper(leaders, forkserver.SOCKET, FORK_SECONDS)
        self._ended = ended
        self._said = b""
        self._fds: list[int] = []

    def launch(self, base: Mapping[str, str]) -> None:
        """Start it, with what its tasks' environments have in common; errors: OSError."""
        reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writer, True)
        try:
            asked = self._helper.launch(
                words(self.kind),
                {**base, forkserver.BIND: "1", forkserver.ROOM: " " * ROOM_BYTES},
                [
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),  # type: ignore[list-item]
                    (os.POSIX_SPAWN_DUP2, writer, 1),
                    (os.POSIX_SPAWN_DUP2, writer, 2),
                ],
            )
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
        self._fds = [asked.fileno(), reader]
        self._loop.watch(asked.fileno(), lambda events: self._hear(asked))
        self._loop.watch(reader, lambda events: self._read(reader))

    def _hear(self, asked: socket.socket) -> None:
        try:
            answer = asked.recv(spawner.ANSWER.size, socket.MSG_DONTWAIT)
        except OSError:
            answer = b""
        if answer:
            self.ready = True
            return
        self._read(self._fds[1])
        self.close(self._last_words())

    def _read(self, reader: int) -> None:
        """Take what it, or what it imports, has to say."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reader, SAID_BYTES_MAX):
                self._said = (self._said + data)[-SAID_BYTES_MAX:]
            # Nobody can write any more: it would be told again and again.
            self._loop.forget(reader)

    def _last_words(self) -> str:
        lines = self._said.decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it has died")

    def start(
        self, command: list[str], variables: dict[str, str], fds: tuple[int, ...], group: int
    ) -> int:
        """Start a process, as every `Starter`; group -1: in the server's own.

        `command`: the name that the process is to have, and `pythons.Program.line`.
        """
        name, *line = command
        try:
            shown_line = b"\0".join(os.fsencode(word) for word in line)
            order = (line, encoded(variables), os.fsencode(name)[:15], shown_line, shown(variables))
            pid, error = self._helper.ask(order, (*fds, group) if group >= 0 else fds)
        except OSError as found:
            self.close(f"it has died: {found}")
            raise BlockingIOError(errno.EAGAIN, f"the fork server: {found}") from None
        if pid < 0:
            raise BlockingIOError(errno.EAGAIN, f"a fork: {os.strerror(error)}")
        return pid

    def close(self, reason: str) -> None:
        """End it."""
        if not self._fds:
            return
        for fd in self._fds:
            self._loop.forget(fd)
        os.close(self._fds[1])
        self._fds = []
        self._helper.close()
        self._ended(reason)


def words(kind: Kind) -> list[str]:
    """Return the command line of a fork server of this agent's."""
    own = [kind.interpreter, forkserver.__file__, str(os.getpid())]
    return [*own, *kind.modules, " " * LINE_BYTES]


def shown(variables: dict[str, str]) -> bytes:
    """Return an environment as /proc shows it, in the room that a fork server has for it.

    What the agent knows the attempt's processes by comes first.
    """
    room, found = ROOM_BYTES, []
    for name in (*MARKS, *(variables.keys() - MARKS)):
        variable = os.fsencode(f"{name}={variables[name]}")
        if len(variable) < room:
            room -= len(variable) + 1
            found.append(variable)
    return b"\0".join(found)


class Warm:
    """The fork servers of this node.

    `base`: what the environments of all tasks have in common; what changes Python's behaviour
    (PYTHONPATH and others) is in there, so that it is the same for server and tasks.
    """

    def __init__(self, loop: Loop, leaders: dict[int, int], base: Mapping[str, str]) -> None:
        self._loop = loop
        self._leaders = leaders
        self._base = base
        self._servers: dict[Kind, ForkServer] = {}
        self._troubles: dict[Kind, Trouble] = {}

    def start(self, modules: list[str], birth: Birth) -> int:
        """Start a process that has imported `modules`, as `launcher.spawn` starts any.

        Errors: `ColdError`, nothing runs then.
        """
        command, variables, slot, group, memory_kib = birth
        program = pythons.program(command)
        if program is None:
            raise ColdError
        server = self._server(Kind(program.interpreter, tuple(modules)))
        fds = (*(fd for _, fd, _ in slot.actions), slot.directory)
        line = [program.name, *program.line]
        if any("\0" in word for word in line):
            raise ColdError
        try:
            if group is not None:
                pid = group.start(line, variables, fds, memory_kib, server)
            else:
                pid = server.start(line, variables, fds, -1)
        except (OSError, ValueError):
            raise ColdError from None
        self._troubles.pop(server.kind, None)
        return pid

    def _server(self, kind: Kind) -> ForkServer:
        """Return a server that is ready; errors: `ColdError`, it is on its way then if it can."""
        now = self._loop.now()
        server = self._servers.get(kind)
        if server is None:
            trouble = self._troubles.get(kind)
            if trouble is not None and now < trouble.until:
                raise ColdError(f"started without preload: {trouble.reason}")
            self._launch(kind)
            raise ColdError
        server.used_at = now
        if not server.ready:
            raise ColdError
        return server

    def _launch(self, kind: Kind) -> None:
        if len(self._servers) >= SERVERS_MAX:
            oldest = min(self._servers.values(), key=lambda server: server.used_at)
            if self._loop.now() - oldest.used_at < RECENT_SECONDS:
                return
            self._end(oldest)
        server = ForkServer(
            self._loop, self._leaders, kind, lambda reason: self._lost(kind, server, reason)
        )
        self._servers[kind] = server
        try:
            server.launch(self._base)
        except OSError as error:
            self._lost(kind, server, f"{kind.interpreter}: {error.strerror}")

    def _lost(self, kind: Kind, server: ForkServer, reason: str) -> None:
        """A server has ended, and not by our will."""
        if self._servers.pop(kind, None) is None:
            return
        logger.warning("no warm starts of %s: %s", " ".join(kind.modules), reason)
        known = self._troubles.get(kind)
        deaths = (known.deaths if known is not None else 0) + 1
        again = server.ready and deaths < DEATHS_MAX
        until = self._loop.now() + (0 if again else RETRY_SECONDS)
        self._troubles[kind] = Trouble(reason, deaths, until)

    def _end(self, server: ForkServer) -> None:
        del self._servers[server.kind]
        server.close("")

    def tidy(self) -> None:
        """From time to time: end servers that nobody uses or that never get ready."""
        now = self._loop.now()
        for server in list(self._servers.values()):
            if not server.ready and now - server.started_at > IMPORT_SECONDS_MAX:
                server.close(f"not imported within {IMPORT_SECONDS_MAX:g} s")
            elif server.ready and now - server.used_at > IDLE_SECONDS:
                self._end(server)
        for kind, trouble in list(self._troubles.items()):
            if now > trouble.until + RETRY_SECONDS:
                del self._troubles[kind]
