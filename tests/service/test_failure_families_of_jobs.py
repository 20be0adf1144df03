"""Failed attempts are gathered by families, and a family is tried again (R13, R14, R16, R23)."""

from __future__ import annotations

import time
from typing import Any

import pytest

from jobtasks.core.errors import Invalid, NotFound
from jobtasks.core.families import OTHERS, OTHERS_MESSAGE
from jobtasks.core.states import TaskState
from jobtasks.protocol.messages import EndKind
from jobtasks.service import families, jobs, tasks
from jobtasks.service.job_retry import FailedFamily
from jobtasks.store.records import FamilyRecord, JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService


def families_of(service: LocalService, job: JobRecord) -> list[FamilyRecord]:
    """Return a job's families; what they count must be so."""
    assert service.write(counter_problems) == {}
    return service.call(families.of_job, job.uuid)


def retry(
    service: LocalService,
    job: JobRecord,
    family: FamilyRecord,
    ram_factor: float | None = None,
    constraints: dict[str, Any] | None = None,
) -> JobRecord:
    """Retry a family."""
    chosen = FailedFamily(family.name, ram_factor)
    found = service.call(jobs.retry, job.uuid, chosen, constraints)
    assert service.write(counter_problems) == {}
    return found


@pytest.fixture
def wide(service: LocalService) -> SimulatedAgent:
    """A node of 16 slots."""
    return SimulatedAgent(service, slots=16, memory_kib=16_000_000)


def grown(
    service: LocalService, agent: SimulatedAgent, count: int, **constraints: Any
) -> JobRecord:
    """Return a job with so many tasks to start, of one attempt each; it goes on when one fails."""
    job = service.started_job(
        runtime_constraints={"max_attempts": 1, "on_failure": "continue", **constraints}
    )
    agent.grow(*[{"parameters": {"n": number}} for number in range(count)])
    return job


@pytest.mark.rule("R13")
def test_failures_of_one_kind_are_one_family(service: LocalService, wide: SimulatedAgent) -> None:
    """Counted with the tasks that they ended for good; the sample is the newest."""
    job = grown(service, wide, 6)
    for number, one in enumerate(wide.take()):
        if number < 3:
            wide.crash(one, 3, stderr_tail=b"start\nKeyError: 'row %d'\n" % number, log_bytes=9)
        elif number == 3:
            wide.fail(one)
        else:
            wide.complete(one)
        service.pass_seconds(1, wide)
    first, second = families_of(service, job)
    assert (first.cause, first.exit_code, first.signal) == ("exit", 3, None)
    assert (first.message, first.attempts, first.tasks) == ("KeyError: <text>", 3, 3)
    assert (first.sample_message, first.qsequence, first.number) == ("KeyError: 'row 2'", 3, 1)
    assert (first.node, first.log_bytes, first.last_at - first.first_at) == (
        "n1.example",
        9,
        2_000_000,
    )
    assert first.reason is not None and "exit code 3" in first.reason
    assert (second.message, second.attempts, second.tasks) == ("it reported success=false", 1, 1)
    shown = service.attempts(str(first.task_uuid))
    assert first.task_uuid == shown[0].task_uuid


