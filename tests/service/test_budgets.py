"""How often a task is tried again, by cause, and how long it waits (R14, R15)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.states import TaskState
from jobtasks.protocol.messages import EndKind
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

BUDGETS: list[tuple[EndKind, dict[str, Any], int]] = [
    (EndKind.EXIT, {"exit_code": 1}, 3),
    (EndKind.EXIT, {"exit_code": 0}, 3),
    (EndKind.EXIT, {"signal": 11}, 3),
    (EndKind.TIME_LIMIT, {"signal": 9}, 3),
    (EndKind.EXIT, {"exit_code": 111}, 10),
    (EndKind.EXIT, {"exit_code": 75}, 10),
    (EndKind.OUT_OF_MEMORY, {"signal": 9}, 3),
    (EndKind.AGENT_LOST, {}, 10),
]


def attempts_made(
    service: LocalService, agent: SimulatedAgent, kind: EndKind, how: dict[str, Any]
) -> int:
    """End every attempt the same way; return how many were made until none follows."""
    for number in range(1, 30):
        (assignment,) = agent.take()
        assert assignment.number == number
        agent.end(assignment, kind, **how)
        if service.task(assignment.task).state != TaskState.WAITING:
            return number
        service.pass_seconds(400, agent)
    raise AssertionError("it is tried again for ever")


@pytest.mark.rule("R14")
@pytest.mark.parametrize(("kind", "how", "budget"), BUDGETS)
def test_each_cause_has_its_budget(
    service: LocalService, agent: SimulatedAgent, kind: EndKind, how: dict[str, Any], budget: int
) -> None:
    """A spent one makes the failure permanent: success=false, with the reason."""
    job = service.started_job()
    assert attempts_made(service, agent, kind, how) == budget
    (task,) = service.tasks_of(job)
    assert (task.state, task.success, task.failed_count) == (TaskState.FAILED, 0, budget)
    assert task.failed_log is not None
    assert "not tried again" in task.failed_log.splitlines()[-1]
    now = service.job(job)
    assert now.state == "Failed"
    assert now.log is not None
    assert task.uuid in now.log and "not tried again" in now.log


@pytest.mark.rule("R14")
@pytest.mark.parametrize("given", [1, 2, 5])
def test_max_attempts_is_the_own_faults_budget(
    service: LocalService, agent: SimulatedAgent, given: int
) -> None:
    """And no other's: losses and exit code 111 keep theirs."""
    service.started_job(runtime_constraints={"max_attempts": given})
    agent.end(agent.take_one(), exit_code=111)
    service.pass_seconds(5)
    agent.end(agent.take_one(), EndKind.AGENT_LOST)
    for number in range(3, 3 + given):
        (assignment,) = agent.take()
        assert assignment.number == number
        agent.crash(assignment)
        service.pass_seconds(400, agent)
    assert agent.take() == []


@pytest.mark.rule("R14", "R30")
def test_the_stricter_max_attempts_holds(service: LocalService, agent: SimulatedAgent) -> None:
    """Of the job's and the task's own."""
    service.started_job(runtime_constraints={"max_attempts": 2})
    agent.grow({"runtime_constraints": {"max_attempts": 9}})
    assert attempts_made(service, agent, EndKind.EXIT, {"exit_code": 1}) == 2


@pytest.mark.rule("R14")
def test_budgets_of_causes_are_apart(service: LocalService, agent: SimulatedAgent) -> None:
    """Two of the own fault, nine asked for, nine lost, two of memory: still tried again."""
    service.started_job()
    ends: list[tuple[EndKind, dict[str, Any], int]] = [
        (EndKind.EXIT, {"exit_code": 1}, 2),
        (EndKind.EXIT, {"exit_code": 111}, 9),
        (EndKind.AGENT_LOST, {}, 9),
        (EndKind.OUT_OF_MEMORY, {"signal": 9}, 2),
    ]
    for kind, how, count in ends:
        for _ in range(count):
            agent.end(agent.take_one(), kind, **how)
            service.pass_seconds(400, agent)
    last = agent.take_one()
    assert last.number == 23
    agent.crash(last)
    assert service.task(last.task).state == TaskState.FAILED


@pytest.mark.rule("R14", "R28")
@pytest.mark.parametrize(
    ("reserved", "peak", "following"),
    [
        (1000, 900, [2000, 4000]),
        (1000, 3000, [6000, 10_000]),
        (0, 700, [1400, 2800]),
        (8000, None, [10_000, 10_000]),
        (0, None, [0, 0]),
    ],
)
def test_out_of_memory_doubles_the_reservation(
    service: LocalService, reserved: int, peak: int | None, following: list[int]
) -> None:
    """From the larger of reservation and measured peak, capped at the largest node."""
    agent = SimulatedAgent(service, memory_kib=10_000)
    service.started_job(runtime_constraints={"min_ram_per_task": reserved})
    seen = []
    for _ in range(3):
        assignment = agent.take_one()
        seen.append(assignment.memory_kib)
        agent.end(assignment, EndKind.OUT_OF_MEMORY, signal=9, peak_memory_kib=peak)
        service.pass_seconds(400, agent)
    assert seen == [reserved, *following]
    assert agent.take() == []


@pytest.mark.rule("R14")
def test_doubled_memory_looks_for_a_larger_node(service: LocalService) -> None:
    """The next attempt needs twice the memory, which the first node does not have."""
    small = SimulatedAgent(service, "n1", memory_kib=1000)
    large = SimulatedAgent(service, "n2", memory_kib=9000)
    service.started_job(runtime_constraints={"min_ram_per_task": 800})
    small.end(small.take_one(), EndKind.OUT_OF_MEMORY, signal=9)
    service.pass_seconds(400, small, large)
    assert small.take() == []
    assert large.take_one().memory_kib == 1600


