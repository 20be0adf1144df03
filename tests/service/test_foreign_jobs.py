"""Jobs whose own manager runs them: how they begin, who may write them (R7b)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.identifiers import token_hash
from jobtasks.service import explain, jobs, listing, tasks, user_tokens, users
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService


def person(service: LocalService, name: str, *, is_admin: bool = False) -> str:
    """Return the token of a new user."""
    user = service.call(users.create, {"username": name, "is_admin": is_admin})
    token = service.call(user_tokens.create, {"owner_uuid": user.uuid})
    assert token.api_token
    assert token_hash(token.api_token)
    return token.api_token


def change(service: LocalService, job: JobRecord, **body: Any) -> JobRecord:
    """Send one update as the admin."""
    return service.call(jobs.update, job.uuid, body, whole=False)


def running(service: LocalService, **attributes: Any) -> JobRecord:
    """Return a job that was created as Running."""
    return service.call(jobs.create, {"state": "Running", **attributes})


BEGINNINGS: list[dict[str, Any]] = [
    {"state": "Running"},
    {"running": True},
    {"state": "Complete"},
    {"success": False},
    {"cancelled_at": "2014-01-01T00:00:00Z"},
    {"runtime_constraints": {"manager": "external"}},
    {"resource_limits": {"manager": "external"}},
    {"is_locked_by_uuid": "zzzzz-tpzed-000000000000000"},
]


@pytest.mark.rule("R7b", "R1")
@pytest.mark.parametrize("body", BEGINNINGS, ids=str)
def test_a_job_may_be_foreign_from_the_start(
    service: LocalService, agent: SimulatedAgent, body: dict[str, Any]
) -> None:
    """It needs nothing that we could run, is not started, not seeded, and not given to any node."""
    job = service.call(jobs.create, body)
    assert not job.managed
    service.pass_seconds(100, agent)
    assert agent.take() == []
    assert service.job(job) == job
    assert service.tasks_of(job) == []


@pytest.mark.rule("R7b", "R17")
def test_how_a_foreign_job_begins(service: LocalService) -> None:
    """Flags and times follow the state; what its manager gives is kept."""
    job = running(service, started_at="Wed Nov  9 17:56:12 2016", tasks_summary={"todo": 7})
    assert (job.started_at, job.tasks_summary) == (1478714172_000000, '{"todo":7}')
    assert running(service).started_at == service.clock.now
    cancelled = service.call(jobs.create, {"cancelled_at": "2014-01-01T00:00:00Z"})
    assert (cancelled.state, cancelled.cancelled_at) == ("Cancelled", service.clock.now)
    assert cancelled.cancelled_by_user_uuid == cancelled.owner_uuid


TAKE_OVERS: list[dict[str, Any]] = [
    {"state": "Running"},
    {"running": True},
    {"state": "Failed"},
    {"success": True},
    {"runtime_constraints": {"manager": "external"}},
    {"is_locked_by_uuid": "zzzzz-tpzed-000000000000000"},
]


@pytest.mark.rule("R7b")
@pytest.mark.parametrize("body", TAKE_OVERS, ids=str)
def test_a_queued_job_may_be_taken_over(
    service: LocalService, agent: SimulatedAgent, body: dict[str, Any]
) -> None:
    """By state, constraint or lock, in one update; a job of ours that runs may not."""
    job = service.new_job()
    assert change(service, job, **body).managed == 0
    service.pass_seconds(10, agent)
    assert agent.take() == []
    ours = service.started_job()
    with pytest.raises((Forbidden, Invalid)):
        change(service, ours, **{**body, "running": False})
    assert service.job(ours).managed == 1


@pytest.mark.rule("R7b", "R7")
def test_a_whole_record_that_says_nothing_takes_nothing_over(service: LocalService) -> None:
    """Empty values of what follows the state are ignored in a PUT of a job of ours."""
    job = service.new_job()
    body: dict[str, Any] = {"success": False, "running": "", "cancelled_at": None, "priority": 3}
    now = service.call(jobs.update, job.uuid, body, whole=True)
    assert (now.managed, now.state, now.priority) == (1, "Queued", 3)
    body = {**body, "is_locked_by_uuid": "zzzzz-tpzed-000000000000000"}
    now = service.call(jobs.update, job.uuid, body, whole=True)
    assert (now.managed, now.state) == (0, "Queued")


@pytest.mark.rule("R7b", "R23")
def test_a_job_that_is_tried_again_may_be_taken_over(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its tasks stay with what they were; nothing of them is for us to start any more."""
    job = service.started_job()
    agent.grow({}, {}, {})
    first, second = agent.take(free_slots=[1, 2])
    agent.complete(first)
    agent.fail(second)
    assert service.call(jobs.retry, job.uuid, None, None).state == "Queued"
    locked = service.call(jobs.lock, job.uuid)
    assert (locked.state, locked.managed, locked.done, locked.todo) == ("Running", 0, 2, 2)
    service.pass_seconds(10, agent)
    assert agent.take() == []
    failed = service.task(second.task)
    service.call(tasks.update, failed.uuid, {"success": True, "qsequence": 77}, whole=False)
    assert [attempt.number for attempt in service.attempts(failed.uuid)] == [1]
    assert service.job(job).done == 3