@pytest.mark.rule("R13", "R14")
def test_every_attempt_counts_and_the_last_ends_the_task(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Three attempts of one task: what is added to the last one's reason makes no other family."""
    job = service.started_job()
    for tried in (1, 2, 3):
        counted = [(family.attempts, family.tasks) for family in families_of(service, job)]
        assert counted == [(tried - 1, 0)] * (tried > 1)
        agent.crash(agent.take_one(), 2)
        service.pass_seconds(10, agent)
    (family,) = families_of(service, job)
    assert (family.attempts, family.tasks, family.number) == (3, 1, 3)
    assert family.message == "the process ended with exit code <n> and no verdict"


@pytest.mark.rule("R14", "R21")
def test_what_was_ordered_is_no_failure(service: LocalService, wide: SimulatedAgent) -> None:
    """A stop, a cancel; a success with any exit code."""
    job = grown(service, wide, 3)
    one, two, _ = wide.take()
    wide.end(one, EndKind.STOPPED)
    wide.write(two, success=True)
    wide.end(two, exit_code=7, stderr_tail=b"KeyError: 1\n")
    service.call(jobs.cancel, job.uuid, None)
    for left in list(wide.running.values()):
        wide.end(left, exit_code=1)
    assert families_of(service, job) == []


@pytest.mark.rule("R35")
def test_losses_are_a_family(service: LocalService, wide: SimulatedAgent) -> None:
    """By the reason, whatever the processes wrote."""
    job = grown(service, wide, 4)
    wide.take()
    service.pass_seconds(60)
    (family,) = families_of(service, job)
    assert (family.cause, family.attempts, family.tasks) == ("agent_lost", 4, 0)
    assert family.message == "its node was not heard for <n> s"


def test_too_many_kinds_are_gathered_in_one(
    service: LocalService, monkeypatch: pytest.MonkeyPatch, wide: SimulatedAgent
) -> None:
    """Families that are there go on growing; the others have one that is tried again like any."""
    monkeypatch.setattr(families, "FAMILIES_MAX", 2)
    job = grown(service, wide, 6)
    for one, word in zip(wide.take(), ("a", "b", "c", "d", "a", "c"), strict=True):
        wide.crash(one, stderr_tail=b"Error: no disk " + word.encode() * 3)
    found = {family.name: family for family in families_of(service, job)}
    others = found.pop(OTHERS)
    assert (others.cause, others.message, others.attempts) == (None, OTHERS_MESSAGE, 3)
    assert sorted(family.attempts for family in found.values()) == [1, 2]
    retry(service, job, others)
    service.tick()
    assert [one.qsequence for one in wide.take()] == [3, 4, 6]


@pytest.mark.rule("R23")
def test_a_family_is_tried_again_and_nothing_else(
    service: LocalService, wide: SimulatedAgent
) -> None:
    """Those of another family stay failed; what is complete stays."""
    job = grown(service, wide, 7)
    for number, one in enumerate(wide.take()):
        wide.crash(one, 3 if number % 2 else 4) if number else wide.complete(one)
    four, three = sorted(families_of(service, job), key=lambda one: -(one.exit_code or 0))
    assert (four.tasks, three.tasks) == (3, 3)
    assert service.job(job).state == "Failed"
    now = retry(service, job, four)
    assert (now.state, now.todo, now.done, now.failed) == ("Queued", 3, 2, 3)
    service.tick()
    again = wide.take()
    assert [one.qsequence for one in again] == [3, 5, 7]
    wide.crash(again[0], 4)
    for one in again[1:]:
        wide.complete(one)
    four = next(one for one in families_of(service, job) if one.exit_code == 4)
    assert (four.attempts, four.tasks, four.number) == (4, 1, 2)
    with pytest.raises(Invalid, match="no family nosuch"):
        service.call(jobs.retry, job.uuid, FailedFamily("nosuch"), None)


@pytest.mark.rule("R23")
def test_all_and_listed_tasks_leave_their_families(
    service: LocalService, wide: SimulatedAgent
) -> None:
    """A retry of the job, or of a task, however it was asked for; then none is failed there."""
    job = grown(service, wide, 3)
    for one in wide.take():
        wide.crash(one)
    uuids = [task.uuid for task in service.tasks_of(job)]
    service.call(jobs.retry, job.uuid, uuids[1:2], None)
    (family,) = families_of(service, job)
    assert (family.attempts, family.tasks) == (3, 2)
    service.call(jobs.cancel, job.uuid, None)
    service.call(jobs.retry, job.uuid, None, None)
    (family,) = families_of(service, job)
    assert (family.attempts, family.tasks) == (3, 0)
    service.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid, match="failed now"):
        retry(service, job, family)


