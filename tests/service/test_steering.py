"""Nodes as resources: what they show, hold, drain, release, delete; what the claim makes of it."""

from __future__ import annotations

import math
from typing import Any

import pytest

from jobtasks.core.errors import Invalid, NotFound
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.states import UNTIL_RELEASED, NodeState
from jobtasks.service import explain, jobs, listing, steering, tasks
from jobtasks.store.records import NodeRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

MICROSECONDS = 1_000_000


def listed(service: LocalService, **parameters: Any) -> list[NodeRecord]:
    query = parse_query(RESOURCES["nodes"], {"order": "hostname", **parameters}, 1000)
    return list(service.call(listing.list_nodes, query).items)


def of(service: LocalService, agent: SimulatedAgent) -> NodeRecord:
    (node,) = listed(service, filters=[["hostname", "=", f"{agent.node}.example"]])
    return node


def codes(service: LocalService, uuid: str) -> list[str]:
    return [reason.code for reason in service.call(explain.task_reasons, uuid)]


def test_what_a_node_shows(service: LocalService) -> None:
    """Its size, what is free, how often it was heard; the state follows."""
    agent = SimulatedAgent(service, slots=2, memory_kib=4_096_000, cores=3, scratch_mb=7)
    node = of(service, agent)
    assert (node.state, node.crunch_worker_state, node.status) == ("live", "idle", "running")
    assert node.properties == ('{"total_cpu_cores":3,"total_ram_mb":4000,"total_scratch_mb":7}')
    assert (node.slots, node.free_slots, node.free_memory_kib) == (2, 2, 4_096_000)
    service.started_job(runtime_constraints={"min_ram_per_task": 1_000_000})
    agent.grow({}, {})
    service.clock.advance(3)
    agent.take()
    node = of(service, agent)
    assert node.last_ping_at == service.clock.now
    assert (node.state, node.crunch_worker_state, node.attempts_live) == ("busy", "busy", 2)
    assert (node.free_slots, node.free_memory_kib) == (0, 2_096_000)
    agent.sync(leaving=True)
    node = of(service, agent)
    assert (node.state, node.crunch_worker_state, node.status) == ("gone", "down", "missing")
    assert node.attempts_live == 0


def test_nodes_are_filtered_and_ordered(service: LocalService) -> None:
    """By state, by size, by name."""
    for name, slots in (("b", 4), ("a", 2), ("c", 8)):
        SimulatedAgent(service, name, slots=slots)
    service.call(steering.drain, listed(service)[1].uuid)
    names = [node.hostname for node in listed(service, filters=[["state", "=", "live"]])]
    assert names == ["a.example", "c.example"]
    large = listed(service, filters=[["slots", ">", 2]], order="slots desc")
    assert [node.hostname for node in large] == ["c.example", "b.example"]
    assert listed(service, filters=[["draining", "=", True]])[0].state == NodeState.DRAINED


def test_every_word_of_the_view_is_a_state(service: LocalService) -> None:
    """Gone before drained, drained or draining before held, held before busy."""
    agent = SimulatedAgent(service, slots=1)
    seen = [of(service, agent).state]
    service.started_job()
    seed = agent.take_one()
    uuid = of(service, agent).uuid
    seen += [service.call(steering.show, uuid).state]
    seen += [service.call(steering.hold, uuid).state]
    seen += [service.call(steering.drain, uuid).state]
    agent.complete(seed)
    seen += [of(service, agent).state]
    agent.sync(leaving=True)
    seen += [of(service, agent).state]
    assert seen == ["live", "busy", "held", "draining", "drained", "gone"]
    assert set(seen) == set(NodeState)


def test_a_hold_with_an_end(service: LocalService, agent: SimulatedAgent) -> None:
    """What runs goes on; nothing new starts until then; the manager wakes whoever waits."""
    service.started_job()
    first, second = agent.grow({}, {})
    agent.take(free_slots=[1])
    uuid = of(service, agent).uuid
    held = service.call(steering.hold, uuid, 60, "  disk\n makes noises ")
    assert (held.state, held.held_reason) == ("held", "disk makes noises")
    assert held.held_until == service.clock.now + 60 * MICROSECONDS
    assert held.held_by_user_uuid == held.modified_by_user_uuid == held.owner_uuid
    assert agent.take() == []
    assert codes(service, first) == ["running"]
    assert codes(service, second) == ["nodes_held"]
    (reason,) = service.call(explain.task_reasons, second)
    assert "n1.example until" in reason.text
    assert "(in 60 s): disk makes noises" in reason.text
    assert service.tick() == 60 * MICROSECONDS, "the manager sleeps no longer"
    for assignment in list(agent.running.values()):
        agent.complete(assignment)
    service.pass_seconds(59.999, agent)
    assert agent.take() == []
    service.wake.clear()
    service.pass_seconds(0.001)
    assert "nodes" in service.wake
    assert [one.task for one in agent.take()] == [second]
    node = of(service, agent)
    assert (node.state, node.held_until, node.held_reason) == ("live", None, None)


