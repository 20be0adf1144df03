"""Exclusive tasks on two nodes (R34): an old process takes no step after the new one's first.

`EXCLUSIVE_ROUNDS` asks for more rounds than `ROUNDS` (``make torture``).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from .conftest import (
    QUICK,
    SCRIPTS,
    Api,
    Served,
    Start,
    agent_of,
    end_keeper,
    environment,
    keeper_of,
    wait_until,
)
from .line import Line

TASKS = 5
ROUNDS = int(os.environ.get("EXCLUSIVE_ROUNDS", "20"))
"""Each moves one task from node to node; they move by `TASKS`."""

SETTINGS = {**QUICK, "lease_seconds": 3.0, "renew_seconds": 0.3, "freeze_seconds": 1.0}
SETTINGS |= {"attempts_lost_max": 10_000, "start_within_seconds": 2.0}


class Node:
    """A keeper and its agent, and the line to their server."""

    def __init__(self, served: Served, folder: Path, name: str) -> None:
        self.state = folder / name
        self.line = Line(served.address)
        command = [sys.executable, "-m", "jobtasks.cli.main", "agent", "--server", self.line.url]
        command += ["--token-file", str(served.state / "agent.token"), "--slots", str(TASKS)]
        command += ["--node-dir", str(self.state / "node")]
        with (folder / f"{name}.stderr").open("wb") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, env=environment())
        self.agent = wait_until("an agent", lambda: agent_of(self.state))

    def lose(self, how: str) -> None:
        """Take it from the server."""
        if how == "cut":
            self.line.cut()
        else:
            os.kill(self.agent, signal.SIGSTOP)
        if how == "keeper stopped":
            self.line.cut()
            os.kill(self.process.pid, signal.SIGSTOP)
            os.kill(self.agent, signal.SIGCONT)

    def come_back(self) -> None:
        """Undo `lose`."""
        self.line.mend()
        os.kill(self.process.pid, signal.SIGCONT)
        os.kill(self.agent, signal.SIGCONT)

    def end(self) -> None:
        self.come_back()
        if keeper_of(self.state) is not None:
            end_keeper(self.state)
        self.process.wait()
        self.line.close()


@pytest.fixture
def served(start: Start) -> Served:
    return start("--no-agent", settings=SETTINGS)


AddNode = Callable[[str], Node]


@pytest.fixture
def add_node(served: Served, tmp_path: Path) -> Iterator[AddNode]:
    """Start nodes; each could take all tasks."""
    found: list[Node] = []

    def add(name: str) -> Node:
        found.append(Node(served, tmp_path, name))
        return found[-1]

    yield add
    for node in found:
        node.end()


class Moving:
    """A job of exclusive tasks that take steps until they are told to end."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._steps = folder / "steps"
        self._end = folder / "end"
        self._steps.touch()
        places = {"steps": str(self._steps), "end": str(self._end)}
        stepping = {"command": [str(SCRIPTS / "stepper.py")]}
        play = [["create_times", TASKS, stepping], ["complete", None]]
        parameters = {"places": places, "seed": [play], "witness": str(folder / "witness")}
        body = {
            "script": "actor.py",
            "script_version": str(SCRIPTS),
            "script_parameters": parameters,
            "runtime_constraints": {"exclusive": True},
        }
        self.uuid = api.post("/jobs", body)["uuid"]

    def steps(self) -> list[list[str]]:
        """Return (task, attempt) of each step so far, in order."""
        text = self._steps.read_text()
        return [line.split() for line in text[: text.rfind("\n") + 1].splitlines()]

    def taken_by(self, attempt: int) -> bool:
        """Has each task taken a step in this attempt or a later one?"""
        newest = {task: int(number) for task, number in self.steps()}
        return len(newest) == TASKS and min(newest.values()) >= attempt

    def end(self) -> None:
        """Let all tasks complete."""
        self._end.touch()
        assert self._api.final(self.uuid)["state"] == "Complete"

    def late_steps(self) -> list[Any]:
        """Return each step that was taken after the first step of a later attempt."""
        newest: dict[str, int] = {}
        late = []
        for task, number in self.steps():
            newest[task] = max(newest.get(task, 0), int(number))
            if int(number) < newest[task]:
                late.append((task, number, newest[task]))
        return late


@pytest.mark.rule("R34")
def test_no_step_after_the_new_ones_first(
    served: Served, add_node: AddNode, tmp_path: Path
) -> None:
    """Agents stopped, lines cut, keepers stopped: 20 moves, and no late step."""
    with served.api() as api:
        first = add_node("left")
        job = Moving(api, tmp_path)
        wait_until("first steps", lambda: job.taken_by(1))
        nodes = [first, add_node("right")]
        wait_until("both nodes", lambda: live_nodes(api) == 2)
        for attempt in range(2, ROUNDS // TASKS + 2):
            node = nodes[attempt % 2]
            node.lose(("agent stopped", "cut", "keeper stopped")[attempt % 3])
            wait_until(f"steps of round {attempt}", partial(job.taken_by, attempt))
            node.come_back()
            wait_until("its return", lambda: live_nodes(api) == 2)
        job.end()
        assert job.late_steps() == []
        assert len(job.steps()) > 10 * ROUNDS


def live_nodes(api: Api) -> int:
    return sum(node["state"] in ("live", "busy") for node in api.get("/nodes")["items"])


@pytest.mark.rule("R33", "R34")
def test_a_server_that_stands_still_costs_nothing(
    served: Served, add_node: AddNode, tmp_path: Path
) -> None:
    """Stopped for longer than a lease: the tasks stand still, and go on in the same attempt."""
    with served.api() as api:
        add_node("left")
        job = Moving(api, tmp_path)
        wait_until("first steps", lambda: job.taken_by(1))
        add_node("right")
        wait_until("both nodes", lambda: live_nodes(api) == 2)
        served.process.send_signal(signal.SIGSTOP)
        seen = [-1, len(job.steps())]

        def stands() -> bool:
            seen.append(len(job.steps()))
            return len(seen) > 200 and seen[-1] == seen[-200]

        wait_until("nobody takes steps", stands)
        served.process.send_signal(signal.SIGCONT)
        count = len(job.steps())
        wait_until("further steps", lambda: len({t for t, _ in job.steps()[count:]}) == TASKS)
        job.end()
        assert {number for _, number in job.steps()} == {"1"}
