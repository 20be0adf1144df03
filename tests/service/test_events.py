"""What happens is written once a transaction, in the order of commits, and seen by its owner."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings
from jobtasks.service import events, jobs, listing, steering, user_logs, user_tokens, users
from jobtasks.store.records import LogRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, LocalService

LOGS = RESOURCES["logs"]


@pytest.fixture
def service() -> Iterator[LocalService]:
    local = LocalService()
    yield local
    local.close()


def entries(service: LocalService, token: str | None = None, **query: Any) -> list[LogRecord]:
    """Return the entries in order, as the token's owner sees them."""
    asked = parse_query(LOGS, {"order": "id", "limit": 1000, **query}, 1000)
    if token is None:
        return list(service.call(listing.list_logs, asked).items)
    return list(service.as_token(token, listing.list_logs, asked).items)


def told(entry: LogRecord) -> tuple[str | None, str | None, str | None]:
    """Return what changed: the kind of object, its old and its new state."""
    properties = json.loads(entry.properties)
    old, new = (properties.get(f"{which}_attributes", {}).get("state") for which in ("old", "new"))
    return (entry.object_uuid or "")[6:11] or None, old, new


def test_the_life_of_a_job_is_told_in_order(service: LocalService) -> None:
    """Its states, its tasks', with the attempts and what ended them."""
    agent = SimulatedAgent(service)
    job = service.started_job()
    seed = agent.take_one()
    agent.create(seed, {}, {})
    agent.complete(seed)
    first, second = agent.take()
    agent.complete(first)
    agent.fail(second)
    found = [
        told(entry) for entry in entries(service, filters=[["object_uuid", "is_a", "arvados#job"]])
    ]
    assert found == [
        ("8i9sb", None, "Queued"),
        ("8i9sb", "Queued", "Running"),
        ("8i9sb", "Running", "Failed"),
    ]
    tasks = [e for e in entries(service) if (e.object_uuid or "")[6:11] == "ot0gb"]
    changes = [told(e)[1:] for e in tasks if e.event_type == "update"]
    assert changes == [
        ("waiting", "running"),
        ("running", "complete"),
        ("waiting", "running"),
        ("waiting", "running"),
        ("running", "complete"),
        ("running", "failed"),
    ]
    (created,) = [json.loads(e.properties) for e in tasks if e.event_type == "create"]
    assert created == {"first_qsequence": 1, "count": 2}
    last = json.loads(tasks[-1].properties)["attempt"]
    assert (last["number"], last["cause"], last["exit_code"]) == (1, "exit", 0)
    assert {e.job_id for e in tasks} == {job.id}


def test_a_transaction_writes_one_row(service: LocalService) -> None:
    """Sixteen ends and sixteen starts in one sync: one row; a sync without news: none."""
    agent = SimulatedAgent(service, slots=16)
    service.started_job()
    agent.grow(*[{}] * 40)
    running = agent.take()
    for assignment in running:
        agent.write(assignment, success=True)
        agent.end(assignment, sync=False)
    before = service.rows("SELECT count(*) FROM event")
    agent.sync()
    ((rows,),) = service.rows("SELECT count(*) FROM event")
    assert rows == before[0][0] + 1
    newest = [e for e in entries(service) if e.event_id == entries(service)[-1].event_id]
    assert len(newest) == 32
    agent.renew()
    agent.renew()
    assert service.rows("SELECT count(*) FROM event") == [(rows,)]


def test_what_was_refused_never_happened(service: LocalService) -> None:
    """A rolled back transaction leaves no entry."""
    job = service.new_job()
    before = entries(service)
    with pytest.raises(Invalid):
        service.call(jobs.update, job.uuid, {"priority": "high"}, whole=False)
    assert entries(service) == before


def person(service: LocalService, name: str) -> tuple[str, str]:
    """Return a new user's UUID and token."""
    user = service.call(users.create, {"username": name})
    token = service.call(user_tokens.create, {"owner_uuid": user.uuid}).api_token
    assert token
    return user.uuid, token


