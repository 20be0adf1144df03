"""Which node takes which tasks: constraints of job and task (R18, R26–R30)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.service import jobs
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService


def grown(
    service: LocalService,
    agent: SimulatedAgent,
    job: dict[str, Any],
    *task_constraints: dict[str, Any],
) -> JobRecord:
    """Start a job with these constraints and tasks; the seed is complete."""
    record = service.started_job(runtime_constraints=job)
    agent.grow(*[{"runtime_constraints": own} for own in task_constraints])
    return record


def taken(agent: SimulatedAgent) -> list[int]:
    """Return the qsequences that the node starts now."""
    return [assignment.qsequence for assignment in agent.take()]


@pytest.mark.rule("R27")
@pytest.mark.parametrize("where", ["job", "task"])
def test_max_tasks_per_node(service: LocalService, where: str) -> None:
    """Never more live attempts of the job on one node; other nodes have their own."""
    limit = {"max_tasks_per_node": 2}
    here, there = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    on_task = limit if where == "task" else {}
    grown(service, here, limit if where == "job" else {}, *[on_task] * 6)
    assert taken(here) == [1, 2]
    assert taken(there) == [3, 4]
    here.complete(next(iter(here.running.values())))
    assert taken(here) == [5]
    assert taken(there) == []


@pytest.mark.rule("R27")
def test_a_tasks_own_max_tasks_per_node_holds_while_it_runs(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Others of its job, without a limit, are not placed beside it; other jobs are."""
    grown(service, agent, {}, {"max_tasks_per_node": 1}, {}, {})
    other = service.started_job()
    started = agent.take()
    assert [one.job == other.uuid for one in started] == [False, True]
    agent.complete(started[0])
    assert taken(agent) == [2, 3]


