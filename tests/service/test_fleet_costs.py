"""What many nodes cost: a sync as much as with few, what looks at every node so much for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from jobtasks.core.constraints import Needs
from jobtasks.protocol.messages import Ended, EndKind
from jobtasks.service import fleet, jobs, nodes, shapes, tokens
from jobtasks.service.context import Context
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, LocalService

from .costs import Cost, cost_of

FEW, MANY = 10, 200


class Fleet(NamedTuple):
    """Nodes of which each has one task that runs and one free slot."""

    path: Path
    service: LocalService
    agents: list[SimulatedAgent]

    def cost_of(self, work: Callable[[Context], int]) -> Cost:
        """Return what `work` takes."""
        return cost_of(self.service, self.path, work)


def make(path: Path, count: int) -> Fleet:
    service = LocalService(path)
    agents = [SimulatedAgent(service, f"n{number}", slots=2) for number in range(count)]
    service.started_job()
    seed = agents[0].take_one()
    agents[0].create(seed, *[{}] * count)
    agents[0].write(seed, success=True)
    agents[0].end(seed)
    for agent in agents:
        agent.sync(free_slots=[1])
        assert len(agent.running) == 1
    return Fleet(path, service, agents)


@pytest.fixture(scope="module")
def fleets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Fleet, Fleet]]:
    """Few nodes, and many."""
    folder = tmp_path_factory.mktemp("fleet")
    made = make(folder / "few.db", FEW), make(folder / "many.db", MANY)
    yield made
    for each in made:
        each.service.close()


@pytest.mark.rule("R33")
def test_a_renewal_costs_the_same(fleets: tuple[Fleet, Fleet]) -> None:
    """Whose lease is renewed, with a free slot and nothing to do: six statements."""

    def cost(many: Fleet) -> Cost:
        message = many.agents[-1].message()
        assert message.running and message.free_slots

        def sync(ctx: Context) -> int:
            orders = nodes.sync(ctx, tokens.identify(ctx, AGENT_TOKEN), message)
            assert orders.renewed
            return len(orders.start)

        return many.cost_of(sync)

    few, many = cost(fleets[0]), cost(fleets[1])
    assert few.statements == many.statements <= 6
    assert many.steps <= few.steps * 1.1


@pytest.mark.rule("R18")
def test_a_start_looks_at_sizes_not_at_nodes(fleets: tuple[Fleet, Fleet]) -> None:
    """A queued job that one node is enough for: each node is a row, nothing is counted."""

    def start(ctx: Context) -> int:
        jobs.start_queued(ctx)
        return 0

    for each in fleets:
        each.service.new_job(runtime_constraints={"min_ram_per_task": 2_000_000})
    few, many = (each.cost_of(start) for each in fleets)
    assert few.statements == many.statements
    assert many.steps - few.steps <= 45 * (MANY - FEW)


@pytest.mark.rule("R18")
def test_many_jobs_start_in_slices() -> None:
    """When the first node joins, the writer is free between them; the oldest start first."""
    service = LocalService()
    made = [service.new_job().uuid for _ in range(2 * jobs.STARTS_MAX + 5)]
    SimulatedAgent(service, slots=1)
    started = []
    while service.tick() == 0:
        started.append(service.rows("SELECT uuid FROM job WHERE state = 'Running' ORDER BY id"))
    assert [len(found) for found in started] == [jobs.STARTS_MAX, 2 * jobs.STARTS_MAX]
    assert started[0] == [(uuid,) for uuid in made[: jobs.STARTS_MAX]]
    assert service.rows("SELECT count(*) FROM job WHERE state = 'Running'") == [(len(made),)]
    service.close()


@pytest.mark.rule("R18")
def test_jobs_alike_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tick with many jobs for which no node is large enough works out what each kind needs."""
    looked = []
    needs_of_job = shapes.needs_of_job

    def noted(constraints: str) -> Needs:
        looked.append(constraints)
        return needs_of_job(constraints)

    monkeypatch.setattr(shapes, "needs_of_job", noted)
    service = LocalService()
    SimulatedAgent(service, slots=1)
    for number in range(60):
        service.new_job(runtime_constraints={"min_ram_per_task": 2_000_000 + number % 3})
    looked.clear()
    service.tick()
    assert len(looked) == 3
    service.close()


@pytest.mark.rule("R12", "R16")
def test_a_failure_counts_nodes_by_their_sizes(fleets: tuple[Fleet, Fleet]) -> None:
    """Whether there is another node to try: each node is a row, whatever runs there."""

    def cost(each: Fleet) -> Cost:
        agent = each.agents[-1]
        (attempt,) = agent.running
        failed = Ended(attempt, EndKind.EXIT, exit_code=1)
        message = agent.message(ended=[failed], running=[], free_slots=[])

        def sync(ctx: Context) -> int:
            return len(nodes.sync(ctx, tokens.identify(ctx, AGENT_TOKEN), message).acknowledged)

        return each.cost_of(sync)

    few, many = cost(fleets[0]), cost(fleets[1])
    assert (few.result, many.result) == (1, 1)
    assert few.statements == many.statements
    assert many.steps - few.steps <= 3 * 45 * (MANY - FEW)


@pytest.mark.rule("R12", "R16")
def test_nodes_are_counted_one_by_one(fleets: tuple[Fleet, Fleet]) -> None:
    """What has room: each node by what is on it, not by what is on all."""
    few, many = (each.cost_of(lambda ctx: len(fleet.usable_nodes(ctx))) for each in fleets)
    assert (few.result, many.result) == (FEW, MANY)
    assert (few.statements, many.statements) == (1, 1)
    assert many.steps / MANY <= few.steps / FEW * 1.1