def test_a_hold_without_an_end(service: LocalService, agent: SimulatedAgent) -> None:
    """Until it is released; readers see no time, and no tick waits for it."""
    job = service.new_job()
    uuid = of(service, agent).uuid
    held = service.call(steering.hold, uuid)
    assert (held.state, held.held_until, held.held_reason) == ("held", None, None)
    assert service.rows("SELECT held_until FROM node") == [(UNTIL_RELEASED,)]
    assert service.tick() is None
    assert service.job(job).state == "Queued"
    (reason,) = service.call(explain.job_reasons, job.uuid)
    assert "n1.example until it is released." in reason.text
    assert reason.details["nodes"][0]["until"] is None
    service.pass_seconds(10_000, agent)
    assert service.job(job).state == "Queued"
    service.wake.clear()
    assert service.call(steering.release, uuid).state == "live"
    assert service.wake == {"events", "manager", "nodes"}
    service.tick()
    assert len(agent.take()) == 1


def test_a_hold_may_be_changed(service: LocalService, agent: SimulatedAgent) -> None:
    """The last one holds; so an endless one gets an end."""
    uuid = of(service, agent).uuid
    service.call(steering.hold, uuid, None, "first")
    held = service.call(steering.hold, uuid, "0.5", None)
    assert held.held_until == service.clock.now + 500_000
    assert held.held_reason is None


def test_a_drain_lasts(service: LocalService, agent: SimulatedAgent) -> None:
    """Also when the agent begins anew; release ends it and a hold together."""
    service.started_job()
    uuids = agent.grow({}, {})
    (running,) = agent.take(free_slots=[1])
    uuid = of(service, agent).uuid
    draining = service.call(steering.drain, uuid, "new disk")
    assert (draining.state, draining.draining, draining.draining_reason) == (
        *("draining", 1),
        "new disk",
    )
    assert agent.take() == []
    (reason,) = service.call(explain.task_reasons, uuids[1])
    assert reason.code == "nodes_draining"
    assert "n1.example: new disk." in reason.text
    agent.complete(running)
    assert of(service, agent).state == "drained"
    agent.sync(leaving=True)
    agent.join()
    assert (of(service, agent).state, agent.take()) == ("drained", [])
    service.call(steering.hold, uuid, 5)
    released = service.call(steering.release, uuid)
    assert (released.state, released.draining_reason, released.held_until) == ("live", None, None)
    assert [one.task for one in agent.take()] == [uuids[1]]


def test_a_release_of_nothing_changes_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """Nor does it wake anybody."""
    before = of(service, agent)
    service.wake.clear()
    service.clock.advance(1)
    assert service.call(steering.release, before.uuid) == before
    assert service.wake == set()


@pytest.mark.rule("R12")
@pytest.mark.parametrize("method", [steering.hold, steering.drain])
def test_no_task_avoids_the_only_node_that_takes_work(service: LocalService, method: Any) -> None:
    """It failed on one node; the other is held or drained: the first takes it again at once."""
    here = SimulatedAgent(service, "n1", slots=1)
    there = SimulatedAgent(service, "n2", slots=1)
    service.started_job()
    (task,) = here.grow({})
    attempt = here.take_one()
    here.crash(attempt)
    service.pass_seconds(2, here, there)
    assert here.take() == []
    service.call(method, of(service, there).uuid)
    assert [one.task for one in here.take()] == [task]
    assert there.take() == []