@pytest.mark.rule("R27")
def test_a_limited_task_waits_for_others_of_its_job(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """It is passed over while they run, and starts when there is room for it."""
    grown(service, agent, {}, {}, {"max_tasks_per_node": 1}, {})
    first, third = agent.take()
    assert [first.qsequence, third.qsequence] == [1, 3]
    agent.complete(first)
    assert taken(agent) == []
    agent.complete(third)
    assert taken(agent) == [2]


@pytest.mark.rule("R26")
@pytest.mark.parametrize("where", ["job", "task"])
def test_max_nodes(service: LocalService, where: str) -> None:
    """Never more nodes with a live attempt of the job."""
    limit = {"max_nodes": 1}
    here, there = (SimulatedAgent(service, node, slots=1) for node in ("n1", "n2"))
    on_task = limit if where == "task" else {}
    grown(service, here, limit if where == "job" else {}, on_task, on_task)
    first = here.take_one()
    assert taken(there) == []
    here.complete(first)
    assert taken(there) == [2]


@pytest.mark.rule("R26")
def test_a_tasks_own_max_nodes_counts_the_node_it_would_start_on(service: LocalService) -> None:
    """Also where an unlimited task of its job is already there, or is placed in the same claim."""
    here, there = (SimulatedAgent(service, node, slots=3) for node in ("n1", "n2"))
    grown(service, here, {}, {}, {}, {}, {"max_nodes": 1})
    here.take(free_slots=[1])
    assert [one.qsequence for one in there.take(free_slots=[1, 2, 3])] == [2, 3]
    assert taken(there) == []
    for assignment in list(there.running.values()):
        there.complete(assignment)
    assert taken(there) == []
    assert taken(here) == [4]


@pytest.mark.rule("R28")
def test_memory_is_reserved(service: LocalService) -> None:
    """The sum of reservations never exceeds the node's; smaller tasks go past larger ones."""
    agent = SimulatedAgent(service, memory_kib=10_000)
    sizes = [{"min_ram_per_task": size} for size in (6000, 5000, 4000, 100)]
    grown(service, agent, {}, *sizes)
    first, third = agent.take()
    assert [first.qsequence, third.qsequence] == [1, 3]
    assert [first.memory_kib, third.memory_kib] == [6000, 4000]
    agent.complete(third)
    assert taken(agent) == [4]
    agent.complete(first)
    assert taken(agent) == [2]


@pytest.mark.rule("R28", "R30")
def test_the_larger_reservation_of_job_and_task_holds(service: LocalService) -> None:
    """A task cannot reserve less than its job says."""
    agent = SimulatedAgent(service, memory_kib=10_000)
    grown(service, agent, {"min_ram_per_task": 3000}, {"min_ram_per_task": 10}, {})
    assert [assignment.memory_kib for assignment in agent.take()] == [3000, 3000]


@pytest.mark.rule("R29")
@pytest.mark.parametrize(
    ("constraint", "limit"),
    [
        ("min_ram_per_node", 5000),
        ("min_ram_mb_per_node", 5),
        ("min_ram_per_task", 5000),
        ("min_cores_per_node", 4),
        ("min_cores_per_task", 4),
        ("min_scratch_mb_per_node", 300),
    ],
)
def test_a_node_that_is_too_small_gets_no_such_task(
    service: LocalService, constraint: str, limit: int
) -> None:
    """On a task it is not started there; on a job nothing of the job is."""
    small = SimulatedAgent(service, "n1", memory_kib=4999, cores=3, scratch_mb=299)
    grown(service, small, {}, {constraint: limit}, {})
    job = service.started_job(runtime_constraints={constraint: limit})
    assert taken(small) == [2]
    assert service.job(job).state == "Queued"
    large = SimulatedAgent(service, "n2", memory_kib=5120, cores=4, scratch_mb=300, slots=1)
    service.tick()
    assert service.job(job).state == "Running"
    assert taken(large) == [0]
    large.complete(next(iter(large.running.values())))
    assert taken(large) == [1]
    assert taken(small) == []


@pytest.mark.rule("R30")
def test_cores_are_reserved(service: LocalService) -> None:
    """The sum of min_cores_per_task never exceeds the node's cores."""
    agent = SimulatedAgent(service, cores=4)
    grown(service, agent, {"min_cores_per_task": 3}, {}, {}, {"min_cores_per_task": 1})
    assert taken(agent) == [1]
    agent.complete(next(iter(agent.running.values())))
    assert taken(agent) == [2]


@pytest.mark.rule("R30")
@pytest.mark.parametrize(
    "given",
    [
        {"min_nodes": -1},
        {"max_tasks_per_node": "many"},
        {"min_ram_per_task": 1.5},
        {"max_run_seconds": -1},
        {"exclusive": "yes"},
        {"on_failure": "explode"},
        {"output": "first"},
        {"docker_image": "debian"},
        {"min_gpus_per_task": 1},
        {"min_nodes": 3, "max_nodes": 2},
        {"preload": "torch"},
    ],
    ids=str,
)
def test_a_bad_constraint_is_refused(
    service: LocalService, agent: SimulatedAgent, given: dict[str, Any]
) -> None:
    """422 for jobs and for tasks, with the constraint's name; nothing stored."""
    name = next(iter(given)) if len(given) == 1 else "max_nodes"
    with pytest.raises(Invalid, match=name):
        service.new_job(runtime_constraints=given)
    job = service.started_job()
    with pytest.raises(Invalid, match=name):
        agent.create(agent.take_one(), {"runtime_constraints": given})
    assert len(service.tasks_of(job)) == 1


@pytest.mark.rule("R30")
@pytest.mark.parametrize("name", ["on_failure", "output", "manager"])
def test_the_jobs_own_constraints_are_refused_on_a_task(
    service: LocalService, agent: SimulatedAgent, name: str
) -> None:
    """422, also with a value that a job may have."""
    value = {"on_failure": "finish", "output": "all", "manager": "jobtasks"}[name]
    service.started_job(runtime_constraints={name: value})
    with pytest.raises(Invalid, match=name):
        agent.create(agent.take_one(), {"runtime_constraints": {name: value}})


@pytest.mark.rule("R30")
def test_absent_and_unknown_constraints(service: LocalService, agent: SimulatedAgent) -> None:
    """0, "", null and "0" are absent; digit strings count; unknown names are kept as given."""
    given = {"min_nodes": 0, "max_nodes": "", "min_ram_per_task": None, "max_run_seconds": "0"}
    job = service.started_job(runtime_constraints={**given, "colour": "blue"})
    kept = '{"min_nodes":0,"max_nodes":"","min_ram_per_task":null,"max_run_seconds":"0"'
    assert job.runtime_constraints == kept + ',"colour":"blue"}'
    assert agent.take_one().max_run_seconds == 0
    other = service.started_job(runtime_constraints={"min_ram_per_task": "700"})
    assert other.state == "Running"
    assert agent.take_one().memory_kib == 700


@pytest.mark.rule("R30")
def test_resource_limits_is_the_old_name(service: LocalService, agent: SimulatedAgent) -> None:
    """Of the whole, for jobs and for tasks."""
    job = service.call(
        jobs.create, {"command": ["true"], "resource_limits": {"min_ram_per_task": 7}}
    )
    assert job.runtime_constraints == '{"min_ram_per_task":7}'
    service.tick()
    agent.grow({"resource_limits": {"min_ram_per_task": 9}})
    assert agent.take_one().memory_kib == 9


@pytest.mark.rule("R30")
def test_what_an_assignment_says_of_limits(service: LocalService, agent: SimulatedAgent) -> None:
    """The stricter time limit of job and task."""
    grown(service, agent, {"max_run_seconds": 60}, {"max_run_seconds": 5}, {})
    assert [assignment.max_run_seconds for assignment in agent.take()] == [5.0, 60.0]


@pytest.mark.rule("R18")
def test_only_free_slots_within_the_nodes_size_are_filled(service: LocalService) -> None:
    """A slot offered twice, one that a live attempt has, and one that does not exist are not."""
    agent = SimulatedAgent(service, slots=2)
    service.started_job()
    agent.grow({}, {}, {}, {})
    (first,) = agent.take(free_slots=[1, 1, 7, 0, -1])
    assert first.slot == 1
    (second,) = agent.take(free_slots=[1, 2])
    assert second.slot == 2
    assert agent.take(free_slots=[1, 2]) == []


@pytest.mark.rule("R18")
def test_a_node_that_drains_or_is_held_gets_nothing(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """An agent that drains offers no slots."""
    service.started_job()
    assert agent.sync(free_slots=[]).start == []
    agent.sync(leaving=True)
    assert agent.send(agent.message()).rejoin
