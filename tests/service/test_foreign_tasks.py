"""Tasks of foreign jobs: made, written and deleted by the job's own manager (R7b)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.states import TaskState
from jobtasks.service import jobs, tasks
from jobtasks.service.idempotency import make_key
from jobtasks.store.records import JobRecord, TaskRecord
from jobtasks.testing.service import LocalService


@pytest.fixture
def job(service: LocalService) -> JobRecord:
    """A foreign job that runs."""
    return service.call(jobs.create, {"state": "Running"})


def add(service: LocalService, job: JobRecord, **body: Any) -> TaskRecord:
    """Create one task as the job's manager."""
    return service.call(tasks.create, {"job_uuid": job.uuid, **body})


def write(service: LocalService, task: TaskRecord, whole: bool = False, **body: Any) -> TaskRecord:
    """Change a task as the job's manager."""
    return service.call(tasks.update, task.uuid, body, whole=whole)


def counts(service: LocalService, job: JobRecord) -> tuple[int, int, int, int]:
    """Return how many tasks are to do, run, are done, have failed."""
    now = service.job(job)
    return now.todo, now.running_tasks, now.done, now.failed


@pytest.mark.rule("R7b", "R6")
def test_tasks_are_made_as_their_manager_says(service: LocalService, job: JobRecord) -> None:
    """An explicit number, 0 included; the next ones follow; sequence is one past the creator's."""
    first = add(service, job, qsequence=0, sequence=0)
    second = add(service, job, created_by_job_task_uuid=first.uuid, parameters={"a": 1})
    late = add(service, job, qsequence=99, sequence=7, command=["x"], created_by_job_task_uuid="")
    after = add(service, job)
    made = [(task.sequence, task.qsequence) for task in (first, second, late, after)]
    assert made == [(0, 0), (1, 1), (7, 99), (0, 100)]
    assert second.created_by_job_task_uuid == first.uuid
    assert counts(service, job) == (4, 0, 0, 0)
    assert [task.uuid for task in service.tasks_of(job)] == [
        *(first.uuid, second.uuid, late.uuid, after.uuid)
    ]


@pytest.mark.rule("R7b", "R2", "R22")
def test_many_tasks_are_one_arrival(service: LocalService, job: JobRecord) -> None:
    """All or none; with a key, once."""
    items = [{"job_uuid": job.uuid, "sequence": n % 3} for n in range(10)]
    key = make_key("k", "", b"body")
    made = service.call(tasks.create_many, [*items, {**items[0], "qsequence": 50}], key)
    assert (made.count, made.first_qsequence) == (11, 51)
    assert service.call(tasks.create_many, [*items, {**items[0], "qsequence": 50}], key) == made
    with pytest.raises(Invalid, match="task 1: sequence"):
        service.call(tasks.create_many, [items[0], {**items[0], "sequence": -1}])
    with pytest.raises(Invalid, match="same job"):
        service.call(tasks.create_many, [items[0], {"job_uuid": ""}])
    assert counts(service, job) == (11, 0, 0, 0)
    service.call(tasks.delete, made.uuids[3])
    with pytest.raises(Invalid, match="deleted"):
        service.call(tasks.create_many, [*items, {**items[0], "qsequence": 50}], key)


@pytest.mark.rule("R7b", "R6", "R8")
@pytest.mark.parametrize(
    "body",
    [
        {"qsequence": 5},
        {"qsequence": -1},
        {"qsequence": 2**31},
        {"sequence": -1},
        {"sequence": 2**31},
        {"sequence": "x"},
        {"created_by_job_task_uuid": "zzzzz-ot0gb-nobodystasknobo"},
        {"progress": 1.5},
        {"success": "maybe"},
        {"parameters": [1]},
        {"runtime_constraints": {"on_failure": "finish"}},
        {"state": "done"},
        {"failed_log": "x"},
        {"failed_at": 1e300},
        {"colour": "blue"},
        {"uuid": "zzzzz-ot0gb-nobodystasknobo"},
        {"output": 5},
    ],
    ids=str,
)
def test_a_task_that_cannot_be_is_refused(
    service: LocalService, job: JobRecord, body: dict[str, Any]
) -> None:
    """At create and in a change; nothing is stored."""
    task = add(service, job, qsequence=5)
    other = add(service, job)
    before = service.tasks_of(job)
    with pytest.raises(Invalid):
        add(service, job, **body)
    with pytest.raises(Invalid):
        write(service, task if "qsequence" not in body else other, **body)
    assert service.tasks_of(job) == before