@pytest.mark.rule("R14")
def test_unable_to_start_on_the_only_node_is_permanent(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """One attempt on each node; there is no other."""
    service.started_job()
    assert attempts_made(service, agent, EndKind.UNABLE_TO_START, {}) == 1


@pytest.mark.rule("R14")
@pytest.mark.parametrize("nodes", [2, 3, 5])
def test_unable_to_start_is_tried_on_at_most_three_nodes(service: LocalService, nodes: int) -> None:
    """Once on each of them."""
    agents = [SimulatedAgent(service, f"n{number}") for number in range(nodes)]
    job = service.started_job()
    tried = []
    for _ in range(nodes):
        for agent in agents:
            for assignment in agent.take():
                tried.append(agent.node)
                agent.end(assignment, EndKind.UNABLE_TO_START)
        service.pass_seconds(20, *agents)
    assert tried == ["n0", "n1", "n2"][:nodes]
    (task,) = service.tasks_of(job)
    assert (task.state, task.failed_count) == (TaskState.FAILED, min(nodes, 3))


@pytest.mark.rule("R14")
def test_unable_to_start_twice_on_one_node_is_permanent(service: LocalService) -> None:
    """When the other node never had room, the task comes back after the time of avoidance."""
    here, full = (SimulatedAgent(service, node, slots=1) for node in ("n1", "n2"))
    service.started_job()
    here.end(here.take_one(), EndKind.UNABLE_TO_START)
    service.pass_seconds(400, here, full)
    again = here.take_one()
    here.end(again, EndKind.UNABLE_TO_START)
    assert service.task(again.task).state == TaskState.FAILED


@pytest.mark.rule("R14")
@pytest.mark.parametrize("times", [15])
def test_a_stopped_attempt_costs_nothing(
    service: LocalService, agent: SimulatedAgent, times: int
) -> None:
    """No failure, no budget, no delay; its children vanish; the task waits again."""
    job = service.started_job()
    seed = agent.take_one()
    for _ in range(times):
        agent.create(seed, {}, {})
        agent.write(seed, progress=0.5, output="half")
        agent.end(seed, EndKind.STOPPED, signal=15)
        (task,) = service.tasks_of(job)
        assert (task.state, task.failed_count, task.failed_log) == (TaskState.WAITING, 0, None)
        assert (task.progress, task.success, task.output) == (None, None, None)
        seed = agent.take_one()
    assert seed.number == times + 1
    assert {attempt.counted for attempt in service.attempts(seed.task)} == {0}
    assert attempts_left(service, agent, seed.task) == 3


def attempts_left(service: LocalService, agent: SimulatedAgent, uuid: str) -> int:
    """End what runs, and what follows, by the process's own fault; return how often that went."""
    for number in range(1, 30):
        (assignment,) = agent.running.values()
        agent.crash(assignment)
        if service.task(uuid).state == TaskState.FAILED:
            return number
        service.pass_seconds(400, agent)
        agent.take_one()
    raise AssertionError("it is tried again for ever")


@pytest.mark.rule("R14")
def test_an_assignment_that_came_too_late_costs_nothing(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The agent refuses it; the task waits again, without a failure."""
    job = service.started_job()
    (late,) = agent.send(agent.message()).start
    orders = agent.send(agent.message(refused=[late.attempt], free_slots=[]))
    assert late.attempt in orders.acknowledged
    (task,) = service.tasks_of(job)
    assert (task.state, task.failed_count) == (TaskState.WAITING, 0)
    assert agent.take_one().number == 2


@pytest.mark.rule("R15")
@pytest.mark.parametrize(
    ("drawn", "factor"), [(0.0, 0.75), (0.5, 1.0), (0.75, 1.125), (1 - 1e-9, 1.25)]
)
def test_the_delay_doubles(
    service: LocalService, agent: SimulatedAgent, drawn: float, factor: float
) -> None:
    """From 1 s, ± 25 % at random, at most 5 minutes."""
    service.random = drawn
    service.started_job()
    for failures in range(1, 11):
        agent.end(agent.take_one(), exit_code=111)
        waiting = service.rows("SELECT not_before FROM requeue")
        if failures == 10:
            assert waiting == [], "the budget is spent"
            return
        seconds = (waiting[0][0] - service.clock.now) / 1e6
        assert seconds == pytest.approx(min(2.0 ** (failures - 1) * factor, 300), abs=1e-5)
        service.pass_seconds(seconds - 0.001, agent)
        assert agent.take() == []
        service.pass_seconds(0.001, agent)


@pytest.mark.rule("R15")
@pytest.mark.parametrize("kind", [EndKind.AGENT_LOST, EndKind.STOPPED])
def test_a_loss_has_no_delay(service: LocalService, agent: SimulatedAgent, kind: EndKind) -> None:
    """The task may start again at once, and a loss does not lengthen a later delay."""
    service.started_job()
    agent.end(agent.take_one(), kind)
    agent.crash(agent.take_one())
    service.pass_seconds(1)
    assert agent.take_one().number == 3


@pytest.mark.rule("R15")
def test_a_tick_tells_when_the_next_delay_is_over(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """So the manager sleeps no longer; None when nothing is due by itself."""
    service.started_job()
    assert service.tick() is None
    agent.crash(agent.take_one())
    assert service.tick() == 1_000_000
    service.clock.advance(0.4)
    assert service.tick() == 600_000
    service.clock.advance(5)
    assert service.tick() is None
