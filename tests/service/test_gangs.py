"""Tasks that take several nodes at once (R25, R26)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobtasks.core.constraints import Needs
from jobtasks.core.errors import Invalid
from jobtasks.core.sharing import gang_nodes
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import explain, jobs, steering
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

pytestmark = pytest.mark.rule("R25")

GANG = {"runtime_constraints": {"min_nodes": 2}}


def gang(nodes: int, **constraints: Any) -> dict[str, Any]:
    """Return a new task of so many nodes."""
    return {"runtime_constraints": {"min_nodes": nodes, **constraints}}


def agents_of(service: LocalService, count: int, **size: Any) -> list[SimulatedAgent]:
    """Return so many nodes, n0, n1, ..., of one slot each by default."""
    return [SimulatedAgent(service, f"n{place}", **{"slots": 1, **size}) for place in range(count)]


def grown(
    service: LocalService, agent: SimulatedAgent, *items: dict[str, Any], **job: Any
) -> tuple[JobRecord, list[str]]:
    """Return a running job whose seed has created these tasks, and their uuids."""
    found = service.started_job(**job)
    return found, agent.grow(*items)


def take_all(agents: list[SimulatedAgent]) -> list[tuple[SimulatedAgent, Assignment]]:
    """Let every node ask for work twice, as those do that wait; return what starts, and where."""
    return [(agent, one) for _ in range(2) for agent in agents for one in agent.take()]


def why(service: LocalService, task: str) -> list[str]:
    return [reason.code for reason in service.call(explain.task_reasons, task)]


def test_a_gang_takes_its_nodes_at_once(service: LocalService) -> None:
    """One slot on each; the process starts on one, and knows the others."""
    agents = agents_of(service, 3)
    job, (task,) = grown(service, agents[0], gang(3))
    ((agent, started),) = take_all(agents)
    assert started.task == task
    assert started.nodes[0] == f"{agent.node}.example"
    assert sorted(started.nodes) == [f"n{place}.example" for place in range(3)]
    assert str(service.job(job).node_uuids).count("7ekkf") == 3
    assert service.rows("SELECT slots, live FROM tally") == [(3, 1)]
    assert take_all(agents) == []
    service.wake.clear()
    agent.complete(started)
    assert "nodes" in service.wake
    assert service.job(job).state == "Complete"
    assert service.rows("SELECT slots, live FROM tally") == [(0, 0)]
    service.call(jobs.delete, job.uuid)
    while service.tick() == 0:
        pass
    assert service.rows("SELECT * FROM seat") == []


def test_nothing_else_starts_on_a_seat(service: LocalService) -> None:
    """The other slots of its nodes are for everybody."""
    agents = agents_of(service, 2, slots=2)
    grown(service, agents[0], GANG, {}, {}, {})
    found = take_all(agents)
    assert [len(one.nodes) for _, one in found].count(2) == 1
    assert len(found) == 3
    slots = service.rows("SELECT node_id, slot FROM occupancy")
    assert sorted(slots) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_slots_are_kept_while_a_gang_gathers(service: LocalService) -> None:
    """On each node that would do the first that is free; tasks behind it wait or go elsewhere."""
    agents = agents_of(service, 3, slots=2)
    job, uuids = grown(service, agents[0], {}, {}, {}, {}, {}, {}, gang(3), {}, {})
    first = take_all(agents)
    assert [one.task for _, one in first] == uuids[:6]
    agents[0].complete(first[0][1])
    assert take_all(agents) == []
    assert why(service, uuids[6]) == ["gang_gathering"]
    (reason,) = service.call(explain.task_reasons, uuids[6])
    assert reason.details["nodes"] == ["n0.example"]
    assert why(service, uuids[7]) == ["nodes_busy", "nodes_kept"]
    agents[0].complete(first[1][1])
    assert [one.task for _, one in take_all(agents)] == [uuids[7]]
    agents[1].complete(next(iter(agents[1].running.values())))
    assert take_all(agents) == []
    agents[2].complete(next(iter(agents[2].running.values())))
    assert [one.task for _, one in take_all(agents)] == [uuids[6]]
    assert service.job(job).running_tasks == 4


def test_memory_is_kept_too(service: LocalService) -> None:
    """Until enough of it is free on each node; what asks for none is not kept waiting."""
    agents = agents_of(service, 2, slots=8, memory_kib=1000)
    half, much = {"min_ram_per_task": 500}, gang(2, min_ram_per_task=800)
    items = [{"runtime_constraints": half}] * 2
    _, uuids = grown(service, agents[0], *items, much, *items, {})
    started = take_all([agents[0]])
    assert [one.task for _, one in started] == [*uuids[:2], uuids[5]]
    agents[0].complete(started[0][1])
    assert take_all(agents) == []
    agents[0].complete(started[1][1])
    assert [one.task for _, one in take_all(agents)] == [uuids[2]]
    reserved = service.rows("SELECT node_id, memory_kib FROM occupancy WHERE memory_kib > 0")
    assert sorted(reserved) == [(1, 800), (2, 800)]


def test_one_gang_gathers_at_a_time(service: LocalService) -> None:
    """The first in the order of claims; the next when it has started."""
    agents = agents_of(service, 4)
    _, (first, second, third) = grown(service, agents[0], gang(3), gang(2), gang(4))
    agents[0].take()
    assert [why(service, task) for task in (first, second, third)] == [
        *(["gang_gathering"], ["gang_waits"], ["gang_waits"]),
    ]
    started = [one.task for _, one in take_all(agents)]
    assert started == [first]
    assert why(service, second) == ["gang_gathering"]
    for agent in agents:
        for one in list(agent.running.values()):
            agent.complete(one)
    assert [one.task for _, one in take_all(agents)] == [second]


def test_a_gang_that_no_nodes_would_do_for_keeps_none(service: LocalService) -> None:
    """Too few, held, draining, or avoided: others go on, and it says why it waits."""
    agents = agents_of(service, 3)
    _, uuids = grown(service, agents[0], gang(4), gang(3), {}, {}, {})
    service.call(steering.drain, node_uuid(service, "n2"))
    assert [one.task for _, one in take_all(agents)] == uuids[2:4]
    assert why(service, uuids[0]) == ["too_few_nodes"]
    assert why(service, uuids[1]) == ["nodes_draining"]


def node_uuid(service: LocalService, name: str) -> str:
    ((uuid,),) = service.rows("SELECT uuid FROM node WHERE lasting_id = :name", name=name)
    return str(uuid)


@pytest.mark.parametrize("how", ["cancelled", "node gone", "held", "lower sequence"])
def test_a_gang_that_may_not_start_any_more_keeps_nothing(service: LocalService, how: str) -> None:
    """The manager sees it at its next look."""
    agents = agents_of(service, 2, slots=2)
    job, (other, task) = grown(service, agents[0], {}, GANG)
    (running,) = agents[0].take()
    assert running.task == other
    assert why(service, task) == ["gang_gathering"]
    if how == "cancelled":
        service.call(jobs.cancel, job.uuid, None)
    elif how == "node gone":
        agents[1].sync(leaving=True)
    elif how == "held":
        service.call(steering.hold, node_uuid(service, "n1"))
    else:
        agents[0].create(running, {"sequence": 0})
        agents[0].complete(running)
    service.tick()
    assert service.rows("SELECT * FROM gathering") == []
    assert service.rows("SELECT * FROM kept") == []
    second = service.started_job()
    assert second.uuid in [one.job for one in agents[0].take()]


def test_a_lost_node_ends_its_gang(service: LocalService) -> None:
    """As if its own were lost: stopped, tried again without delay, of the budget for losses."""
    agents = agents_of(service, 3)
    _, (task,) = grown(service, agents[0], GANG)
    ((agent, started),) = take_all(agents[:2])
    seat = next(one for one in agents[:2] if one is not agent)
    service.wake.clear()
    seat.sync(leaving=True)
    assert started.job in service.wake
    assert service.task(task).state == 1
    orders = agent.sync()
    assert [stop.attempt for stop in orders.stop] == [started.attempt]
    agent.end(started, EndKind.STOPPED)
    (attempt,) = service.attempts(task)
    assert (attempt.cause, attempt.counted) == ("agent_lost", 1)
    assert "a node of its gang is gone" in (service.task(task).failed_log or "")
    assert service.task(task).failed_count == 1
    left = [one for one in agents if one is not seat]
    ((_, again),) = take_all(left)
    assert (again.task, again.number) == (task, 2)


@pytest.mark.rule("R10")
@pytest.mark.parametrize(("exit_code", "state"), [(0, 2), (1, 0)])
def test_a_command_that_loses_a_node(service: LocalService, exit_code: int, state: int) -> None:
    """What it did nevertheless counts; that it failed then does not."""
    agents = agents_of(service, 2)
    service.started_job(command=["true"], runtime_constraints={})
    seed = agents[0].take_one()
    agents[0].create(seed, {"command": ["true"], **GANG})
    agents[0].end(seed, exit_code=0)
    ((agent, started),) = take_all(agents)
    other = next(one for one in agents if one is not agent)
    other.sync(leaving=True)
    agent.end(started, exit_code=exit_code)
    assert service.task(started.task).state == state


def test_its_first_node_lost(service: LocalService) -> None:
    """The seats are free, and another one is its first."""
    agents = agents_of(service, 3)
    _, (task,) = grown(service, agents[0], GANG)
    ((agent, _),) = take_all(agents[:2])
    agent.running.clear()
    agent.sync(leaving=True)
    left = [one for one in agents if one is not agent]
    ((_, again),) = take_all(left)
    assert (again.task, again.number, len(again.nodes)) == (task, 2, 2)


def test_a_seat_survives_its_nodes_new_agent(service: LocalService) -> None:
    """The node is there: what the gang does on it is not the agent's."""
    agents = agents_of(service, 2)
    grown(service, agents[0], GANG)
    ((agent, started),) = take_all(agents)
    other = next(one for one in agents if one is not agent)
    other.join()
    assert take_all([other]) == []
    assert agent.sync().stop == []
    agent.complete(started)
    assert service.task(started.task).state == 2


