"""Who gets a free slot, and when jobs start that ask for several nodes (R18)."""

from __future__ import annotations

from itertools import repeat

import pytest

from jobtasks.core.settings import Settings
from jobtasks.service import explain, jobs, lanes
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import ADMIN_TOKEN, SCRIPT, LocalService

pytestmark = pytest.mark.rule("R18")

OVERTAKEN_SECONDS = Settings().overtaken_seconds


def wide_jobs(service: LocalService, *asked: tuple[str, int]) -> list[JobRecord]:
    """Return running jobs of these tokens and priorities, each with twenty tasks ready; another
    node has run their seeds.
    """
    found = [
        service.as_token(token, jobs.create, {**SCRIPT, "priority": priority})
        for token, priority in asked
    ]
    maker = SimulatedAgent(service, "maker", slots=len(found))
    service.tick()
    for seed in maker.take():
        maker.create(seed, *repeat({}, 20))
        maker.complete(seed)
    maker.sync(leaving=True)
    return found


def slots_of(agent: SimulatedAgent, *jobs_: JobRecord) -> list[int]:
    """Fill the node's slots; return how many each job has there."""
    agent.take()
    running = [one.job for one in agent.running.values()]
    return [running.count(job.uuid) for job in jobs_]


def end_all(agent: SimulatedAgent) -> None:
    """Complete what runs on a node."""
    for assignment in list(agent.running.values()):
        agent.complete(assignment)


def end_some(agent: SimulatedAgent, job: JobRecord, count: int) -> None:
    """Complete so many tasks of a job; they are told with the next claim."""
    running = [one for one in agent.running.values() if one.job == job.uuid]
    for assignment in running[:count]:
        agent.write(assignment, success=True)
        agent.end(assignment, sync=False)


@pytest.fixture
def wide(service: LocalService) -> SimulatedAgent:
    """A node of twelve slots."""
    return SimulatedAgent(service, slots=12)


def test_jobs_of_one_user_have_as_many_slots(service: LocalService, wide: SimulatedAgent) -> None:
    """What does not come out even goes to the oldest."""
    found = wide_jobs(service, *[(ADMIN_TOKEN, 0)] * 3)
    wide.take(free_slots=[1, 2, 3, 4, 5])
    assert slots_of(wide, *found) == [4, 4, 4]
    end_all(wide)
    wide.take(free_slots=[1, 2, 3, 4])
    running = [one.job for one in wide.running.values()]
    assert [running.count(job.uuid) for job in found] == [2, 1, 1]


def test_users_have_as_many_slots(service: LocalService, wide: SimulatedAgent) -> None:
    """However many jobs they have."""
    ada, bob = service.new_user("ada"), service.new_user("bob")
    found = wide_jobs(service, (ada, 0), (ada, 0), (ada, 0), (bob, 0))
    assert slots_of(wide, *found) == [2, 2, 2, 6]


@pytest.mark.parametrize("owners", [1, 2])
@pytest.mark.parametrize("few", [lanes.FEW, 0])
def test_what_has_ended_in_the_same_sync_counts(
    service: LocalService,
    wide: SimulatedAgent,
    monkeypatch: pytest.MonkeyPatch,
    owners: int,
    few: int,
) -> None:
    """The job, or the user, whose tasks have just ended has fewer slots, and the next turns."""
    monkeypatch.setattr(lanes, "FEW", few)
    tokens = [ADMIN_TOKEN, service.new_user("ada") if owners == 2 else ADMIN_TOKEN]
    found = wide_jobs(service, *((token, 0) for token in tokens))
    assert slots_of(wide, *found) == [6, 6]
    end_some(wide, found[1], 5)
    assert slots_of(wide, *found) == [6, 6]
    end_some(wide, found[0], 4)
    wide.take(free_slots=wide.free_slots[:3])
    assert slots_of(wide, *found) == [6, 6]
    end_some(wide, found[0], 3)
    wide.take(free_slots=wide.free_slots[:2])
    running = [one.job for one in wide.running.values()]
    assert [running.count(job.uuid) for job in found] == [5, 6]


def test_slots_on_other_nodes_count(service: LocalService, wide: SimulatedAgent) -> None:
    """Who has many elsewhere comes last here."""
    ada, bob = service.new_user("ada"), service.new_user("bob")
    (first,) = wide_jobs(service, (ada, 0))
    assert slots_of(wide, first) == [12]
    (second,) = wide_jobs(service, (bob, 0))
    other = SimulatedAgent(service, "n2", slots=9)
    assert slots_of(other, first, second) == [0, 9]


