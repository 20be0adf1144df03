"""Notices are part of the transaction that ends a job; they are settled once, or taken again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.notifying import COMMAND, SERVER, Notifying
from jobtasks.core.settings import Settings
from jobtasks.service import jobs, notices
from jobtasks.service.notices import Notice
from jobtasks.store.sqlite import SqliteStore
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

OWN = "https://hooks.example.com/mine"
PLAN = Notifying(("tell",), "https://example.com/all", ("https://hooks.example.com",))


@pytest.fixture
def telling() -> Iterator[LocalService]:
    """A service whose server tells a command, an address, and what jobs name below another."""
    service = LocalService(settings=Settings(notify_give_up_seconds=100.0))
    service.world = dataclasses.replace(service.world, notifying=PLAN)
    yield service
    service.close()


def take_all(service: LocalService) -> list[Notice]:
    found: list[Notice] = []
    while notice := service.run(notices.take, ()):
        found.append(notice)
    return found


def waiting(service: LocalService) -> int:
    return int(service.rows("SELECT count(*) FROM notice")[0][0])


def cancelled(service: LocalService, **attributes: Any) -> str:
    uuid = service.new_job(**attributes).uuid
    service.call(jobs.cancel, uuid, "no use")
    return uuid


@pytest.mark.parametrize("state", ["Complete", "Failed", "Cancelled"])
def test_every_end_is_told_to_everybody(telling: LocalService, state: str) -> None:
    """With the record as it is from then on, and one uuid for each who is told."""
    agent = SimulatedAgent(telling)
    job = telling.started_job(description="d", runtime_constraints={"notify_url": OWN})
    seed = agent.take_one()
    assert waiting(telling) == 0
    if state == "Cancelled":
        telling.call(jobs.cancel, job.uuid, "no use")
    else:
        (agent.complete if state == "Complete" else agent.fail)(seed)
    found = take_all(telling)
    assert [notice.target for notice in found] == [COMMAND, SERVER, OWN]
    assert "notices" in telling.wake
    record = telling.job(job)
    for notice in found:
        facts = json.loads(notice.body)
        assert facts["delivery"] == notice.uuid
        assert (facts["uuid"], facts["state"], facts["log"]) == (job.uuid, state, record.log)
        assert facts["description"] == "d"
        assert (facts["finished_at"] is None) == (state == "Cancelled")
        assert (facts["cancelled_at"] is None) == (state != "Cancelled")
        assert sum(facts["tasks_summary"].values()) == 1
    assert len({notice.uuid for notice in found}) == 3


@pytest.mark.rule("R7b")
def test_the_end_of_a_foreign_job_is_told(telling: LocalService) -> None:
    """Its own manager says when it is over, and may say the same again; its counts are told."""
    job = telling.call(
        jobs.create, {"state": "Running", "runtime_constraints": {"notify_url": OWN, "x": [1]}}
    )
    told = {"state": "Complete", "tasks_summary": {"done": 5}}
    for _ in range(2):
        telling.call(jobs.update, job.uuid, told, whole=False)
    found = take_all(telling)
    assert [notice.target for notice in found] == [COMMAND, SERVER, OWN]
    facts = json.loads(found[0].body)
    assert (facts["state"], facts["tasks_summary"]) == ("Complete", {"done": 5})
    with pytest.raises(Invalid, match="notify-allow"):
        telling.call(
            jobs.create,
            {"state": "Running", "runtime_constraints": {"notify_url": "https://[::1"}},
        )


def test_a_second_cancel_tells_nobody(telling: LocalService) -> None:
    """Only what changes a state is news; a retry that ends again is."""
    uuid = cancelled(telling)
    telling.call(jobs.cancel, uuid, "again")
    assert waiting(telling) == 2
    telling.call(jobs.retry, uuid, None, None)
    telling.call(jobs.cancel, uuid, None)
    assert waiting(telling) == 4


def test_an_end_that_is_rolled_back_is_not_told(telling: LocalService) -> None:
    """News and end are one transaction."""
    job = telling.new_job()

    def cancel_and_fail(ctx: Any, caller: Any) -> None:
        jobs.cancel(ctx, caller, job.uuid, None)
        raise Invalid("after all")

    with pytest.raises(Invalid):
        telling.call(cancel_and_fail)
    assert (telling.job(job).state, waiting(telling)) == ("Queued", 0)


def statements_of_an_end(service: LocalService) -> int:
    """Return how many statements the end of a job's last task takes."""
    agent = SimulatedAgent(service)
    service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=True)
    store = service.store
    assert isinstance(store, SqliteStore)
    seen: list[str] = []
    store._connection.set_trace_callback(seen.append)
    agent.end(seed)
    store._connection.set_trace_callback(None)
    assert service.rows("SELECT state FROM job") == [("Complete",)]
    return len(seen)


