"""Random mixes of gangs and single tasks on eight nodes (R18, R25–R28).

None waits for ever, none is overtaken past its bound, and no node has more than it can.

`GANG_SEED` repeats a run of one mix.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from tests.rounds import rounds

from jobtasks.protocol.messages import EndKind
from jobtasks.service import jobs
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import SCRIPT, LocalService

NODES = 8
MEMORY_KIB = 1000
STEPS_MAX = 5000
SEED = os.environ.get("GANG_SEED")


class Mix:
    """Jobs of some users on nodes of several sizes; time is what happens."""

    def __init__(self, seed: str) -> None:
        self.chance = random.Random(seed)
        self.service = LocalService()
        self.agents = [
            SimulatedAgent(self.service, f"n{place}", slots=self.slots(), memory_kib=MEMORY_KIB)
            for place in range(NODES)
        ]
        tokens = [self.service.new_user(name) for name in ("ada", "bob")]
        self.jobs = [self.submit(self.chance.choice(tokens)) for _ in range(4)]
        self.gathering: int | None = None
        self.before: set[int] = set()
        self.gangs = 0

    def slots(self) -> int:
        return self.chance.randint(1, 4)

    def submit(self, token: str) -> str:
        """Submit a job whose seed will create tasks of all kinds."""
        constraints = self.chance.choice([{}, {}, {"max_tasks_per_node": 2}, {"min_nodes": 2}])
        attributes = {"priority": self.chance.choice([0, 0, 1]), "runtime_constraints": constraints}
        return self.service.as_token(token, jobs.create, {**SCRIPT, **attributes}).uuid

    def task(self) -> dict[str, Any]:
        """Return a new task: every third is a gang, some want much memory."""
        needs: dict[str, Any] = {}
        if self.chance.random() < 1 / 3:
            needs["min_nodes"] = self.chance.randint(2, NODES)
        if self.chance.random() < 1 / 2:
            needs["min_ram_per_task"] = self.chance.choice([100, 400, 900])
        return {"sequence": self.chance.randint(1, 3), "runtime_constraints": needs}

    @property
    def running(self) -> list[tuple[SimulatedAgent, int]]:
        return [(agent, attempt) for agent in self.agents for attempt in agent.running]

    def everybody_asks(self) -> None:
        """All nodes sync; twice, since a gang that begins to gather wakes those that wait."""
        self.service.tick()
        for _ in range(2):
            for agent in self.chance.sample(self.agents, NODES):
                for stop in agent.sync().stop:
                    agent.end(agent.running[stop.attempt], EndKind.STOPPED)
        assert self.service.write(counter_problems) == {}
        self.check_bound()

    def check_bound(self) -> None:
        """A gang starts at the latest when all that ran as it began to gather has ended."""
        found = self.service.rows("SELECT task_id FROM gathering")
        task = int(found[0][0]) if found else None
        live = {attempt for _, attempt in self.running}
        if task != self.gathering:
            self.gangs += self.gathering is not None
            self.gathering, self.before = task, live
        assert task is None or self.before & live, f"task {task} has not started"

    def end_one(self) -> None:
        """One task ends: most complete, some fail once; a seed creates its tasks before."""
        agent, attempt = self.chance.choice(self.running)
        assignment = agent.running[attempt]
        if assignment.sequence == 0:
            agent.create(assignment, *(self.task() for _ in range(self.chance.randint(5, 12))))
        if assignment.number == 1 and self.chance.random() < 1 / 10:
            agent.crash(assignment)
        else:
            agent.complete(assignment)

    def lose_one(self) -> None:
        """A node goes and comes back; what ran there is lost, with the gangs it was in."""
        agent = self.chance.choice(self.agents)
        agent.sync(leaving=True)
        agent.running.clear()
        agent.ended.clear()
        self.service.tick()
        agent.join()
        self.gathering = None

    def play(self) -> None:
        """Let everything end, in any order."""
        for _ in range(STEPS_MAX):
            self.everybody_asks()
            states = [self.service.job(job).state for job in self.jobs]
            if states == ["Complete"] * len(states):
                return
            if not self.running:
                due = self.service.rows("SELECT count(*) FROM requeue WHERE due = 0")[0][0]
                waits = self.service.rows("SELECT count(*) FROM requeue WHERE avoid_until > 0")
                assert due or waits[0][0], f"nothing runs and nothing is about to: {states}"
                self.service.pass_seconds(400 if not due else 20, *self.agents)
            elif self.chance.random() < 1 / 40:
                self.lose_one()
            else:
                self.end_one()
            self.service.pass_seconds(1, *self.agents)
        raise AssertionError(f"not over after {STEPS_MAX} steps: {states}")


@pytest.mark.timeout(0)
@pytest.mark.rule("R18", "R25", "R26", "R27", "R28")
def test_gangs_and_singles_all_start() -> None:
    """No mix stands still; of all of them together many gangs have gathered."""
    gangs = 0
    for number in rounds("gangs and singles", small=8, large=200):
        seed = SEED or str(number)
        print(f"GANG_SEED={seed}")
        mix = Mix(seed)
        try:
            mix.play()
        finally:
            mix.service.close()
        gangs += mix.gangs
    assert gangs > 20
