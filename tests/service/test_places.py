"""Attempts that wait behind others in a slot: who gets them, what becomes of them (R33, R35)."""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import Any

import pytest

from jobtasks.core.states import AttemptState, TaskState
from jobtasks.protocol.messages import Alive, Assignment, Ended, EndKind, Orders
from jobtasks.service import jobs
from jobtasks.store.base import Tx
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

pytestmark = pytest.mark.rule("R33", "R35")


@pytest.fixture
def agent(service: LocalService) -> SimulatedAgent:
    """A node of two slots, 1,000,000 KiB."""
    return SimulatedAgent(service, slots=2)


def children(
    service: LocalService, agent: SimulatedAgent, count: int = 20, **given: Any
) -> JobRecord:
    """Return a running job with so many tasks ready."""
    job = service.started_job(**given)
    agent.grow(*repeat({}, count))
    return job


def sync_holding(agent: SimulatedAgent, held: list[Assignment], **changes: Any) -> Orders:
    """Sync while these wait and no slot is free."""
    waiting = [one.attempt for one in held]
    running = [Alive(attempt) for attempt in agent.running if attempt not in waiting]
    return agent.sync(running=running, held=waiting, free_slots=[], **changes)


def slots_of(started: list[Assignment]) -> list[int]:
    return [assignment.slot for assignment in started]


def test_others_wait_behind_those_that_get_the_free_slots(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """In order of qsequence, as many behind each slot; no more than there are places."""
    children(service, agent)
    started = agent.sync(places=3).start
    assert slots_of(started) == [1, 2, 1, 2, 1, 2]
    assert [one.qsequence for one in started] == sorted(one.qsequence for one in started)
    assert sync_holding(agent, started[2:], places=3).start == []
    agent.write(started[0], success=True)
    agent.end(started[0], sync=False)
    (next_one,) = sync_holding(agent, started[3:], places=3).start
    assert next_one.slot == 1


def test_without_places_nothing_waits(service: LocalService, agent: SimulatedAgent) -> None:
    """An agent that does not ask for it gets what it has free slots for."""
    children(service, agent)
    assert slots_of(agent.sync().start) == [1, 2]


def test_what_is_held_is_neither_repeated_nor_asked_about(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """It goes on as assigned, and is not missed, however long."""
    children(service, agent)
    started = agent.sync(places=2).start
    for _ in range(8):
        orders = sync_holding(agent, started[2:], places=2)
        assert (orders.start, orders.ask, orders.stop) == ([], [], [])
        service.clock.advance(5)
        service.tick()
    rows = service.rows("SELECT state FROM attempt WHERE state < 3")
    states = Counter(AttemptState(state) for (state,) in rows)
    assert states == {AttemptState.RUNNING: 2, AttemptState.ASSIGNED: 2}


def test_what_is_given_back_waits_again(service: LocalService, agent: SimulatedAgent) -> None:
    """Nothing is counted against it; another node gets it."""
    children(service, agent, count=3)
    *_, last = agent.sync(places=2).start
    agent.running.pop(last.attempt)
    orders = agent.sync(refused=[last.attempt], free_slots=[])
    assert orders.acknowledged == [last.attempt]
    task = service.task(last.task)
    assert (task.state, task.failed_count) == (TaskState.WAITING, 0)
    other = SimulatedAgent(service, "n2", slots=1)
    assert other.take_one().task == last.task


def test_what_waits_is_stopped_with_its_job(service: LocalService, agent: SimulatedAgent) -> None:
    """The agent is told of it like of one that runs."""
    job = children(service, agent, count=3)
    started = agent.sync(places=2).start
    service.call(jobs.cancel, job.uuid, None)
    orders = sync_holding(agent, started[2:])
    assert sorted(stop.attempt for stop in orders.stop) == [one.attempt for one in started]


def test_what_nobody_has_on_record_is_to_be_dropped(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """As a stranger that runs is stopped."""
    orders = agent.sync(held=[999])
    assert [(stop.attempt, stop.discard) for stop in orders.stop] == [(999, True)]


@pytest.mark.parametrize(
    ("constraints", "slots"),
    [
        ({"exclusive": True}, [1, 2]),
        ({"max_tasks_per_node": 3}, [1, 2, 1]),
        ({"min_ram_per_task": 400_000}, [1, 2]),
        ({"min_ram_per_task": 300_000}, [1, 2, 1]),
    ],
)
def test_limits_count_what_waits(
    service: LocalService, agent: SimulatedAgent, constraints: dict[str, Any], slots: list[int]
) -> None:
    """Memory and numbers are reserved for it, too; what is exclusive never waits."""
    children(service, agent, runtime_constraints=constraints)
    assert slots_of(agent.sync(places=9).start) == slots


def test_nothing_waits_while_a_gang_may_gather(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Nodes are kept for it by their slots."""
    service.started_job()
    other = SimulatedAgent(service, "n2", slots=2)
    agent.grow({"runtime_constraints": {"min_nodes": 3}}, *repeat({}, 9))
    other.renew()
    assert len(agent.sync(places=5).start) <= agent.slots


def test_nothing_waits_on_a_node_that_is_tried_out(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """One task at a time (R16)."""
    children(service, agent)
    service.write(put_on_trial)
    assert len(agent.sync(places=5).start) == 1


def put_on_trial(tx: Tx) -> None:
    """Let a task try out whether the first node is good."""
    tx.run("node_suspect", node_id=1, seconds=1.0, held_until=0, reason="test", now=1)


def test_started_at_is_when_it_ran(service: LocalService, agent: SimulatedAgent) -> None:
    """Of what ended before it was called running: by how long it ran."""
    children(service, agent, count=3)
    *_, last = agent.sync(places=2).start
    service.clock.advance(2.0)
    agent.write(last, success=True)
    agent.running.pop(last.attempt)
    ended = Ended(last.attempt, EndKind.EXIT, exit_code=0, run_seconds=0.5)
    agent.sync(ended=[ended], free_slots=[])
    (attempt,) = service.attempts(last.task)
    assert attempt.ended_at is not None
    assert attempt.started_at == attempt.ended_at - 500_000
