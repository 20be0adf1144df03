"""The keeper: `python -m jobtasks.agent.keeper`, parent of a node's agent.

It does one thing, so that it does not fail: when the agent dies it ends every descendant and starts
a new agent. And when the node was cut off for too long it freezes what must not run twice (R34).
Standard library only, of ours only freezer and control groups: it must outlive what can break.
Options as `jobtasks.agent.main`; TERM, INT or HUP: the agent drains, then both end.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jobtasks.agent import group_files
from jobtasks.agent.freezer import Freezer, State, children, descendants

logger = logging.getLogger("jobtasks.keeper")

PR_SET_CHILD_SUBREAPER = 36
PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 10.0
STEADY_SECONDS = 10.0
"""An agent that lived so long is started again without a growing pause."""

CANNOT_WORK = 125
SENT_AWAY = 3
"""The agent's exit code when its node is given back to the engine."""


def become_subreaper() -> None:
    """Inherit what the agent leaves; errors: OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def end_descendants() -> int:
    """Kill and reap until there is no descendant; return how many were killed in the first round.

    One that hangs in the kernel is waited for: to start the next agent beside it would be to run
    two processes of one task.
    """
    first = -1
    while True:
        killed = 0
        for pid in list(descendants(children(os.getpid()))):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        first = killed if first < 0 else first
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return first
        time.sleep(0.005)


class Keeper:
    """Starts agents, one after the other, until told to end."""

    def __init__(self, node: Path, command: Sequence[str]) -> None:
        self._node = node
        self._command = command
        self._ending = False
        self._agent: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Return the exit code: 0 when the last agent drained in good order, or was sent away."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._end)
        pause = PAUSE_SECONDS_MIN
        while True:
            started = time.monotonic()
            code = self._run_agent()
            killed = group_files.end(self._node) + end_descendants()
            if code == SENT_AWAY:
                return 0
            if self._ending:
                return 0 if code == 0 else 1
            if time.monotonic() - started > STEADY_SECONDS:
                pause = PAUSE_SECONDS_MIN
            logger.warning("the agent ended (%s), %d processes killed with it", code, killed)
            self._sleep(pause)
            pause = min(2 * pause, PAUSE_SECONDS_MAX)
            if self._ending:
                return 0

    def _end(self, number: int, frame: Any) -> None:
        self._ending = True
        if self._agent is not None:
            self._agent.terminate()

    def _run_agent(self) -> int:
        """Start an agent and return its exit code; a signal's number is negative."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            fd = theirs.fileno()
            command = [*self._command, "--keeper-fd", str(fd)]
            self._agent = subprocess.Popen(command, pass_fds=[fd])
            if self._ending:
                self._agent.terminate()
            theirs.close()
            self._watch(self._agent, ours)
        return self._agent.wait()

    def _watch(self, agent: subprocess.Popen[bytes], told: socket.socket) -> None:
        """Freeze and thaw as the agent tells, until it has died."""
        freezer = Freezer(agent.pid)
        told.setblocking(False)
        died = os.pidfd_open(agent.pid)
        sources: list[Any] = [died, told]
        try:
            while died not in (ready := select.select(sources, [], [], freezer.look())[0]):
                if ready and not listen(told, freezer):
                    sources.remove(told)
                if freezer.state.is_given_up():
                    logger.error("the agent does nothing any more: killing it")
                    agent.kill()
        finally:
            os.close(died)

    def _sleep(self, seconds: float) -> None:
        limit = time.monotonic() + seconds
        while not self._ending and time.monotonic() < limit:
            time.sleep(min(0.1, seconds))


def listen(told: socket.socket, freezer: Freezer) -> bool:
    """Take what the agent has told last; return whether it may tell more."""
    with contextlib.suppress(BlockingIOError):
        while message := told.recv(1 << 20):
            with contextlib.suppress(ValueError, TypeError):
                freezer.state = State.decode(message)
        return False
    return True


def claim(node: Path) -> int:
    """Write ``keeper.pid``, pid and start time, and lock it; errors: BlockingIOError, OSError.

    The lock keeps a second keeper away; the content lets a server find this one.
    """
    node.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd = os.open(node / "keeper.pid", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    stat = Path("/proc/self/stat").read_text()
    started = stat[stat.rindex(")") + 2 :].split()[19]
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()} {started}\n".encode(), 0)
    return fd


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the keeper; return its exit code."""
    logging.basicConfig(
        format="%(asctime)s keeper[%(process)d] %(levelname)s %(message)s", level=logging.INFO
    )
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="jobtasks-keeper", add_help=False, allow_abbrev=False)
    parser.add_argument("--node-dir", required=True, type=Path)
    node = parser.parse_known_args(given)[0].node_dir
    try:
        lock = claim(node)
        become_subreaper()
    except BlockingIOError:
        logger.error("another keeper has the node %s", node)
        return CANNOT_WORK
    except OSError as error:
        logger.error("cannot keep the node %s: %s", node, error)
        return CANNOT_WORK
    command = [sys.executable, "-m", "jobtasks.agent.main", *given, "--keeper", str(os.getpid())]
    try:
        return Keeper(node, command).run()
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
