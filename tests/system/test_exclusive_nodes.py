"""Exclusive tasks on two nodes (R34): an old process takes no step after the new one's first."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, rounds

from .conftest import QUICK, SCRIPTS, Api, Served, Start, wait_until
from .nodes import AddNode, Node, await_nodes, nodes_of

TASKS = 20 if IS_TORTURE else 5
"""They move from node to node together."""
MOVE_SECONDS_MAX = 150.0
"""On a machine that is busy a task that starts late is given back and comes again, many times."""

SETTINGS = {**QUICK, "lease_seconds": 3.0, "renew_seconds": 0.3, "freeze_seconds": 1.0}
SETTINGS |= {"attempts_lost_max": 10_000, "start_within_seconds": 2.0}


@pytest.fixture
def served(start: Start) -> Served:
    return start("--no-agent", settings=SETTINGS)


@pytest.fixture
def add_node(served: Served, tmp_path: Path) -> Iterator[AddNode]:
    """Start nodes with lines of their own; each could take all tasks."""
    with nodes_of(served, tmp_path) as add:
        yield partial(add, slots=TASKS, has_line=True)


class Moving:
    """A job of exclusive tasks that take steps until they are told to end."""

    def __init__(self, api: Api, folder: Path) -> None:
        self._api = api
        self._steps = folder / "steps"
        self._end = folder / "end"
        self._steps.touch()
        self._read = 0
        self._seen: list[list[str]] = []
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
        with self._steps.open() as file:
            file.seek(self._read)
            text = file.read()
        whole = text[: text.rfind("\n") + 1]
        self._read += len(whole)
        self._seen += [line.split() for line in whole.splitlines()]
        return self._seen

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


@pytest.mark.timeout(600 + 2 * LIMIT_SECONDS)
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
        await_nodes(api, 2)
        moved = 0
        for moved in rounds("exclusive moves", 20, 1000):
            if moved % TASKS == 0:
                move(api, job, nodes, moved // TASKS + 2)
                assert job.late_steps() == []
        job.end()
        assert job.late_steps() == []
        assert len(job.steps()) > 10 * moved


def move(api: Api, job: Moving, nodes: list[Node], attempt: int) -> None:
    """Take the node that has the tasks from the server until the other has begun with them."""
    node = nodes[attempt % 2]
    node.lose(("agent stopped", "cut", "keeper stopped")[attempt % 3])
    wait_until(f"steps of attempt {attempt}", lambda: job.taken_by(attempt), MOVE_SECONDS_MAX)
    node.come_back()
    await_nodes(api, 2)


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
        await_nodes(api, 2)
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
