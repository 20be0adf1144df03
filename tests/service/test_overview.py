"""What a page says of a job at a glance, and signing in to look at it."""

from __future__ import annotations

import pytest

from jobtasks.core.errors import Forbidden, NotFound, NotLoggedIn
from jobtasks.service import census, overview, sessions, tokens, user_tokens
from jobtasks.service.context import Caller
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import ADMIN_TOKEN, AGENT_TOKEN, LocalService

ROOT = "zzzzz-tpzed-000000000000000"


def seen(service: LocalService, job: JobRecord) -> overview.Overview:
    return service.call(overview.of_job, job.uuid)


def test_the_frontier_and_who_holds_it(service: LocalService, agent: SimulatedAgent) -> None:
    """Its stragglers are named, oldest first, when nothing of it is left to start."""
    job = service.started_job()
    agent.grow(*[{"sequence": 1} for _ in range(6)], {"sequence": 2})
    first = agent.take()
    assert seen(service, job).frontier == 1
    assert seen(service, job).stragglers == []
    service.clock.advance(10)
    agent.complete(first[0])
    agent.complete(first[1])
    later = agent.take()
    found = seen(service, job)
    assert [task.uuid for task in found.stragglers] == [
        attempt.task for attempt in (*first[2:], *later)
    ]
    assert found.stragglers[0].hostname == "n1.example"
    assert found.stragglers[0].started_at < found.stragglers[-1].started_at
    for attempt in (*first[2:], *later):
        agent.complete(attempt)
    assert seen(service, job).frontier == 2


def test_an_end_is_expected_once_there_is_a_pace(
    service: LocalService, agent: SimulatedAgent
) -> None:
    job = service.started_job()
    agent.grow(*[{} for _ in range(7)])
    for attempt in agent.take():
        service.clock.advance(5)
        assert seen(service, job).expected_end is None or attempt.qsequence > 2
        agent.complete(attempt)
    found = seen(service, job)
    assert found.job.done == 5
    assert found.expected_end == service.clock.now + 20_000_000 * 3 // 5


def test_reasons_are_given_when_nothing_runs(service: LocalService, agent: SimulatedAgent) -> None:
    """Not while something does, and not when it is over."""
    job = service.started_job()
    assert [reason.code for reason in seen(service, job).reasons] == ["ready"]
    seed = agent.take_one()
    assert seen(service, job).reasons == []
    agent.complete(seed)
    found = seen(service, job)
    assert (found.reasons, found.frontier, found.expected_end) == ([], None, None)


def test_waiting_and_running_tasks_are_found_without_a_look_at_others(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """From a place on: those that run; and the first place that may have one that waits."""
    job = service.started_job()
    agent.grow(*[{} for _ in range(8)])
    running = agent.take()
    agent.complete(running[0])

    assert service.run(overview.running, job, -1, 10) == [2, 3, 4]
    assert service.run(overview.running, job, 2, 10) == [3, 4]
    assert service.run(overview.first_waiting, job) == 5
    agent.crash(running[1])
    assert service.run(overview.first_waiting, job) == 2


def test_another_users_job_is_not_seen(service: LocalService) -> None:
    job = service.new_job()
    token = service.new_user("ada")
    with pytest.raises(NotFound):
        service.as_token(token, overview.of_job, job.uuid)
    assert service.as_token(token, census.jobs_by_state)["Queued"] == 0
    assert service.call(census.jobs_by_state)["Queued"] == 1


def sign_in(service: LocalService, token: str) -> str:
    return service.run(lambda ctx: sessions.sign_in(ctx, token))


def caller_of(service: LocalService, token: str) -> Caller:
    return service.run(lambda ctx: tokens.identify(ctx, token))


def test_a_session_is_a_token_that_ends(service: LocalService) -> None:
    """After twelve hours, with the token it came from, or at sign-out."""
    secret = sign_in(service, ADMIN_TOKEN)
    assert caller_of(service, secret).is_admin
    service.clock.advance(sessions.SESSION_SECONDS)
    with pytest.raises(NotLoggedIn):
        caller_of(service, secret)
    again = sign_in(service, ADMIN_TOKEN)
    service.as_token(again, sessions.sign_out)
    with pytest.raises(NotLoggedIn):
        caller_of(service, again)


def test_a_link_signs_in_once(service: LocalService) -> None:
    """And allows nothing else; after an hour it does not."""
    link = service.run(sessions.add_link, ROOT)
    with pytest.raises(Forbidden):
        service.run(lambda ctx: tokens.identify(ctx, link, "GET /arvados/v1/jobs"))
    assert sessions.may_write(caller_of(service, sign_in(service, link)))
    with pytest.raises(NotLoggedIn):
        sign_in(service, link)
    late = service.run(sessions.add_link, ROOT)
    service.clock.advance(sessions.LINK_SECONDS)
    with pytest.raises(NotLoggedIn):
        sign_in(service, late)


def test_who_may_only_read_gets_no_more(service: LocalService) -> None:
    """Than reading; narrower tokens and agents do not sign in."""

    def token(*scopes: str) -> str:
        made = service.call(user_tokens.create, {"scopes": list(scopes)})
        assert made.api_token is not None
        return made.api_token

    reader = token("GET /")
    assert not sessions.may_write(caller_of(service, sign_in(service, reader)))
    for refused in (token("GET /arvados/v1/jobs/"), AGENT_TOKEN):
        with pytest.raises(Forbidden):
            sign_in(service, refused)


def test_names_of_owners(service: LocalService) -> None:
    found = service.run(census.names_of, {ROOT, "zzzzz-tpzed-000000000000001"})
    assert found == {ROOT: "root"}