def test_priority_goes_before(service: LocalService, wide: SimulatedAgent) -> None:
    """What the higher cannot use goes to the lower; a change counts from the next claim on."""
    ada = service.new_user("ada")
    low, high = wide_jobs(service, (ADMIN_TOKEN, 0), (ada, 3))
    assert slots_of(wide, low, high) == [0, 12]
    service.call(jobs.update, low.uuid, {"priority": 4}, whole=False)
    for assignment in list(wide.running.values())[:5]:
        wide.complete(assignment)
    assert slots_of(wide, low, high) == [5, 7]
    end_all(wide)
    assert slots_of(wide, low, high) == [12, 0]
    end_all(wide)
    assert slots_of(wide, low, high) == [3, 8]


def test_more_users_than_slots(service: LocalService) -> None:
    """Nobody gets a second slot while another has none: slots in use count, not those had."""
    agent = SimulatedAgent(service, slots=4)
    tokens = [service.new_user(f"user{number}") for number in range(5)]
    found = wide_jobs(service, *((token, 0) for token in tokens))
    assert slots_of(agent, *found) == [1, 1, 1, 1, 0]
    agent.complete(next(iter(agent.running.values())))
    assert sorted(slots_of(agent, *found)) == [0, 1, 1, 1, 1]
    other = SimulatedAgent(service, "n2", slots=1)
    missing = [job for job, slots in zip(found, slots_of(agent, *found), strict=True) if not slots]
    assert slots_of(other, *missing) == [1]


def test_a_job_of_several_nodes_starts_when_they_are_free(service: LocalService) -> None:
    """Until then it is overtaken."""
    here = SimulatedAgent(service, "n1", slots=1)
    job = service.started_job(runtime_constraints={"min_nodes": 2})
    other = service.started_job()
    assert (service.job(job).state, service.job(other).state) == ("Queued", "Running")
    SimulatedAgent(service, "n2", slots=1)
    busy = here.take_one()
    service.tick()
    assert service.job(job).state == "Queued"
    here.complete(busy)
    service.tick()
    assert service.job(job).state == "Running"


def busy_nodes(service: LocalService, count: int = 2) -> list[SimulatedAgent]:
    """Return nodes of one slot on which a job runs that has many tasks left."""
    agents = [SimulatedAgent(service, f"n{number}", slots=1) for number in range(count)]
    wide_jobs(service, (ADMIN_TOKEN, 0))
    for agent in agents:
        agent.take_one()
    return agents


def test_nodes_are_kept_for_a_job_that_was_overtaken_for_long(service: LocalService) -> None:
    """They take nothing new of others, until it has started."""
    agents = busy_nodes(service)
    job = service.started_job(runtime_constraints={"min_nodes": 2})
    service.pass_seconds(OVERTAKEN_SECONDS - 1, *agents)
    end_all(agents[0])
    overtaking = agents[0].take_one()
    service.pass_seconds(2, *agents)
    agents[0].complete(overtaking)
    assert agents[0].take() == []
    reasons = service.call(explain.job_reasons, job.uuid)
    assert "take nothing new until it has started" in reasons[0].text
    service.tick()
    assert service.job(job).state == "Queued"
    end_all(agents[1])
    assert "manager" in service.wake
    service.tick()
    assert service.job(job).state == "Running"
    began = [agent.take_one().job for agent in agents]
    assert began.count(job.uuid) == 1


def test_a_clock_set_back_has_nobody_overtaken_for_longer(service: LocalService) -> None:
    """The ten minutes begin anew at the latest."""
    agents = busy_nodes(service)
    service.started_job(runtime_constraints={"min_nodes": 2})
    service.clock.advance(-3600)
    service.tick(gap=True)
    service.pass_seconds(OVERTAKEN_SECONDS + 1, *agents)
    end_all(agents[0])
    assert agents[0].take() == []


def test_nodes_are_not_kept_for_a_job_that_has_too_few(service: LocalService) -> None:
    """They would wait for nothing; nor for one that was cancelled."""
    agents = busy_nodes(service)
    many = service.started_job(runtime_constraints={"min_nodes": 3})
    some = service.started_job(runtime_constraints={"min_nodes": 2})
    service.pass_seconds(OVERTAKEN_SECONDS + 1, *agents)
    end_all(agents[0])
    assert agents[0].take() == []
    service.call(jobs.cancel, some.uuid, None)
    service.tick()
    assert len(agents[0].take()) == 1
    assert service.job(many).state == "Queued"


def test_the_higher_priority_is_kept_for_first(service: LocalService) -> None:
    """Then the older."""
    agents = busy_nodes(service, 3)
    wanted = [
        service.started_job(runtime_constraints={"min_nodes": count}, priority=priority)
        for count, priority in ((2, 0), (3, 5), (2, 5))
    ]
    service.pass_seconds(OVERTAKEN_SECONDS + 1, *agents)
    for agent in agents[:2]:
        end_all(agent)
    assert [agent.take() for agent in agents[:2]] == [[], []]
    service.tick()
    states = [service.job(job).state for job in wanted]
    assert states == ["Running", "Queued", "Running"]
    assert [agent.take() for agent in agents[:2]] == [[], []]
    end_all(agents[2])
    service.tick()
    assert service.job(wanted[1]).state == "Running"