@pytest.mark.rule("R32")
def test_everyone_sees_what_is_his(service: LocalService) -> None:
    """A user the entries of his jobs and of nodes, an attempt those of its job, an admin all."""
    agent = SimulatedAgent(service)
    _, ada = person(service, "ada")
    _, bob = person(service, "bob")
    script = {"script": "s", "script_version": "/"}
    mine = service.as_token(ada, jobs.create, script)
    service.as_token(bob, jobs.create, script)
    service.tick()
    assert {
        e.object_uuid
        for e in entries(service, ada, filters=[["object_uuid", "is_a", "arvados#job"]])
    } == {mine.uuid}
    assert any((e.object_uuid or "")[6:11] == "7ekkf" for e in entries(service, ada))
    attempt = agent.take()[0]
    seen = entries(service, attempt.token)
    assert seen and len({e.job_id for e in seen}) == 1
    assert len({e.job_id for e in entries(service)}) == 3
    for entry in entries(service):
        if entry.job_id not in (mine.id, None):
            with pytest.raises(NotFound):
                service.as_token(ada, user_logs.show, entry.uuid)


def test_users_write_entries_of_their_own(service: LocalService) -> None:
    """They have a place among what happens; nobody changes them; others do not see them."""
    ada_uuid, ada = person(service, "ada")
    _, bob = person(service, "bob")
    job = service.as_token(ada, jobs.create, {"command": ["true"]})
    given = {"object_uuid": job.uuid, "event_type": "note", "properties": {"text": "look"}}
    made = service.as_token(ada, user_logs.create, given)
    assert (made.owner_uuid, made.object_owner_uuid) == (ada_uuid, ada_uuid)
    assert service.as_token(ada, user_logs.show, made.uuid) == made
    assert entries(service, ada)[-1] == made
    with pytest.raises(NotFound):
        service.as_token(bob, user_logs.show, made.uuid)
    assert made not in entries(service, bob)
    with pytest.raises(Invalid):
        service.as_token(ada, user_logs.create, {"properties": "x"})
    unknown = service.as_token(bob, user_logs.create, given)
    assert (unknown.object_owner_uuid, unknown in entries(service, ada)) == (None, False)
    with pytest.raises(Forbidden):
        service.as_token(AGENT_TOKEN, user_logs.create, {})


@pytest.mark.rule("R32")
def test_an_attempt_writes_about_its_own_job(service: LocalService) -> None:
    """About its own task by default; about another's job it may not."""
    other = service.new_job()
    agent = SimulatedAgent(service)
    service.tick()
    attempt = agent.take_one()
    made = service.as_token(attempt.token, user_logs.create, {"summary": "half way"})
    assert made.object_uuid == attempt.task
    about_job = service.as_token(attempt.token, user_logs.create, {"object_uuid": attempt.job})
    assert entries(service, attempt.token)[-2:] == [made, about_job]
    assert other.uuid == attempt.job
    elsewhere = service.new_job().uuid
    with pytest.raises(Forbidden):
        service.as_token(attempt.token, user_logs.create, {"object_uuid": elsewhere})


def test_a_deleted_job_leaves_the_news_of_it(service: LocalService) -> None:
    """What happened to it before is seen no more."""
    job = service.new_job()
    service.call(jobs.delete, job.uuid)
    (entry,) = entries(service)
    assert (entry.event_type, entry.object_uuid, entry.object_owner_uuid) == (
        "delete",
        job.uuid,
        job.owner_uuid,
    )


def test_what_an_administrator_does_to_a_node_is_told(service: LocalService) -> None:
    """Joined, held, released."""
    SimulatedAgent(service)
    ((uuid,),) = service.rows("SELECT uuid FROM node")
    service.call(steering.hold, uuid, 60)
    service.call(steering.release, uuid)
    assert [(e.object_uuid, e.summary) for e in entries(service)] == [
        (uuid, "joined"),
        (uuid, "held"),
        (uuid, "released"),
    ]


def test_old_entries_are_forgotten_in_slices() -> None:
    """By age and by number; those that users wrote stay."""
    settings = dataclasses.replace(Settings(), events_max=5, events_seconds=100.0)
    service = LocalService(settings=settings)
    note = service.call(user_logs.create, {"summary": "stays"})
    for _ in range(10):
        service.new_job()
    service.tick()
    assert service.run(events.kept_from) == service.run(events.newest) - 4
    service.pass_seconds(101)
    service.tick()
    assert entries(service) == [note]
    assert service.run(events.kept_from) == service.run(events.newest) + 1
    service.close()