@pytest.mark.rule("R21")
def test_a_cancelled_gang_keeps_its_seats_until_its_process_is_gone(service: LocalService) -> None:
    agents = agents_of(service, 2)
    job, _ = grown(service, agents[0], GANG)
    ((agent, started),) = take_all(agents)
    other = next(one for one in agents if one is not agent)
    service.call(jobs.cancel, job.uuid, None)
    service.started_job()
    assert take_all([other]) == []
    agent.end(started, EndKind.STOPPED)
    assert len(take_all([other])) == 1


@pytest.mark.rule("R12")
def test_a_gang_avoids_nodes_that_it_failed_on(service: LocalService) -> None:
    """As long as others would do."""
    agents = agents_of(service, 3)
    _, (task,) = grown(service, agents[0], GANG)
    ((agent, started),) = take_all(agents[:2])
    agent.crash(started)
    service.pass_seconds(2, *agents)
    ((_, again),) = take_all(agents)
    assert (again.task, again.number) == (task, 2)
    assert f"{agent.node}.example" not in again.nodes


@pytest.mark.rule("R26", "R27")
def test_the_limits_of_its_job_hold(service: LocalService) -> None:
    """max_tasks_per_node counts seats; max_nodes has it use the nodes that the job is on."""
    agents = agents_of(service, 3, slots=3)
    limits = {"max_tasks_per_node": 2, "max_nodes": 2}
    grown(service, agents[0], GANG, {}, {}, {}, {}, runtime_constraints=limits)
    found = take_all(agents)
    assert len(found) == 3
    held = service.rows("SELECT node_id, count(*) FROM occupancy GROUP BY node_id")
    assert [count for _, count in held] == [2, 2]