@pytest.mark.rule("R17", "R7b")
def test_states_of_a_foreign_job(service: LocalService) -> None:
    """What may follow what; the times are set once, and what ends it is final."""
    job = service.call(jobs.create, {"runtime_constraints": {"manager": "external"}})
    service.clock.advance(1)
    assert change(service, job, state="Running").started_at == service.clock.now
    with pytest.raises(Invalid, match="Running to Queued"):
        change(service, job, running=False)
    service.clock.advance(1)
    change(service, job, started_at="2014-01-01T00:00:00Z", finished_at="", priority=None)
    assert service.job(job).started_at == 1388534400_000000
    done = change(service, job, success=True, output="42", log="fine", tasks_summary={"done": 3})
    assert (done.state, done.finished_at, done.output) == ("Complete", service.clock.now, "42")
    assert (done.log, done.tasks_summary) == ("fine", '{"done":3}')
    for body in ({"state": "Failed"}, {"success": False}, {"success": None}, {"state": "Queued"}):
        with pytest.raises(Invalid):
            change(service, job, **body)
    assert change(service, job, description="late").description == "late"
    assert service.call(jobs.output_page, job.uuid, None) == (["42"], None)
    with pytest.raises(Invalid, match="manager of its own"):
        service.call(jobs.retry, job.uuid, None, None)


@pytest.mark.rule("R7b", "R20")
def test_the_outputs_of_tasks_stand_in_for_a_missing_one(service: LocalService) -> None:
    """Until the job's manager has written an output of its own."""
    job = running(service)
    for output in ("a", None, "b"):
        service.call(tasks.create, {"job_uuid": job.uuid, "success": True, "output": output})
    assert service.call(jobs.output_page, job.uuid, None) == (["a\n", "b\n"], None)
    change(service, job, output="c")
    assert service.call(jobs.output_page, job.uuid, None) == (["c"], None)


@pytest.mark.rule("R17", "R21")
def test_a_foreign_job_may_be_cancelled(service: LocalService) -> None:
    """By the method or an update, with what else that says; its log stays its manager's."""
    job = running(service, log="so far")
    now = change(service, job, cancelled_at="2001-01-01T00:00:00Z", output="part")
    assert (now.state, now.cancelled_at, now.output) == ("Cancelled", service.clock.now, "part")
    assert now.log == "so far"
    other = service.call(jobs.cancel, running(service).uuid, "enough")
    assert (other.state, other.log) == ("Cancelled", "cancelled: enough")


@pytest.mark.rule("R7b", "R17")
def test_the_lock(service: LocalService) -> None:
    """Its holder alone changes how the job fares, the root user excepted; all may cancel it."""
    ada = person(service, "ada")
    other_admin = person(service, "admin2", is_admin=True)
    job = service.as_token(ada, jobs.create, {"command": ["true"]})
    locked = service.as_token(ada, jobs.lock, job.uuid)
    assert (locked.state, locked.is_locked_by_uuid) == ("Running", locked.owner_uuid)
    for token in (ada, other_admin):
        with pytest.raises(Invalid, match="AlreadyLocked"):
            service.as_token(token, jobs.lock, job.uuid)

    def write(token: str, **body: Any) -> JobRecord:
        return service.as_token(token, jobs.update, job.uuid, body, whole=False)

    for body in ({"output": "x"}, {"state": "Complete"}, {"components": {"a": "b"}}):
        with pytest.raises(Forbidden, match="locked by"):
            write(other_admin, **body)
    assert write(other_admin, priority=5, description="d", state="Running").priority == 5
    assert write(ada, output="x", components={"a": "b"}).output == "x"
    assert change(service, job, output="root's").output == "root's"
    holder = job.owner_uuid
    with pytest.raises(Forbidden):
        write(other_admin, is_locked_by_uuid=None)
    with pytest.raises(Forbidden):
        write(ada, is_locked_by_uuid="zzzzz-tpzed-000000000000000")
    assert write(ada, is_locked_by_uuid=None).is_locked_by_uuid is None
    assert write(other_admin, output="free").output == "free"
    assert write(ada, is_locked_by_uuid=holder).is_locked_by_uuid == holder
    assert service.as_token(other_admin, jobs.cancel, job.uuid, None).state == "Cancelled"


@pytest.mark.rule("R7b", "R32")
def test_nobody_else_comes_in(service: LocalService, agent: SimulatedAgent) -> None:
    """A foreign job is other users' no more than any; an attempt of another job sees nothing."""
    ada, eve = person(service, "ada"), person(service, "eve")
    job = service.as_token(ada, jobs.create, {"state": "Running"})
    task = service.as_token(ada, tasks.create, {"job_uuid": job.uuid})
    service.started_job()
    attempt = agent.take_one().token
    for token in (eve, attempt):
        with pytest.raises(NotFound):
            service.as_token(token, jobs.update, job.uuid, {"output": "x"}, whole=False)
        with pytest.raises(NotFound):
            service.as_token(token, tasks.update, task.uuid, {"output": "x"}, whole=False)
        with pytest.raises(NotFound):
            service.as_token(token, tasks.delete, task.uuid)
        with pytest.raises(Invalid):
            service.as_token(token, tasks.create, {"job_uuid": job.uuid})


