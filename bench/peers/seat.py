"""A peer as the conductor sees it: a process in the peer's own virtual environment."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.peers.base import ROOT

ENVIRONMENTS = ROOT / ".peers"
REQUIREMENTS = Path(__file__).with_name("requirements")
WITHOUT = ("parallel", "xargs", "slurm")
"""Peers that need no virtual environment: programs of the system."""
NAMES = (
    *("hyperqueue", "ray", "dask", "parsl", "celery", "dramatiq", "huey", "procrastinate"),
    *WITHOUT,
)
TITLES = {
    "hyperqueue": "HyperQueue",
    "ray": "Ray",
    "dask": "Dask",
    "parsl": "Parsl",
    "celery": "Celery",
    "dramatiq": "Dramatiq",
    "huey": "Huey",
    "procrastinate": "Procrastinate",
    "parallel": "GNU parallel",
    "xargs": "xargs",
    "slurm": "Slurm",
}
END_SECONDS = 60.0
ANSWER_SECONDS = 1200.0
"""How long a call may take."""


class PeerFailed(Exception):
    """A peer could not do what it was told."""


def interpreter(name: str) -> Path:
    """Return the interpreter that plays a peer."""
    if name in WITHOUT:
        return Path(sys.executable)
    return ENVIRONMENTS / name / "bin" / "python"


class Seat:
    """One peer's process."""

    def __init__(self, name: str, folder: Path) -> None:
        python = interpreter(name)
        if not python.exists():
            raise PeerFailed(f"not set up: python -m bench.peers --setup {name}")
        self.title = TITLES[name]
        self._log = folder / "peer.log"
        # Peers start their own programs by name.
        path = f"{python.parent}:{os.environ['PATH']}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(python), "-m", "bench.peers.host", name, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
            )

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the adapter; return its result."""
        return self._exchange(method, *arguments)["result"]

    def seconds(self, method: str, *arguments: Any) -> float:
        """Call a method of the adapter; return how long it took."""
        return float(self._exchange(method, *arguments)["seconds"])

    def _exchange(self, *message: Any) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        # Each answer is one line, so nothing of an earlier one is left in the buffer.
        if not select.select([self._process.stdout], [], [], ANSWER_SECONDS)[0]:
            raise PeerFailed(f"no answer to {message[0]} for {ANSWER_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise PeerFailed(f"it has ended: {self._log.read_text(errors='replace')[-300:]}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise PeerFailed(found["error"])
        return found

    def end(self) -> None:
        """Let the peer stop its servers, and go; at TERM it does so, too."""
        for number in (None, signal.SIGTERM, signal.SIGKILL):
            if number is not None:
                self._process.send_signal(number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.communicate(timeout=END_SECONDS)
                return


@contextlib.contextmanager
def seated(name: str, slots: int) -> Iterator[Seat]:
    """Start a peer with so many slots; end it afterwards.

    Raises:
        PeerFailed: it is not set up, or does not start.
    """
    with tempfile.TemporaryDirectory(prefix="bench-peer-", ignore_cleanup_errors=True) as folder:
        # Some peers' servers run as another user.
        Path(folder).chmod(0o755)
        seat = Seat(name, Path(folder))
        try:
            seat.call("start", slots)
            yield seat
        finally:
            seat.end()