@pytest.mark.parametrize(
    ("others", "needs", "job_nodes", "expected"),
    [
        ([2, 3], Needs(nodes=2), set(), [1, 2]),
        ([2, 1], Needs(nodes=3), set(), None),
        ([2, 3], Needs(nodes=2, max_nodes=2), {3}, [1, 3]),
        ([2, 3], Needs(nodes=2, max_nodes=3), {4}, [1, 2]),
        ([2, 3], Needs(nodes=2, max_nodes=2), {4}, None),
        ([2, 3], Needs(nodes=3, max_nodes=2), set(), None),
    ],
)
def test_which_nodes_a_gang_takes(
    others: list[int], needs: Needs, job_nodes: set[int], expected: list[int] | None
) -> None:
    assert gang_nodes(1, others, needs, job_nodes) == expected


@pytest.mark.rule("R26", "R30")
def test_a_gang_larger_than_its_job_may_be_is_refused(service: LocalService) -> None:
    """It could never start."""
    agent = SimulatedAgent(service)
    service.started_job(runtime_constraints={"max_nodes": 2})
    seed = agent.take_one()
    with pytest.raises(Invalid, match="max_nodes"):
        agent.create(seed, gang(3))
    agent.create(seed, gang(2))


def test_who_has_seats_is_told(service: LocalService) -> None:
    """By the node, and by the attempt."""
    agents = agents_of(service, 2)
    _, (task,) = grown(service, agents[0], GANG)
    ((agent, _),) = take_all(agents)
    (attempt,) = service.attempts(task)
    hosts = {attempt.node, *json.loads(attempt.other_nodes)}
    assert hosts == {f"{one.node}.example" for one in agents}
    for one in agents:
        (row,) = service.call(steering.attempts, node_uuid(service, one.node))
        assert row.task_uuid == task
        shown = service.call(steering.show, node_uuid(service, one.node))
        assert (shown.attempts_live, shown.free_slots, shown.state) == (1, 0, "busy")
    agent.running.clear()
    other = next(one for one in agents if one is not agent)
    service.call(steering.drain, node_uuid(service, other.node))
    assert service.call(steering.show, node_uuid(service, other.node)).state == "draining"
