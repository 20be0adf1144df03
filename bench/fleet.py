"""Simulated agents as the conductor sees them: the load generator's process."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.floor import TRUE
from bench.service import FINAL, Service

ROOT = Path(__file__).parents[1]
END_SECONDS = 60.0


class Fleet:
    """Agents that have joined a server.

    `children` is what the seed of a job creates, `task` the seconds that each child takes.
    """

    def __init__(
        self, service: Service, *, agents: int, slots: int, children: int, task: float
    ) -> None:
        self.slots = agents * slots
        self._service = service
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bench.load", service.url),
                *(f"--agents={agents}", f"--slots={slots}"),
                *(f"--children={children}", f"--task-seconds={task}"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._say(service.token("agent"))
        self._answer()

    def seen(self) -> dict[str, Any]:
        """Return what the agents did so far: see `bench.load.agents.Watched`."""
        self._say("")
        return self._answer()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the load generator has ended")
        found: dict[str, Any] = json.loads(line)
        return found

    def end(self) -> None:
        """Let the agents go."""
        self._process.communicate(timeout=END_SECONDS)


@contextlib.contextmanager
def fleet(
    service: Service, *, agents: int, slots: int, children: int, task: float = 0.0
) -> Iterator[Fleet]:
    """Let so many agents with so many slots each join; see `Fleet`."""
    found = Fleet(service, agents=agents, slots=slots, children=children, task=task)
    try:
        yield found
    finally:
        found.end()


def submit(service: Service) -> str:
    """Create a job whose tasks are ``/bin/true``, as far as the server knows."""
    return service.submit({"command": list(TRUE)})


def is_over(service: Service, job: str) -> bool:
    """Return whether a job is final."""
    found = service.call("GET", f"/jobs/{job}", params={"select": '["uuid","state"]'})
    return found["state"] in FINAL
