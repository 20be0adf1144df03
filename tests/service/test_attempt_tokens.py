"""What an attempt's token may do, and when it dies (R32)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from jobtasks.core.errors import (
    Forbidden,
    Invalid,
    JobTasksError,
    NotFound,
    NotLoggedIn,
    StaleAttempt,
)
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.protocol.messages import VERSION, Assignment, EndKind, Join, LogChunks, Sync
from jobtasks.service import jobs, listing, nodes, tasks
from jobtasks.store.statements import load_migrations
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import ADMIN_TOKEN, AGENT_TOKEN, LocalService

Call = Callable[[LocalService, str, dict[str, str]], Any]
JOIN = Join(VERSION, "n9", "host", "x", 1, 1, 1, 1)


def list_of(kind: str) -> Any:
    """Return a call that lists a kind of resource."""
    query = parse_query(RESOURCES[kind], {}, 100)
    method = listing.list_jobs if kind == "jobs" else listing.list_tasks
    return lambda service, token, uuids: service.as_token(token, method, query)


def of(method: Any, key: str, *arguments: Any, **named: Any) -> Call:
    """Return a call of `method` about the thing called `key`."""
    return lambda service, token, uuids: service.as_token(
        token, method, uuids[key], *arguments, **named
    )


PATCH: dict[str, Any] = {"progress": 0.5}
MAY: dict[str, Call] = {
    "show its job": of(jobs.show, "job"),
    "levels of its job": of(jobs.levels, "job"),
    "output of its job": of(jobs.output_page, "job", None),
    "show its task": of(tasks.show, "task"),
    "show a task of its job": of(tasks.show, "mate"),
    "attempts of a task of its job": of(tasks.attempts, "mate"),
    "write its task": of(tasks.update, "task", PATCH, whole=False),
    "create": lambda service, token, uuids: service.as_token(token, tasks.create, {}),
    "delete its child": of(tasks.delete, "child"),
    "list tasks": list_of("job_tasks"),
    "list jobs": list_of("jobs"),
}
MAY_NOT: dict[str, tuple[Call, type[JobTasksError]]] = {
    "show another job": (of(jobs.show, "other job"), NotFound),
    "levels of another job": (of(jobs.levels, "other job"), NotFound),
    "output of another job": (of(jobs.output_page, "other job", None), NotFound),
    "show a task of another job": (of(tasks.show, "other task"), NotFound),
    "attempts of a task of another job": (of(tasks.attempts, "other task"), NotFound),
    "write a task of another job": (of(tasks.update, "other task", PATCH, whole=False), NotFound),
    "delete a task of another job": (of(tasks.delete, "other task"), NotFound),
    "write a task of its job": (of(tasks.update, "mate", PATCH, whole=False), Forbidden),
    "write its child": (of(tasks.update, "child", PATCH, whole=False), Forbidden),
    "delete its own task": (of(tasks.delete, "task"), Forbidden),
    "delete a task of its job": (of(tasks.delete, "mate"), Forbidden),
    "delete a mate's child": (of(tasks.delete, "mate's child"), Forbidden),
    "change its job": (of(jobs.update, "job", {"priority": 1}, whole=False), Forbidden),
    "cancel its job": (of(jobs.cancel, "job", None), Forbidden),
    "retry its job": (of(jobs.retry, "job", None, None), Forbidden),
    "delete its job": (of(jobs.delete, "job"), Forbidden),
    "cancel another job": (of(jobs.cancel, "other job", None), NotFound),
    "create in another job": (
        lambda service, token, uuids: service.as_token(
            token, tasks.create, {"job_uuid": uuids["other job"]}
        ),
        Invalid,
    ),
    "create a job": (
        lambda service, token, uuids: service.as_token(token, jobs.create, {"command": ["x"]}),
        Forbidden,
    ),
    "join": (lambda service, token, uuids: service.as_token(token, nodes.join, JOIN), Forbidden),
    "sync": (
        lambda service, token, uuids: service.as_token(token, nodes.sync, Sync(1, 10**9)),
        Forbidden,
    ),
    "store logs": (
        lambda service, token, uuids: service.as_token(token, nodes.stored_logs, LogChunks(1, [])),
        Forbidden,
    ),
}


@pytest.fixture
def attempt(service: LocalService, agent: SimulatedAgent) -> tuple[Assignment, dict[str, str]]:
    """A running attempt with a child, a running mate with a child, and another job's task."""
    job, other = service.new_job(), service.new_job()
    service.tick()
    seed, stranger = agent.take()
    agent.create(seed, {}, {})
    agent.complete(seed)
    first, mate = agent.take()
    return first, {
        "job": job.uuid,
        "other job": other.uuid,
        "task": first.task,
        "mate": mate.task,
        "other task": stranger.task,
        "child": agent.create(first, {}).uuids[0],
        "mate's child": agent.create(mate, {}).uuids[0],
    }


@pytest.mark.rule("R32")
@pytest.mark.parametrize("what", MAY)
def test_an_attempt_may(
    service: LocalService, attempt: tuple[Assignment, dict[str, str]], what: str
) -> None:
    """Read its job and the job's tasks, write its own, create, delete what it created."""
    first, uuids = attempt
    MAY[what](service, first.token, uuids)


