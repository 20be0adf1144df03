"""Agents that claim at once, at two servers of one PostgreSQL database."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice

import pytest
from tests.databases import Cluster

from jobtasks.core.identifiers import UuidMaker
from jobtasks.service import setup
from jobtasks.service.soundness import contradictions
from jobtasks.store.postgres import PostgresStore
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

AGENTS = 8
TASKS = 60
TURNS_MAX = 1000


@pytest.fixture
def servers(postgres: Cluster) -> Iterator[list[LocalService]]:
    """Two servers on a new database."""
    address = postgres.new_database()
    found = [LocalService(store=PostgresStore(address)) for _ in range(2)]
    for number, server in enumerate(found):
        server.world.uuids = UuidMaker(setup.PREFIX, random.Random(f"{number}").randrange)
    yield found
    for server in found:
        server.close()


@pytest.mark.rule("R18", "R32")
def test_no_task_is_claimed_twice(servers: list[LocalService]) -> None:
    """Eight agents take and complete what there is, as fast as they can: no deadlock, no error,
    each task once.
    """
    agents = [
        SimulatedAgent(server, f"n{number}", slots=2)
        for number, server in enumerate(islice(cycle(servers), AGENTS))
    ]
    first = servers[-1]  # the manager: it took over last
    job = first.started_job()
    seed = next(one for agent in agents for one in agent.take())
    creator = next(agent for agent in agents if seed.attempt in agent.running)
    creator.create(seed, *[{}] * TASKS)
    creator.complete(seed)
    claimed: Counter[str] = Counter()

    def work(agent: SimulatedAgent) -> None:
        for _ in range(TURNS_MAX):
            for assignment in agent.take():
                claimed[assignment.task] += 1
                agent.complete(assignment)
            if first.job(job).state != "Running":
                return

    with ThreadPoolExecutor(AGENTS) as pool:
        list(pool.map(work, agents))
    assert first.job(job).state == "Complete"
    assert (len(claimed), claimed.total()) == (TASKS, TASKS)
    assert first.write(contradictions) == {}
