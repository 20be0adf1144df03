"""Nodes of their own: each a real keeper with its agent, joined to a test's server."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from jobtasks.engines.local import keeper_command

from .conftest import (
    Api,
    Served,
    agent_of,
    end_keeper,
    environment,
    keeper_of,
    process_identity,
    wait_until,
)
from .line import Line

PORTS = range(10_000, 32_000)
"""Below those from which the kernel takes the near end of a connection."""


class Node:
    """A keeper and its agent; with a `line` of its own to the server, they can be cut off."""

    def __init__(
        self,
        served: Served,
        folder: Path,
        name: str,
        *,
        slots: int = 1,
        has_line: bool = False,
        environ: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.state = folder / name
        self.line = Line(served.address) if has_line else None
        url = self.line.url if self.line else served.url
        token, directory = served.state / "agent.token", self.state / "node"
        # What `jobtasks agent` becomes: twenty of them at once start in half the time.
        command = keeper_command(url, token, directory, slots, list(environ or {}))
        self._command = [*before, *command]
        self._environ = environment(**(environ or {}))
        self.stderr = folder / f"{name}.stderr"
        self.start()

    def start(self) -> None:
        """As a service manager would: at first, and when the keeper has died."""
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(self._command, stderr=stderr, env=self._environ)

    @property
    def agent(self) -> int:
        """The agent's pid; it is waited for."""
        return wait_until(f"an agent of {self.name}", lambda: agent_of(self.state))

    def pause(self) -> None:
        """SIGSTOP the agent."""
        os.kill(self.agent, signal.SIGSTOP)

    def lose(self, how: str) -> None:
        """Take it from the server."""
        agent = self.agent
        if how != "cut":
            os.kill(agent, signal.SIGSTOP)
        if how != "agent stopped":
            assert self.line is not None
            self.line.cut()
        if how == "keeper stopped":
            os.kill(self.process.pid, signal.SIGSTOP)
            os.kill(agent, signal.SIGCONT)

    def come_back(self) -> None:
        """Undo `pause` and `lose`."""
        if self.line is not None:
            self.line.mend()
        for pid in (self.process.pid, agent_of(self.state)):
            if pid is not None and process_identity(pid):
                os.kill(pid, signal.SIGCONT)

    def is_whole(self) -> bool:
        """Whether keeper and agent live."""
        return agent_of(self.state) is not None

    def kill_agent(self) -> None:
        """kill -9; the keeper starts another."""
        kill(self.agent)

    def kill_keeper(self) -> None:
        """kill -9, and start another; the agent ends by itself."""
        self.process.kill()
        self.process.wait()
        self.start()

    def kill_both(self) -> None:
        """At once: nobody is left to end the tasks' processes. Start another keeper."""
        agent = agent_of(self.state)
        self.process.kill()
        if agent is not None:
            kill(agent)
        self.process.wait()
        self.start()

    def end(self) -> None:
        """Let it end in good order; nothing may be left of it."""
        if self.process.poll() is None and keeper_of(self.state) is None:
            # It is not yet so far that TERM would end it in good order, or at all.
            wait_until("a keeper", lambda: keeper_of(self.state) or self.process.poll() is not None)
        end_keeper(self.state)
        self.process.wait()
        if self.line is not None:
            self.line.close()


def kill(pid: int) -> None:
    """kill -9; wait until the process runs no more."""
    identity = process_identity(pid)
    os.kill(pid, signal.SIGKILL)
    wait_until("its end", lambda: process_identity(pid) != identity)


def end_all(nodes: Iterable[Node]) -> None:
    """End nodes, at the same time as far as they are well."""
    nodes = list(nodes)
    for node in nodes:
        node.come_back()
        if (keeper := keeper_of(node.state)) is not None:
            os.kill(keeper, signal.SIGTERM)
    for node in nodes:
        node.end()


AddNode = Callable[..., Node]


@contextlib.contextmanager
def nodes_of(served: Served, folder: Path) -> Iterator[AddNode]:
    """Give what starts nodes of a server, ``add(name, slots=…)``; they are ended afterwards."""
    found: list[Node] = []

    def add(name: str, **more: Any) -> Node:
        found.append(Node(served, folder, name, **more))
        return found[-1]

    try:
        yield add
    finally:
        end_all(found)


def live_nodes(api: Api) -> int:
    """How many nodes are well, with or without free slots."""
    nodes = api.get("/nodes", limit=1000)["items"]
    return sum(node["state"] in ("live", "busy") for node in nodes)


def await_nodes(api: Api, count: int) -> None:
    """Wait until so many nodes are well."""
    wait_until(f"{count} nodes", lambda: live_nodes(api) == count)


def own_address() -> str:
    """Return an address for a server that is killed and comes back to it.

    Not one of the ports that the kernel gives to callers: while the server is away one of them
    could get it.
    """
    chance = random.SystemRandom()
    while True:
        port = chance.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return f"127.0.0.1:{port}"
