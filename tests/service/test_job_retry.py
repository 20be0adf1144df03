"""The method retry: a failed or cancelled job is queued again (R23)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.states import TaskState
from jobtasks.protocol.messages import EndKind
from jobtasks.service import jobs, tasks
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService


def retry(
    service: LocalService,
    job: JobRecord,
    uuids: list[str] | None = None,
    constraints: dict[str, Any] | None = None,
) -> JobRecord:
    """Retry a job; its counters must then equal a recount."""
    job = service.call(jobs.retry, job.uuid, uuids, constraints)
    assert service.write(counter_problems) == {}
    return job


def run_all(service: LocalService, agent: SimulatedAgent) -> list[int]:
    """Complete whatever starts, one at a time; return the qsequences in order."""
    order = []
    service.tick()
    while started := agent.take(free_slots=[1]):
        (assignment,) = started
        order.append(assignment.qsequence)
        agent.complete(assignment)
    return order


@pytest.fixture
def failed(service: LocalService, agent: SimulatedAgent) -> JobRecord:
    """Task 1 complete with child 5; 2 failed for good; 3 failed once; 4 never started."""
    job = service.started_job()
    agent.grow({}, {}, {}, {"sequence": 2})
    first, second, third = agent.take()
    agent.create(first, {"sequence": 3})
    agent.complete(first, "kept")
    agent.crash(third, stderr_tail=b"third\n")
    agent.create(second, {}, {})
    agent.write(second, output="lost")
    agent.fail(second)
    job = service.job(job)
    assert job.state == "Failed"
    return job


@pytest.mark.rule("R23")
def test_a_retried_job_is_queued_again(service: LocalService, failed: JobRecord) -> None:
    """State, times, output and log of the end are gone; it began when it began."""
    job = retry(service, failed)
    assert (job.state, job.finished_at, job.log, job.output) == ("Queued", None, None, None)
    assert job.started_at == failed.started_at
    assert (job.todo, job.running_tasks, job.done, job.failed) == (4, 0, 2, 0)
    cancelled = service.call(jobs.cancel, job.uuid, "stop")
    job = retry(service, cancelled)
    assert (job.state, job.cancelled_at, job.log) == ("Queued", None, None)


@pytest.mark.rule("R23")
def test_complete_tasks_stay_and_the_others_begin_anew(
    service: LocalService, agent: SimulatedAgent, failed: JobRecord
) -> None:
    """Verdict, progress, output, budgets and delays are gone; failures and numbers stay."""
    before = {task.qsequence: task for task in service.tasks_of(failed)}
    retry(service, failed)
    after = {task.qsequence: task for task in service.tasks_of(failed)}
    assert list(after) == [0, 1, 2, 3, 4, 5]
    for number in (0, 1):
        assert after[number] == before[number]
    for number in (2, 3):
        task = after[number]
        assert (task.state, task.success, task.progress, task.output) == (0, None, None, None)
        assert (task.failed_count, task.attempts) == (1, 1)
        assert task.failed_log == before[number].failed_log
    assert run_all(service, agent) == [2, 3, 4, 5]
    job = service.job(failed)
    assert (job.state, job.output) == ("Complete", "kept\n")


@pytest.mark.rule("R23", "R14")
def test_budgets_begin_anew(service: LocalService, agent: SimulatedAgent) -> None:
    """Three attempts again, though failed_count goes on."""
    job = service.started_job()
    for round_number in (1, 2):
        for _ in range(3):
            agent.crash(agent.take_one())
            service.pass_seconds(10)
        (task,) = service.tasks_of(job)
        assert (task.state, task.failed_count) == (TaskState.FAILED, 3 * round_number)
        retry(service, job)
        service.tick()
    assert agent.take_one().number == 7


@pytest.mark.rule("R23", "R12")
def test_avoidance_and_larger_reservations_are_forgotten(service: LocalService) -> None:
    """The task may start where it failed, with the memory that its constraints say."""
    here, _ = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    job = service.started_job(runtime_constraints={"min_ram_per_task": 100})
    here.end(here.take_one(), EndKind.OUT_OF_MEMORY)
    service.call(jobs.cancel, job.uuid, None)
    retry(service, job)
    service.tick()
    assert here.take_one().memory_kib == 100


@pytest.mark.rule("R23")
def test_children_of_unfinished_creators_are_gone(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """A cancel in the middle: the creator runs again and creates them again."""
    job = service.started_job()
    seed = agent.take_one()
    agent.create(seed, {}, {})
    agent.write(seed, success=True)
    service.call(jobs.cancel, job.uuid, None)
    agent.end(seed)
    retry(service, job)
    assert [task.qsequence for task in service.tasks_of(job)] == [0]
    service.tick()
    agent.grow({})
    assert agent.take_one().qsequence == 3


@pytest.mark.rule("R23")
def test_a_job_that_cannot_be_retried(service: LocalService, agent: SimulatedAgent) -> None:
    """Queued, Running, Complete, or a process that may live still: 422."""
    job = service.new_job()
    for _ in range(2):
        with pytest.raises(Invalid):
            retry(service, job)
        service.tick()
    seed = agent.take_one()
    service.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid, match="ended"):
        retry(service, job)
    agent.end(seed, EndKind.STOPPED)
    retry(service, job)
    service.tick()
    agent.complete(agent.take_one())
    with pytest.raises(Invalid, match="Complete"):
        retry(service, job)


@pytest.mark.rule("R23")
def test_constraints_without_a_list_are_the_jobs(
    service: LocalService, agent: SimulatedAgent, failed: JobRecord
) -> None:
    """They replace what they name; every task that runs again has them."""
    job = retry(service, failed, None, {"min_ram_per_task": 7000, "on_failure": None})
    assert job.runtime_constraints == '{"min_ram_per_task":7000,"on_failure":null}'
    service.tick()
    assert {assignment.memory_kib for assignment in agent.take()} == {7000}
    service.call(jobs.cancel, job.uuid, None)
    for assignment in list(agent.running.values()):
        agent.end(assignment, EndKind.STOPPED)
    with pytest.raises(Invalid, match="min_ram_per_task"):
        retry(service, failed, None, {"min_ram_per_task": "much"})
    assert service.job(job).state == "Cancelled"


@pytest.fixture
def two_failed(service: LocalService, agent: SimulatedAgent) -> tuple[JobRecord, list[str]]:
    """A job where tasks 1 and 2 failed for good, 3 never started, 4 is of the next sequence."""
    job = service.started_job()
    uuids = agent.grow({}, {}, {}, {"sequence": 2})
    first, second = agent.take(free_slots=[1, 2])
    agent.fail(first)
    agent.fail(second)
    return service.job(job), uuids


@pytest.mark.rule("R23")
def test_with_a_list_only_these_are_reset(
    service: LocalService, agent: SimulatedAgent, two_failed: tuple[JobRecord, list[str]]
) -> None:
    """The others that failed for good stay so and do not stop the listed ones."""
    job, uuids = two_failed
    now = retry(service, job, uuids[:1])
    assert (now.todo, now.failed) == (3, 1)
    assert run_all(service, agent) == [1, 3]
    now = service.job(job)
    assert (now.state, now.failed, now.done) == ("Failed", 1, 3)
    retry(service, job, [uuids[1]])
    assert run_all(service, agent) == [2, 4]
    assert service.job(job).state == "Complete"


@pytest.mark.rule("R23", "R30")
def test_constraints_with_a_list_are_the_listed_tasks(
    service: LocalService, agent: SimulatedAgent, two_failed: tuple[JobRecord, list[str]]
) -> None:
    """Also of one that never started; the job's own stay as they were."""
    job, uuids = two_failed
    now = retry(service, job, uuids[1:3], {"min_ram_per_task": 7000})
    assert now.runtime_constraints == "{}"
    service.tick()
    started = agent.take(free_slots=[1, 2, 3])
    assert [(one.qsequence, one.memory_kib) for one in started] == [(2, 7000), (3, 7000)]
    assert service.task(uuids[1]).runtime_constraints == '{"min_ram_per_task":7000}'
    assert service.task(uuids[1]).created_by_job_task_uuid == service.tasks_of(job)[0].uuid


