"""Who may delete tasks and jobs, and when (R24)."""

from __future__ import annotations

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import EndKind
from jobtasks.service import jobs, tasks
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService


@pytest.mark.rule("R24", "R32")
def test_a_creator_deletes_what_is_not_published(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its live attempt may, nobody else; the deleted task never runs."""
    job = service.started_job()
    seed = agent.take_one()
    uuids = agent.create(seed, {}, {}, {"sequence": 4}).uuids
    with pytest.raises(Forbidden):
        service.call(tasks.delete, uuids[0])
    for uuid in (uuids[0], uuids[2]):
        assert service.as_token(seed.token, tasks.delete, uuid).uuid == uuid
        with pytest.raises(NotFound):
            service.task(uuid)
    agent.complete(seed)
    child = agent.take_one()
    assert child.task == uuids[1]
    agent.complete(child)
    assert service.job(job).state == "Complete"


@pytest.mark.rule("R24", "R5")
def test_a_deleted_first_child_does_not_change_the_order(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Children of two creators, the first of one deleted: still in order of arrival."""
    service.started_job()
    agent.grow({}, {})
    left, right = agent.take()
    gone = agent.create(left, {}).uuids[0]
    agent.create(right, {})
    agent.create(left, {})
    service.as_token(left.token, tasks.delete, gone)
    agent.complete(left)
    agent.complete(right)
    (first,) = agent.take(free_slots=[1])
    assert first.qsequence == 4


@pytest.mark.rule("R24")
def test_a_published_task_of_a_job_that_goes_on_stays(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """403 for its creator's job mates and for the owner, waiting, running or complete."""
    service.started_job()
    agent.grow({}, {}, {})
    first, second = agent.take(free_slots=[1, 2])
    agent.complete(first)
    waiting = service.rows("SELECT uuid FROM task WHERE state = 0")[0][0]
    for uuid in (first.task, second.task, waiting):
        with pytest.raises(Forbidden):
            service.call(tasks.delete, uuid)
        with pytest.raises(Forbidden):
            service.as_token(second.token, tasks.delete, uuid)


@pytest.mark.rule("R24")
def test_tasks_of_a_job_that_is_over_may_be_deleted(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """By the owner, when no process is left; attempts and ends of stderr go with them."""
    job = service.started_job()
    agent.grow({}, {}, {})
    first, second, third = agent.take()
    agent.complete(first)
    agent.crash(second, stderr_tail=b"x")
    service.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid, match="ended"):
        service.call(tasks.delete, first.task)
    agent.end(third, EndKind.STOPPED)
    for task in service.tasks_of(job):
        service.call(tasks.delete, task.uuid)
        assert service.write(counter_problems) == {}
    for table in ("task", "attempt", "tail", "requeue"):
        assert service.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.rule("R24")
@pytest.mark.parametrize("state", ["Queued", "Failed", "Cancelled", "Complete"])
def test_a_job_is_deleted_with_its_tasks(
    service: LocalService, agent: SimulatedAgent, state: str
) -> None:
    """Gone for every reader at once; its rows follow."""
    job = service.new_job()
    if state != "Queued":
        service.tick()
        agent.grow({}, {}, {})
        first, second = agent.take(free_slots=[1, 2])
        agent.crash(first)
        agent.fail(second) if state == "Failed" else agent.complete(second)
        if state == "Cancelled":
            service.call(jobs.cancel, job.uuid, None)
        while state == "Complete" and (agent.take() or agent.running):
            for assignment in list(agent.running.values()):
                agent.complete(assignment)
            service.pass_seconds(1)
    assert service.job(job).state == state
    uuids = [task.uuid for task in service.tasks_of(job)]
    service.call(jobs.delete, job.uuid)
    with pytest.raises(NotFound):
        service.job(job)
    for uuid in uuids:
        with pytest.raises(NotFound):
            service.task(uuid)
    while service.tick() == 0:
        pass
    service.pass_seconds(10)
    for table in ("task", "attempt", "tail", "requeue", "batch", "lane", "level", "tally"):
        assert service.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.rule("R24", "R15")
def test_delays_of_a_deleted_job_leave_no_trace() -> None:
    """Though they ripen before its rows are swept."""
    service = LocalService(settings=Settings(sweep_rows=1))
    agent = SimulatedAgent(service)
    job = service.started_job()
    agent.grow({}, {})
    first, second = agent.take()
    agent.crash(first)
    agent.crash(second)
    service.call(jobs.cancel, job.uuid, None)
    service.call(jobs.delete, job.uuid)
    service.clock.advance(60)
    for _ in range(20):
        service.tick()
    for table in ("task", "requeue", "batch", "lane", "level", "tally"):
        assert service.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    service.close()


@pytest.mark.rule("R24")
def test_a_job_with_a_process_stays(service: LocalService, agent: SimulatedAgent) -> None:
    """Running, or cancelled with an attempt that has not ended: 422."""
    job = service.started_job()
    seed = agent.take_one()
    with pytest.raises(Invalid):
        service.call(jobs.delete, job.uuid)
    service.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid):
        service.call(jobs.delete, job.uuid)
    agent.end(seed, EndKind.STOPPED)
    service.call(jobs.delete, job.uuid)
    agent.sync()