@pytest.mark.rule("R7b")
def test_a_server_without_manager(service: LocalService, agent: SimulatedAgent) -> None:
    """Every new job is foreign; one that was queued before is not started, and explain says so."""
    before = service.new_job()
    service.world.manages = False
    job = service.new_job()
    service.pass_seconds(10, agent)
    assert agent.take() == []
    assert (job.managed, service.job(job).state) == (0, "Queued")
    assert service.call(tasks.create, {"job_uuid": job.uuid, "qsequence": 0}).qsequence == 0
    (reason,) = service.call(explain.job_reasons, before.uuid)
    assert reason.code == "no_manager"
    assert service.call(jobs.lock, before.uuid).managed == 0
    service.world.manages = True
    other = service.started_job()
    assert agent.take_one().job == other.uuid


@pytest.mark.rule("R7b", "R31")
def test_explain_says_who_runs_it(service: LocalService) -> None:
    """Of the job and its tasks, and who has locked it; also when it is over."""
    job = running(service, runtime_constraints={"docker_image": "debian"})
    task = service.call(tasks.create, {"job_uuid": job.uuid})
    (reason,) = service.call(explain.job_reasons, job.uuid)
    assert reason.code == "foreign"
    assert "its own manager runs it" in reason.text.lower()
    codes = [reason.code for reason in service.call(explain.task_reasons, task.uuid)]
    assert codes == ["foreign_task", "foreign"]
    change(service, job, is_locked_by_uuid=job.owner_uuid, state="Complete")
    (reason,) = service.call(explain.job_reasons, job.uuid)
    assert (reason.lift, reason.details["is_locked_by_uuid"]) == (None, job.owner_uuid)


@pytest.mark.rule("R30")
def test_reserved_constraints_are_kept_in_a_foreign_job(service: LocalService) -> None:
    """In one that our manager would run they are refused."""
    body = {"command": ["x"], "runtime_constraints": {"docker_image": "debian"}}
    with pytest.raises(Invalid, match="docker_image"):
        service.call(jobs.create, body)
    job = service.call(jobs.create, {**body, "state": "Running"})
    assert job.runtime_constraints == '{"docker_image":"debian"}'
    with pytest.raises(Invalid, match="min_nodes"):
        change(service, job, runtime_constraints={"min_nodes": "many"})


@pytest.mark.rule("R17")
def test_cancel_with_cascade(service: LocalService) -> None:
    """The jobs that components name, and theirs; not those of others, nor what is over."""
    ada = person(service, "ada")
    leaf = service.as_token(ada, jobs.create, {"command": ["true"]})
    done = service.as_token(ada, jobs.create, {"state": "Complete"})
    foreign = service.new_job()
    names = {"leaf": leaf.uuid, "done": done.uuid, "other": foreign.uuid, "none": "x"}
    middle = service.as_token(ada, jobs.create, {"command": ["true"], "components": names})
    top = service.as_token(
        ada, jobs.create, {"command": ["true"], "components": {"m": middle.uuid}}
    )
    service.as_token(ada, jobs.update, leaf.uuid, {"components": {"loop": top.uuid}}, whole=False)
    assert service.as_token(ada, jobs.cancel, top.uuid, None).state == "Cancelled"
    assert service.job(middle).state == "Queued"
    service.as_token(ada, jobs.cancel, top.uuid, None, cascade=True)
    states = [service.job(job).state for job in (top, middle, leaf, done, foreign)]
    assert states == ["Cancelled", "Cancelled", "Cancelled", "Complete", "Queued"]


@pytest.mark.rule("R42")
def test_nodes_of_a_job(service: LocalService) -> None:
    """Those on which it has a process, also in lists; none before and after."""
    agent, other = SimulatedAgent(service, "n1"), SimulatedAgent(service, "n2")
    job = service.started_job()
    assert service.job(job).node_uuids == "[]"
    agent.grow({}, {}, {}, {})
    taken = [*agent.take(free_slots=[1, 2]), *other.take(free_slots=[1])]
    rows = service.rows("SELECT uuid FROM node ORDER BY id")
    expected = "[" + ",".join(f'"{uuid}"' for (uuid,) in rows) + "]"
    assert (len(taken), service.job(job).node_uuids) == (3, expected)
    query = listing_query()
    assert service.call(listing.list_jobs, query).items[0].node_uuids == expected


def listing_query() -> Any:
    from jobtasks.core.filters import parse_query
    from jobtasks.core.resources import RESOURCES

    return parse_query(RESOURCES["jobs"], {}, 10)