@pytest.mark.rule("R14", "R23", "R28")
def test_a_family_gets_more_memory(service: LocalService, wide: SimulatedAgent) -> None:
    """Twice what the last attempt had reserved, which out of memory had doubled already."""
    job = service.started_job(runtime_constraints={"min_ram_per_task": 1000})
    wide.grow({}, {"runtime_constraints": {"min_ram_per_task": 3000, "mine": "x"}})
    for _ in range(3):
        for one in wide.take():
            wide.end(one, EndKind.OUT_OF_MEMORY)
        service.pass_seconds(10, wide)
    (family,) = families_of(service, job)
    assert (family.cause, family.attempts, family.tasks) == ("out_of_memory", 6, 2)
    retry(service, job, family, 2)
    service.tick()
    assert [one.memory_kib for one in wide.take()] == [8 * 1024, 24 * 1024]
    constraints = [task.runtime_constraints for task in service.tasks_of(job)[1:]]
    assert constraints == ['{"min_ram_per_task":8192}', '{"min_ram_per_task":24576,"mine":"x"}']


@pytest.mark.rule("R23", "R28")
def test_without_a_reservation_the_measured_peak_is_multiplied(
    service: LocalService, wide: SimulatedAgent
) -> None:
    """The highest of the family; where nothing was measured the call says what to give."""
    job = grown(service, wide, 4)
    for number, one in enumerate(wide.take()):
        peak = {"peak_memory_kib": 1024 * (number + 1)} if number < 3 else {}
        wide.crash(one, 5 if number < 3 else 6, **peak)
    measured, unknown = families_of(service, job)
    with pytest.raises(Invalid, match="min_ram_per_task"):
        retry(service, job, unknown, 2)
    assert service.job(job).state == "Failed"
    retry(service, job, measured, 1.5, {"max_run_seconds": 60})
    service.tick()
    started = wide.take()
    assert [one.memory_kib for one in started] == [5 * 1024] * 3
    assert {one.max_run_seconds for one in started} == {60}
    batches = service.rows("SELECT size FROM batch WHERE state = 1 ORDER BY id")
    assert batches == [(1,), (1,), (3,)], "one batch for all that were moved"


@pytest.mark.rule("R24")
def test_deleted_tasks_and_jobs_take_their_failures_along(
    service: LocalService, wide: SimulatedAgent
) -> None:
    """The sample's task may be the one; of a deleted job nothing is left."""
    job = grown(service, wide, 2)
    for one in wide.take():
        wide.crash(one)
    service.call(tasks.delete, service.tasks_of(job)[2].uuid)
    (family,) = families_of(service, job)
    assert (family.attempts, family.tasks, family.task_uuid) == (1, 1, None)
    service.call(jobs.delete, job.uuid)
    with pytest.raises(NotFound):
        families_of(service, job)
    assert service.rows("SELECT * FROM family") == []


@pytest.mark.rule("R32")
def test_families_are_seen_by_who_sees_the_job(service: LocalService, wide: SimulatedAgent) -> None:
    """Not by another user."""
    job = grown(service, wide, 1)
    with pytest.raises(NotFound):
        service.as_token(service.new_user("eve"), families.of_job, job.uuid)


@pytest.mark.rule("R23")
def test_a_large_family_is_tried_again_quickly(
    service: LocalService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In pages; statements do not grow with the number of tasks, but for one a row."""
    agent = SimulatedAgent(service, slots=500)
    job = grown(service, agent, 500, min_ram_per_task=100)
    for one in agent.take():
        agent.end(one, exit_code=9, sync=False)
    agent.renew()
    monkeypatch.setattr("jobtasks.service.family_retry.PAGE", 120)
    (family,) = families_of(service, job)
    assert family.tasks == 500
    begun = time.process_time()
    now = retry(service, job, family, 2)
    assert time.process_time() - begun < 5
    assert (now.todo, now.failed) == (500, 0)
    states = {task.state for task in service.tasks_of(job)[1:]}
    assert states == {TaskState.WAITING}
    assert service.rows("SELECT size FROM batch ORDER BY id") == [(1,), (0,), (500,)]
