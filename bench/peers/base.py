"""What a peer is, and how its servers are started and ended."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
END_SECONDS = 10.0
START_SECONDS = 60.0
RESULT_SECONDS = 600.0


class Missing(Exception):
    """Something that the peer needs is not installed."""


class Adapter:
    """One peer."""

    setting = ""
    """How it was configured, for readers."""
    share = 1.0
    """Of the tasks of a workload, for a peer that would take too long with all."""
    tree_share = 1.0
    """The same for a tree of tasks."""
    count_min = 20
    """Tasks that it gets at least."""
    has_tree = True
    """Whether it has means to create tasks from a task, and to run one after all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def version(self) -> str:
        """Return the version that is installed."""
        raise NotImplementedError

    def start(self, slots: int) -> None:
        """Start servers and workers for so many tasks at a time; return when they are ready."""

    def run_commands(self, count: int, command: list[str]) -> None:
        """Run a command so many times; return when all have ended."""
        raise NotImplementedError

    def run_tree(self, count: int) -> None:
        """Let a task create so many ``/bin/true``, and run one task after all of them."""
        raise NotImplementedError

    def run_one(self, command: list[str]) -> None:
        """Run a command once; return as soon as its end is known."""
        self.run_commands(1, command)

    def stop(self) -> None:
        """End what was started, newest first."""
        while self._processes:
            end(self._processes.pop())

    def spawn(
        self, name: str, command: Sequence[str], **environment: str
    ) -> subprocess.Popen[bytes]:
        """Start a server; its output goes to a file of its name, it ends with the peer."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                start_new_session=True,
            )
        self._processes.append(process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and what it left in its session, which is of our making."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def beside_python(name: str) -> str:
    """Return the path of a program of the peer's virtual environment."""
    return str(Path(sys.executable).parent / name)


def program(name: str, *, package: str) -> str:
    """Return the path of a program of a Debian package."""
    for folder in (*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"):
        if os.access(path := f"{folder}/{name}", os.X_OK):
            return path
    raise Missing(f"{name} is not installed (Debian: {package})")


def free_port() -> int:
    """Return a port on the loopback that nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def wait_for(what: str, holds: Callable[[], object], seconds: float = START_SECONDS) -> None:
    """Wait until something holds."""
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            raise TimeoutError(what)
        time.sleep(0.02)


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on a port of the loopback."""

    def listens() -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    wait_for(f"port {port}", listens)


def wait_for_file(path: Path, step: float = 0.0002) -> None:
    """Wait until a task has made a file; remove it."""
    until = time.monotonic() + RESULT_SECONDS
    while not path.exists():
        if time.monotonic() > until:
            raise TimeoutError(f"{path.name} was not made")
        time.sleep(step)
    path.unlink()