@pytest.mark.rule("R23")
@pytest.mark.parametrize("again", [None, {}, {"min_ram_per_task": 9000}])
def test_a_task_that_never_started_may_be_listed_again_and_again(
    service: LocalService,
    agent: SimulatedAgent,
    two_failed: tuple[JobRecord, list[str]],
    again: dict[str, Any] | None,
) -> None:
    """With constraints, cancelled before it starts, and once more, with others or none."""
    job, uuids = two_failed
    retry(service, job, uuids[:3], {"min_ram_per_task": 7000})
    service.call(jobs.cancel, job.uuid, None)
    retry(service, job, uuids[:3], again)
    service.tick()
    started = agent.take()
    memory_kib = again.get("min_ram_per_task", 7000) if again else 7000
    assert [(one.qsequence, one.memory_kib) for one in started] == [
        *((1, memory_kib), (2, memory_kib), (3, memory_kib))
    ]


@pytest.mark.rule("R23", "R5")
def test_a_listed_task_leaves_the_order_of_the_others(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Taken out of the front of its batch, with constraints of its own."""
    job = service.started_job()
    uuids = agent.grow(*[{} for _ in range(6)])
    service.call(jobs.cancel, job.uuid, None)
    retry(service, job, [uuids[0], uuids[1], uuids[4]], {"min_ram_per_task": 5})
    assert run_all(service, agent) == [1, 2, 3, 4, 5, 6]


@pytest.mark.rule("R23")
def test_a_list_that_cannot_be(
    service: LocalService, agent: SimulatedAgent, failed: JobRecord
) -> None:
    """A complete task, one of another job, an unknown one, bad constraints: 422, nothing done."""
    (other,) = [task.uuid for task in service.tasks_of(service.started_job())]
    done = service.tasks_of(failed)[1].uuid
    bad = service.tasks_of(failed)[2].uuid
    lists: list[tuple[list[str], dict[str, Any] | None]] = [
        ([done], None),
        ([other], None),
        (["zzzzz-ot0gb-000000000000000"], None),
        ([bad], {"on_failure": "continue"}),
        ([bad], {"min_ram_per_task": -1}),
    ]
    for uuids, constraints in lists:
        with pytest.raises(Invalid):
            retry(service, failed, uuids, constraints)
        assert service.job(failed) == failed


@pytest.mark.rule("R23", "R24")
def test_what_was_deleted_does_not_come_back(
    service: LocalService, agent: SimulatedAgent, failed: JobRecord
) -> None:
    """A failed and a waiting task deleted from the failed job."""
    by_number = {task.qsequence: task.uuid for task in service.tasks_of(failed)}
    for number in (2, 3, 4):
        service.call(tasks.delete, by_number[number])
        assert service.write(counter_problems) == {}
    retry(service, failed)
    assert run_all(service, agent) == [5]
    assert service.job(failed).state == "Complete"