@pytest.mark.rule("R7b")
def test_every_attribute_of_the_manager_may_be_written(
    service: LocalService, job: JobRecord
) -> None:
    """Times, counts, logs, verdicts; the counters of the job follow."""
    task = add(service, job)
    body: dict[str, Any] = {
        "started_at": "2014-01-01T00:00:00Z",
        "attempts": 2,
        "failed_count": 1,
        "failed_at": 1388534400.5,
        "failed_log": "oh\n",
        "log": "well\n",
        "progress": 0.25,
        "output": "part",
        "parameters": {"b": [None, []]},
        "runtime_constraints": {"docker_image": "debian"},
        "command": ["x", "y"],
    }
    now = write(service, task, **body)
    assert (now.state, now.attempts, now.failed_count) == (TaskState.RUNNING, 2, 1)
    assert (now.started_at, now.failed_at) == (1388534400_000000, 1388534400_500000)
    assert (now.failed_log, now.log, now.progress, now.output) == ("oh\n", "well\n", 0.25, "part")
    assert (now.parameters, now.command) == ('{"b":[null,[]]}', '["x","y"]')
    assert counts(service, job) == (0, 1, 0, 0)
    assert write(service, now, success=True).state == TaskState.COMPLETE
    assert counts(service, job) == (0, 0, 1, 0)
    assert write(service, now, state="waiting").started_at is None
    assert counts(service, job) == (1, 0, 0, 0)
    write(service, now, success=0)
    assert counts(service, job) == (0, 0, 0, 1)


@pytest.mark.rule("R7", "R7b")
def test_a_whole_record_may_come_back(service: LocalService, job: JobRecord) -> None:
    """As the Go client sends it: empty names are left alone, what may be written is taken."""
    first = add(service, job, parameters={"a": 1})
    child = add(service, job, created_by_job_task_uuid=first.uuid)
    body = {"job_uuid": "", "parameters": {}, "output": "", "success": True, "uuid": child.uuid}
    now = write(service, child, True, **body)
    assert (now.job_uuid, now.output, now.parameters) == (job.uuid, "", "{}")
    assert (now.created_by_job_task_uuid, now.state) == (first.uuid, TaskState.COMPLETE)
    assert write(service, now, True, sequence=None, qsequence="").qsequence == child.qsequence


@pytest.mark.rule("R7b")
def test_a_task_may_move(service: LocalService, job: JobRecord) -> None:
    """To another sequence, number or creator; what it created stays its own."""
    first, second = add(service, job), add(service, job)
    child = add(service, job, created_by_job_task_uuid=first.uuid)
    moved = write(service, first, sequence=3, qsequence=9, created_by_job_task_uuid=second.uuid)
    assert (moved.sequence, moved.qsequence) == (3, 9)
    assert moved.created_by_job_task_uuid == second.uuid
    assert service.task(child.uuid).created_by_job_task_uuid == first.uuid
    with pytest.raises(Invalid, match="taken"):
        write(service, second, qsequence=9)
    with pytest.raises(Invalid, match="itself"):
        write(service, second, created_by_job_task_uuid=second.uuid)
    levels = {row.sequence: row.todo for row in service.call(jobs.levels, job.uuid)}
    assert levels == {0: 1, 1: 1, 3: 1}
    assert add(service, job).qsequence == 10


@pytest.mark.rule("R7b", "R4")
def test_what_a_failed_task_created_is_gone(service: LocalService, job: JobRecord) -> None:
    """When success turns false: its children, whatever their state; not theirs, not others'."""
    first, other = add(service, job, success=False), add(service, job)
    children = [add(service, job, created_by_job_task_uuid=first.uuid) for _ in range(3)]
    grandchild = add(service, job, created_by_job_task_uuid=children[0].uuid)
    strange = add(service, job, created_by_job_task_uuid=other.uuid)
    write(service, children[0], success=True)
    write(service, children[1], state="running")
    write(service, first, success=False)
    assert counts(service, job) == (4, 1, 1, 1)
    write(service, first, success=None)
    write(service, first, success=0)
    assert counts(service, job) == (3, 0, 0, 1)
    for child in children:
        with pytest.raises(NotFound):
            service.task(child.uuid)
    assert service.task(grandchild.uuid).sequence == 2
    assert service.task(strange.uuid).created_by_job_task_uuid == other.uuid
    again = add(service, job, created_by_job_task_uuid=first.uuid)
    for _ in children:
        service.tick()
    assert service.task(again.uuid).created_by_job_task_uuid == first.uuid
    assert service.rows("SELECT count(*) FROM task") == [(5,)]
    with pytest.raises(Invalid, match="taken"):
        write(service, again, qsequence=grandchild.qsequence)


@pytest.mark.rule("R7b", "R24")
def test_its_manager_deletes_tasks_whatever_their_state(
    service: LocalService, job: JobRecord
) -> None:
    """What they created stays; so does the job when it is over."""
    first = add(service, job, state="running")
    child = add(service, job, created_by_job_task_uuid=first.uuid)
    assert service.call(tasks.delete, first.uuid).uuid == first.uuid
    assert service.task(child.uuid).created_by_job_task_uuid is None
    service.call(jobs.update, job.uuid, {"state": "Complete"}, whole=False)
    service.call(tasks.delete, child.uuid)
    assert counts(service, job) == (0, 0, 0, 0)
    service.call(jobs.delete, job.uuid)
    assert service.rows("SELECT count(*) FROM tally") == [(0,)]


@pytest.mark.rule("R2", "R7b")
def test_tasks_of_our_jobs_are_not_made_by_their_owner(service: LocalService) -> None:
    """Queued or running: 403 with the reason; after a lock they are."""
    job = service.new_job()
    with pytest.raises(Forbidden, match="attempt"):
        add(service, job)
    service.call(jobs.lock, job.uuid)
    assert add(service, job).qsequence == 0