@pytest.mark.rule("R32")
@pytest.mark.parametrize("what", MAY_NOT)
def test_an_attempt_may_not(
    service: LocalService, attempt: tuple[Assignment, dict[str, str]], what: str
) -> None:
    """Everything else is denied, and leaves no trace."""
    first, uuids = attempt
    before = everything(service)
    call, error = MAY_NOT[what]
    with pytest.raises(JobTasksError) as problem:
        call(service, first.token, uuids)
    assert problem.type is error
    assert everything(service) == before


@pytest.mark.rule("R32")
def test_lists_show_an_attempt_its_own_job_only(
    service: LocalService, attempt: tuple[Assignment, dict[str, str]]
) -> None:
    """Other jobs and their tasks are in none."""
    first, uuids = attempt
    assert [job.uuid for job in MAY["list jobs"](service, first.token, uuids).items] == [
        uuids["job"]
    ]
    listed = MAY["list tasks"](service, first.token, uuids).items
    assert {task.job_uuid for task in listed} == {uuids["job"]}


def everything(service: LocalService) -> list[Any]:
    """Return every row of every table."""
    scripts = "".join(script for _, script in load_migrations())
    names = set[str]()
    for what, name in re.findall(r"^(CREATE|DROP) TABLE (\w+)", scripts, re.MULTILINE):
        (names.add if what == "CREATE" else names.discard)(name)
    return [sorted(service.rows(f"SELECT * FROM {name}"), key=repr) for name in sorted(names)]


def by_end(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The process has ended."""
    agent.end(attempt, exit_code=1)


def by_completion(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The task is complete."""
    agent.complete(attempt)


def by_cancel(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The job is cancelled, the process lives still."""
    service.call(jobs.cancel, attempt.job, None)


def by_lease(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The node was not heard for a whole lease."""
    service.pass_seconds(31)


def by_restart(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The agent was restarted."""
    agent.join()


def by_next_attempt(service: LocalService, agent: SimulatedAgent, attempt: Assignment) -> None:
    """The task's next attempt runs."""
    agent.end(attempt, EndKind.AGENT_LOST)
    agent.take()


DEATHS = [by_end, by_completion, by_cancel, by_lease, by_restart, by_next_attempt]


@pytest.mark.rule("R32", "R33", "R35")
@pytest.mark.parametrize("death", DEATHS, ids=lambda death: str(death.__name__))
def test_a_token_dies_with_its_attempt(
    service: LocalService,
    agent: SimulatedAgent,
    attempt: tuple[Assignment, dict[str, str]],
    death: Callable[[LocalService, SimulatedAgent, Assignment], None],
) -> None:
    """Each late call gets 403 and leaves no trace, reads included."""
    first, uuids = attempt
    death(service, agent, first)
    before = everything(service)
    for call in MAY.values():
        with pytest.raises(StaleAttempt):
            call(service, first.token, uuids)
    assert everything(service) == before


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    "token", [None, "", "x", "Bearer", "a" * 50, "u" * 50, "ä" * 50, "a" + "0" * 49]
)
def test_what_is_no_token_is_not_logged_in(service: LocalService, token: str | None) -> None:
    """401 for none, for nonsense, and for one that names an attempt which does not exist."""
    with pytest.raises(NotLoggedIn):
        service.as_token(token, lambda ctx, caller: caller)


@pytest.mark.rule("R32")
def test_a_guessed_secret_is_not_logged_in(service: LocalService, agent: SimulatedAgent) -> None:
    """The attempt's number alone is nothing, one wrong digit is enough."""
    service.started_job()
    token = agent.take_one().token
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    with pytest.raises(NotLoggedIn):
        service.as_token(wrong, lambda ctx, caller: caller)
    assert service.as_token(token, lambda ctx, caller: caller).role == "attempt"


@pytest.mark.rule("R32")
def test_roles_of_the_directorys_tokens(service: LocalService) -> None:
    """The admin's and the agent's; an agent sees no job, the admin is no agent."""
    job = service.new_job()
    assert service.as_token(ADMIN_TOKEN, lambda ctx, caller: caller).is_admin
    with pytest.raises(NotFound):
        service.as_token(AGENT_TOKEN, jobs.show, job.uuid)
    with pytest.raises(Forbidden):
        service.as_token(ADMIN_TOKEN, nodes.join, JOIN)


@pytest.mark.rule("R32")
@pytest.mark.parametrize("column", ["expires_at", "revoked_at"])
def test_a_token_that_has_expired_is_not_logged_in(service: LocalService, column: str) -> None:
    """Or was revoked."""

    def spoil(tx: Any) -> None:
        tx.text(f"UPDATE token SET {column} = :now WHERE role = 'user'", {"now": 1})

    service.write(spoil)
    with pytest.raises(NotLoggedIn):
        service.as_token(ADMIN_TOKEN, lambda ctx, caller: caller)


@pytest.mark.rule("R32")
def test_a_token_of_a_deleted_job_is_known_for_what_it_was(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """403 and not 401: its attempt is over, and its job gone with every row."""
    job = service.started_job()
    assignment = agent.take_one()
    service.call(jobs.cancel, job.uuid, None)
    agent.end(assignment)
    service.call(jobs.delete, job.uuid)
    service.tick()
    with pytest.raises(StaleAttempt):
        service.as_token(assignment.token, lambda ctx, caller: caller)