def test_an_end_costs_a_statement_and_one_for_each_who_is_told(telling: LocalService) -> None:
    """None where nobody is: neither a task's end nor a job's pays for what is not used."""
    quiet = LocalService()
    allowing = LocalService()
    allowing.world = dataclasses.replace(allowing.world, notifying=Notifying(allowed=(OWN,)))
    without = statements_of_an_end(quiet)
    assert statements_of_an_end(allowing) == without
    assert statements_of_an_end(telling) == without + 3
    quiet.close()
    allowing.close()


@pytest.mark.rule("R30")
def test_a_job_may_name_listed_addresses_only(telling: LocalService, service: LocalService) -> None:
    """At create, in a change, with a retry; by default none. The path is not repeated."""
    evil = {"notify_url": "http://169.254.169.254/latest/meta-data"}
    job = telling.new_job(runtime_constraints={"notify_url": OWN})
    with pytest.raises(Invalid, match=r"http://169\.254\.169\.254 is not among"):
        telling.new_job(runtime_constraints=evil)
    with pytest.raises(Invalid, match="notify-allow"):
        telling.call(jobs.update, job.uuid, {"runtime_constraints": evil}, whole=False)
    telling.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid, match="notify-allow"):
        telling.call(jobs.retry, job.uuid, None, evil)
    assert telling.job(job).state == "Cancelled"
    with pytest.raises(Invalid, match="notify-allow"):
        service.new_job(runtime_constraints={"notify_url": OWN})


def test_what_is_taken_is_not_taken_again_for_a_while(telling: LocalService) -> None:
    """As long as a try may last and a little more; then whoever took it is believed to be gone."""
    cancelled(telling)
    first = take_all(telling)
    assert len(first) == 2
    telling.clock.advance(59)
    assert take_all(telling) == []
    telling.clock.advance(2)
    again = take_all(telling)
    assert [notice.uuid for notice in again] == [notice.uuid for notice in first]
    assert [notice.tries for notice in again] == [2, 2]
    assert telling.run(notices.settle, first[0], None) == "delivered"
    assert waiting(telling) == 2, "who took it later settles it"
    assert telling.run(notices.settle, again[0], None) == "delivered"
    assert waiting(telling) == 1


def test_a_server_that_starts_takes_everything(telling: LocalService) -> None:
    """What its predecessor had taken, and what it had put off."""
    cancelled(telling)
    first, _ = take_all(telling)
    telling.run(notices.settle, first, "answered 500")
    telling.run(notices.release)
    assert [notice.tries for notice in take_all(telling)] == [2, 2]


def test_failures_are_tried_again_and_given_up(telling: LocalService) -> None:
    """With growing delays; at last the job's record says who was not told, and why."""
    uuid = cancelled(telling)
    (command, server) = take_all(telling)
    telling.run(notices.settle, command, None)
    outcomes, delays = [], []
    while True:
        outcomes.append(telling.run(notices.settle, server, "answered\n500"))
        due = telling.run(notices.next_due, ())
        if due is None:
            break
        delays.append(due / 1_000_000)
        telling.clock.advance(delays[-1])
        (server,) = take_all(telling)
    assert delays == [5, 10, 20, 40]
    assert outcomes == ["failed"] * 4 + ["given_up"]
    assert waiting(telling) == 0
    assert telling.job(uuid).log == (
        "cancelled: no use\n"
        "the server's address for notifications was not told of the end: answered 500 (tries: 5)"
    )


def test_what_is_given_up_of_a_job_that_goes_on_or_is_gone(telling: LocalService) -> None:
    """No record is touched that is not the end's."""
    again, gone = cancelled(telling), cancelled(telling)
    found = take_all(telling)
    telling.call(jobs.retry, again, None, None)
    telling.call(jobs.delete, gone)
    telling.clock.advance(1000)
    assert [telling.run(notices.settle, one, "x") for one in found] == ["given_up"] * 4
    assert telling.job(again).log is None


def test_a_busy_target_does_not_keep_others_waiting(telling: LocalService) -> None:
    """However many notices wait for it."""
    for _ in range(3):
        cancelled(telling)
    cancelled(telling, runtime_constraints={"notify_url": OWN})
    first = telling.run(notices.take, (COMMAND, SERVER))
    assert first is not None
    assert first.target == OWN
    assert telling.run(notices.take, (COMMAND, SERVER, OWN)) is None
    assert telling.run(notices.next_due, (COMMAND, SERVER, OWN)) is None
    assert telling.run(notices.next_due, (COMMAND,)) == 0


def test_who_is_told_is_named_without_secrets(telling: LocalService) -> None:
    """For logs and records."""
    cancelled(telling, runtime_constraints={"notify_url": OWN})
    named = [telling.run(notices.whom, notice) for notice in take_all(telling)]
    assert named == [
        "the server's command",
        "the server's address for notifications",
        "https://hooks.example.com",
    ]
