"""kill -9 of the server, of agents and of keepers while many nodes run a job of five sequences.

`KILL_SEED` repeats a run.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, note, rounds

from .conftest import QUICK, SCRIPTS, Acted, Api, Play, Served, Start, acting, wait_until
from .killing import SEED, moments
from .nodes import Node, await_nodes, nodes_of, own_address
from .witness import Record

KILLS = 10
"""In each job."""
TIMEOUT_SECONDS = 240 + 2 * LIMIT_SECONDS
SEQUENCES = 5
CREATORS = 4
GRANDCHILDREN = 5
LOSSES = {"attempts_lost_max": 10_000}
"""Here no task is to blame for the deaths of its agents."""


class Staged(Acted):
    """A job of five sequences, nearly all of whose tasks are light; some create others."""

    def __init__(self, api: Api, folder: Path, tasks: int) -> None:
        later = [
            {"sequence": sequence} for sequence in range(2, SEQUENCES) for _ in range(GRANDCHILDREN)
        ]
        creators = [acting(["create", *later], ["complete"])] * CREATORS
        each = (tasks - 1 - CREATORS * (1 + len(later))) // (SEQUENCES - 1)
        play: Play = [["create", *creators]]
        play += [["create_times", each, {"sequence": number}] for number in range(1, SEQUENCES)]
        super().__init__(api, folder, [*play, ["complete"]], script=SCRIPTS / "light.sh")
        self.count = 1 + CREATORS * (1 + len(later)) + each * (SEQUENCES - 1)

    def reaches(self, starts: int) -> None:
        """Wait until so many processes have started."""
        wait_until(f"{starts} processes", lambda: self.witness.count() >= starts, 200)

    def ended(self) -> list[Record]:
        """Wait for its end, check that nothing was lost and nothing is twice; return the tasks."""
        self.final(seconds=200)
        tasks = self.tasks()
        assert len(tasks) == self.count
        assert [task["output"] for task in tasks] == [
            f"{task['uuid']} {task['attempts']}" for task in tasks
        ]
        assert self.record["tasks_summary"] == {
            "todo": 0,
            "running": 0,
            "failed": 0,
            "done": self.count,
        }
        return tasks


class Campaign:
    """Kills at random moments of jobs that come one after the other, and what they cost."""

    def __init__(self, row: str, served: Served, folder: Path) -> None:
        print(f"KILL_SEED={SEED}")
        self.served = served
        """The server that there is now."""
        self.chance = random.Random(f"{SEED} {row}")
        self.figures = {"tasks": 0, "processes": 0, "attempts_lost": 0}
        self._row = row
        self._folder = folder

    def run(self, small: int, large: int, tasks: int, kill: Callable[[], None]) -> None:
        """Kill so often; each `KILLS` times come in a job of so many tasks."""
        moments_left: list[int] = []
        for _ in rounds(self._row, small, large):
            if not moments_left:
                with self.served.api() as api:
                    job = Staged(api, self._folder, tasks)
                moments_left = moments(self.chance, KILLS, job.count)
            job.reaches(moments_left.pop(0))
            kill()
            if not moments_left:
                self._end(job)
        if moments_left:
            self._end(job)
        note(self._row, **self.figures)

    def _end(self, job: Staged) -> None:
        with self.served.api() as api:
            job.api = api
            tasks = job.ended()
        self.figures["tasks"] += len(tasks)
        self.figures["processes"] += job.witness.count()
        self.figures["attempts_lost"] += sum(task["failed_count"] for task in tasks)


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R3", "R5", "R6", "R10", "R33", "R37")
def test_kills_of_the_server(start: Start, tmp_path: Path) -> None:
    """Four nodes run on: every task once, each sequence after the one before, no attempt lost."""
    address = own_address()
    campaign = Campaign("kills of the server", start("--no-agent", listen=address), tmp_path)

    def kill() -> None:
        campaign.served.kill()
        campaign.served = start("--no-agent", listen=address)

    with nodes_of(campaign.served, tmp_path) as add:
        for number in range(4):
            add(f"node-{number}", slots=2)
        campaign.run(6, 100, 1000 if IS_TORTURE else 300, kill)
    assert campaign.figures["attempts_lost"] == 0
    assert campaign.figures["processes"] == campaign.figures["tasks"]


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R3", "R4", "R5", "R6", "R10", "R12", "R36", "R37")
def test_kills_of_agents_and_keepers(start: Start, tmp_path: Path) -> None:
    """Many nodes: what they lose runs again, and every task is accepted once, in order."""
    served = start("--no-agent", settings={**QUICK, **LOSSES})
    campaign = Campaign("kills of agents and keepers", served, tmp_path)
    nodes: list[Node] = []
    count = 20 if IS_TORTURE else 10

    def kill() -> None:
        whole = wait_until("whom to kill", lambda: [node for node in nodes if node.is_whole()])
        node = campaign.chance.choice(whole)
        campaign.chance.choice([node.kill_agent, node.kill_keeper, node.kill_both])()

    with nodes_of(served, tmp_path) as add:
        nodes += [add(f"node-{number}", slots=1 + number % 2) for number in range(count)]
        with served.api() as api:
            await_nodes(api, len(nodes))
        campaign.run(12, 500, 400 if IS_TORTURE else 200, kill)