def test_only_a_node_that_is_gone_is_deleted(service: LocalService, agent: SimulatedAgent) -> None:
    """Then no list, show or explanation knows it, but its attempts do; it may come back."""
    job = service.started_job()
    seed = agent.take_one()
    node = of(service, agent)
    with pytest.raises(Invalid, match="only a node whose agent is gone"):
        service.call(steering.delete, node.uuid)
    agent.crash(seed)
    service.call(steering.drain, node.uuid)
    agent.sync(leaving=True)
    deleted = service.call(steering.delete, node.uuid)
    assert (deleted.uuid, deleted.state) == (node.uuid, "gone")
    assert listed(service) == []
    for method in (steering.show, steering.hold, steering.release, steering.delete):
        with pytest.raises(NotFound):
            service.call(method, node.uuid)
    assert [one.node for one in service.attempts(seed.task)] == ["n1.example"]
    assert codes(service, seed.task) == ["delay", "no_node"]
    agent.join()
    back = of(service, agent)
    assert (back.uuid, back.state, back.draining) == (node.uuid, "live", 0)
    service.pass_seconds(2, agent)
    agent.complete(agent.take_one())
    assert service.job(job).state == "Complete"


def test_a_node_with_a_lost_agent_is_deleted_when_its_lease_is_over(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Silence alone is no end."""
    uuid = of(service, agent).uuid
    service.pass_seconds(29)
    with pytest.raises(Invalid):
        service.call(steering.delete, uuid)
    service.pass_seconds(2)
    assert service.call(steering.delete, uuid).state == "gone"


@pytest.mark.parametrize(
    "seconds", [0, -1, math.nan, math.inf, "soon", "nan", [], True, 366 * 86400 + 1, 10**400]
)
def test_a_hold_takes_a_number_of_seconds(
    service: LocalService, agent: SimulatedAgent, seconds: Any
) -> None:
    """Anything else changes nothing."""
    node = of(service, agent)
    with pytest.raises(Invalid, match="seconds must be a number"):
        service.call(steering.hold, node.uuid, seconds)
    assert of(service, agent) == node


@pytest.mark.parametrize("reason", [5, "x" * 256, "a\0b", ["x"]])
@pytest.mark.parametrize("method", ["hold", "drain"])
def test_a_reason_is_a_short_text(
    service: LocalService, agent: SimulatedAgent, method: str, reason: Any
) -> None:
    """Anything else changes nothing, and is called by the name that the caller gave it."""
    node = of(service, agent)
    with pytest.raises(Invalid, match=r"^reason must"):
        if method == "hold":
            service.call(steering.hold, node.uuid, 5, reason)
        else:
            service.call(steering.drain, node.uuid, reason)
    assert of(service, agent) == node


@pytest.mark.rule("R32")
def test_what_runs_on_a_node(service: LocalService, agent: SimulatedAgent) -> None:
    """By slot, with job and task; also what is being stopped, as it has its slot still."""
    job = service.started_job(runtime_constraints={"min_ram_per_task": 100})
    agent.grow({}, {})
    first, second = agent.take()
    uuid = of(service, agent).uuid
    found = service.call(steering.attempts, uuid)
    assert [(one.slot, one.task_uuid, one.memory_kib) for one in found] == [
        (first.slot, first.task, 100),
        (second.slot, second.task, 100),
    ]
    assert {one.job_uuid for one in found} == {job.uuid}
    for token in (first.token,):
        with pytest.raises(NotFound):
            service.as_token(token, steering.attempts, uuid)
    service.call(jobs.cancel, job.uuid, None)
    assert len(service.call(steering.attempts, uuid)) == 2
    agent.end(first, exit_code=0)
    assert len(service.call(steering.attempts, uuid)) == 1
    assert service.call(tasks.show, first.task)


def test_the_job_that_a_node_serves_is_its_owners_business(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """A node of a batch allocation names its job; to others it does not."""
    from jobtasks.service import user_tokens, users

    job = service.started_job()
    ada = service.call(users.create, {"username": "ada"})
    token = service.call(user_tokens.create, {"owner_uuid": ada.uuid}).api_token
    service.write(lambda tx: tx.text("UPDATE node SET job_id = (SELECT max(id) FROM job)", {}))
    node = of(service, agent)
    assert node.job_uuid == job.uuid
    seen = service.as_token(token, steering.show, node.uuid)
    assert (seen.job_uuid, seen.job_owner_uuid) == (None, None)
    query = parse_query(RESOURCES["nodes"], {}, 10)
    assert [one.job_uuid for one in service.as_token(token, listing.list_nodes, query).items] == [
        None
    ]
    with pytest.raises(Invalid, match="job_uuid"):
        parse_query(RESOURCES["nodes"], {"filters": [["job_uuid", "=", job.uuid]]}, 10)
