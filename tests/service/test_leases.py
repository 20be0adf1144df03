"""Leases, silence, restarts: what ends an attempt and what does not (R33, R35)."""

from __future__ import annotations

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.settings import Settings
from jobtasks.core.states import AttemptState, TaskState
from jobtasks.protocol.messages import VERSION, Alive, Ended, EndKind, Join
from jobtasks.service import nodes, tick
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, LocalService


def state_of(service: LocalService, attempt_id: int) -> AttemptState:
    """Return an attempt's state."""
    (row,) = service.rows("SELECT state FROM attempt WHERE id = :id", id=attempt_id)
    return AttemptState(row[0])


@pytest.mark.rule("R33")
def test_a_lost_node_is_noticed_when_its_lease_is_over(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Not before 30 s, and within 35 s of silence."""
    service.started_job()
    seed = agent.take_one()
    service.pass_seconds(30)
    assert state_of(service, seed.attempt) == AttemptState.RUNNING
    service.pass_seconds(0.001)
    assert state_of(service, seed.attempt) == AttemptState.ENDED
    task = service.task(seed.task)
    assert (task.state, task.failed_count) == (TaskState.WAITING, 1)
    assert service.attempts(seed.task)[0].reason == "its node was not heard for 30 s"


@pytest.mark.rule("R33")
def test_a_sync_renews_the_lease(service: LocalService, agent: SimulatedAgent) -> None:
    """As long as it is heard, nothing ends."""
    service.started_job()
    seed = agent.take_one()
    for _ in range(10):
        service.clock.advance(29)
        assert agent.sync(free_slots=[]).renewed
        service.tick()
    assert state_of(service, seed.attempt) == AttemptState.RUNNING


@pytest.mark.rule("R33")
@pytest.mark.parametrize("away", [31, 3600, 86_400])
def test_time_in_which_no_renewal_could_be_taken_does_not_count(
    service: LocalService, agent: SimulatedAgent, away: float
) -> None:
    """After a gap every live attempt has a whole lease from then."""
    service.started_job()
    seed = agent.take_one()
    service.clock.advance(away)
    service.tick(gap=True)
    service.pass_seconds(30)
    assert state_of(service, seed.attempt) == AttemptState.RUNNING
    service.pass_seconds(0.001)
    assert state_of(service, seed.attempt) == AttemptState.ENDED


@pytest.mark.rule("R33")
def test_a_gap_also_spares_what_its_agent_did_not_name(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """An attempt asked about has a whole lease after it too."""
    service.started_job()
    seed = agent.take_one()
    agent.sync(running=[])
    service.clock.advance(100)
    service.tick(gap=True)
    agent.sync(running=[])
    service.pass_seconds(29)
    assert state_of(service, seed.attempt) == AttemptState.RUNNING


@pytest.mark.rule("R33")
def test_a_clock_set_back_ends_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """The manager sees the step and gives every lease anew; from then on it lasts 30 s."""
    service.started_job()
    seed = agent.take_one()
    service.clock.advance(-7200)
    service.tick(gap=True)
    service.pass_seconds(30)
    assert state_of(service, seed.attempt) == AttemptState.RUNNING
    service.pass_seconds(1)
    assert state_of(service, seed.attempt) == AttemptState.ENDED


@pytest.mark.rule("R12", "R15")
def test_a_clock_set_back_makes_nothing_wait(service: LocalService, agent: SimulatedAgent) -> None:
    """Neither a delay nor the wait for another node becomes longer than the longest there is."""
    other = SimulatedAgent(service, "n2", slots=1)
    service.started_job()
    seed = agent.take_one()
    agent.crash(seed)
    service.clock.advance(-86_400)
    service.tick(gap=True)
    service.pass_seconds(5 * 60 * 1.25, agent, other)
    assert agent.sync().start == []
    (again,) = other.take()
    assert again.task == seed.task
    other.crash(again)
    service.clock.advance(-86_400)
    service.tick(gap=True)
    service.pass_seconds(5 * 60 * 1.25 + 300, agent, other)
    assert [one.task for one in agent.take()] == [seed.task]


@pytest.mark.rule("R35")
def test_absence_ends_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """An attempt that a message does not name is asked about."""
    service.started_job()
    seed = agent.take_one()
    for _ in range(3):
        service.clock.advance(5)
        orders = agent.sync(running=[], free_slots=[])
        assert orders.ask == [seed.attempt]
        service.tick()
        assert state_of(service, seed.attempt) == AttemptState.RUNNING
    assert agent.sync().ask == []
    agent.write(seed, progress=0.5)
    service.pass_seconds(29, agent)
    assert state_of(service, seed.attempt) == AttemptState.RUNNING


@pytest.mark.rule("R35", "R33")
def test_what_no_agent_names_for_a_whole_lease_is_lost(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Though its agent is heard all the time."""
    service.started_job()
    seed = agent.take_one()
    for seconds in (0, 10, 10, 10):
        service.clock.advance(seconds)
        agent.sync(running=[], free_slots=[])
        service.tick()
    assert state_of(service, seed.attempt) == AttemptState.RUNNING
    service.clock.advance(0.001)
    service.tick()
    assert state_of(service, seed.attempt) == AttemptState.ENDED


@pytest.mark.rule("R35")
def test_unknown_ends(service: LocalService, agent: SimulatedAgent) -> None:
    """An agent that says it does not know an attempt is positive evidence."""
    service.started_job()
    seed = agent.take_one()
    agent.running.clear()
    orders = agent.sync(unknown=[seed.attempt], free_slots=[])
    assert orders.acknowledged == [seed.attempt]
    (attempt,) = service.attempts(seed.task)
    assert (attempt.state, attempt.cause) == (AttemptState.ENDED, "agent_lost")


@pytest.mark.rule("R35")
def test_a_stale_sync_changes_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """One that is not newer than one already served: no end, no claim, no lease."""
    service.started_job()
    seed = agent.take_one()
    agent.create(seed, {})
    late = agent.message(ended=[Ended(seed.attempt, EndKind.EXIT, exit_code=0)])
    agent.sync(free_slots=[])
    before = service.rows("SELECT * FROM agent"), service.task(seed.task)
    service.clock.advance(5)
    for message in (late, agent.message(number=agent.number)):
        orders = agent.send(message)
        assert orders.stale and not orders.renewed
        assert (orders.start, orders.stop, orders.acknowledged) == ([], [], [])
    assert (service.rows("SELECT * FROM agent"), service.task(seed.task)) == before


@pytest.mark.rule("R35", "R37")
def test_a_repeated_end_is_harmless(service: LocalService, agent: SimulatedAgent) -> None:
    """It is acknowledged again and counted once; a later end of another kind changes nothing."""
    service.started_job()
    seed = agent.take_one()
    ended = Ended(seed.attempt, EndKind.EXIT, exit_code=1)
    agent.running.clear()
    assert agent.sync(ended=[ended, ended], free_slots=[]).acknowledged == [seed.attempt] * 2
    before = service.task(seed.task), service.attempts(seed.task)
    for again in (ended, Ended(seed.attempt, EndKind.STOPPED)):
        assert agent.sync(ended=[again], free_slots=[]).acknowledged == [seed.attempt]
    agent.sync(unknown=[seed.attempt], refused=[seed.attempt], free_slots=[])
    assert (service.task(seed.task), service.attempts(seed.task)) == before


@pytest.mark.rule("R35")
def test_an_end_of_another_nodes_attempt_is_not_believed(service: LocalService) -> None:
    """It is acknowledged, so that it is not repeated for ever, and changes nothing."""
    here, there = (SimulatedAgent(service, node) for node in ("n1", "n2"))
    service.started_job()
    seed = here.take_one()
    lie = [Ended(seed.attempt, EndKind.EXIT, exit_code=0), Ended(999, EndKind.EXIT)]
    assert there.sync(ended=lie).acknowledged == [seed.attempt, 999]
    assert state_of(service, seed.attempt) == AttemptState.RUNNING


@pytest.mark.rule("R35")
def test_an_assignment_is_repeated_until_it_is_named(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The same attempt, token and slot, and less time to start; then no more."""
    job = service.started_job()
    (first,) = agent.send(agent.message()).start
    service.clock.advance(6)
    (second,) = agent.send(agent.message(free_slots=[2, 3])).start
    assert (first.start_within_seconds, second.start_within_seconds) == (20, 14)
    again = (second.attempt, second.token, second.slot, second.task)
    assert again == (first.attempt, first.token, first.slot, first.task)
    orders = agent.send(agent.message(running=[Alive(first.attempt)]))
    assert orders.start == []
    assert agent.send(agent.message(running=[Alive(first.attempt)])).start == []
    assert [len(service.attempts(task.uuid)) for task in service.tasks_of(job)] == [1]


@pytest.mark.rule("R35")
def test_an_assignment_carries_what_a_task_needs(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Parameters, sequence and qsequence, number; the job's brief once, unless it is known."""
    job = service.started_job(script_parameters={"input": [1, "ü"]})
    agent.grow({"parameters": {"a": {"b": None}}, "sequence": 4, "command": ["x", "y z"]})
    orders = agent.sync()
    (child,) = orders.start
    assert (child.parameters, child.command) == ('{"a":{"b":null}}', ["x", "y z"])
    assert (child.sequence, child.qsequence, child.number) == (4, 1, 1)
    assert (child.job, child.nodes) == (job.uuid, ["n1.example"])
    (brief,) = orders.jobs
    assert (brief.uuid, brief.script, brief.script_version) == (job.uuid, "run", "/srv/scripts")
    assert brief.script_parameters == '{"input":[1,"ü"]}'
    agent.running.clear()
    assert agent.sync(jobs_known=[job.uuid]).jobs == []


@pytest.mark.rule("R21", "R35")
def test_jobs_that_are_over_are_named_for_removal(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Only when no process of theirs is left anywhere; also a job that was deleted."""
    job = service.started_job()
    seed = agent.take_one()
    known = [job.uuid, "zzzzz-8i9sb-000000000000000"]
    assert agent.sync(jobs_known=known).jobs_over == known[1:]
    agent.complete(seed)
    assert agent.sync(jobs_known=known).jobs_over == known


@pytest.mark.rule("R35")
def test_a_stranger_is_stopped_and_not_reported(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """An attempt that the agent names and the server has as ended: only one is ever accepted."""
    service.started_job()
    seed = agent.take_one()
    service.pass_seconds(31)
    assert agent.send(agent.message()).rejoin
    agent.join(running=[seed.attempt])
    (stop,) = agent.sync(free_slots=[]).stop
    assert (stop.attempt, stop.discard) == (seed.attempt, True)
    assert service.task(seed.task).failed_count == 1


@pytest.mark.rule("R35")
def test_a_new_agent_settles_what_its_predecessor_left(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Ends written down count; what goes on goes on; the rest was lost with the agent."""
    service.started_job()
    agent.grow({}, {}, {})
    done, going, lost = agent.take()
    agent.write(done, success=True)
    agent.end(done, sync=False)
    joined = agent.join(running=[going.attempt])
    assert joined.acknowledged == [done.attempt]
    assert service.task(done.task).state == TaskState.COMPLETE
    assert state_of(service, going.attempt) == AttemptState.RUNNING
    (attempt,) = service.attempts(lost.task)
    assert (attempt.cause, attempt.reason) == ("agent_lost", "the agent was restarted")
    assert agent.sync(free_slots=[]).ask == []
    agent.complete(going)
    assert service.task(going.task).state == TaskState.COMPLETE


@pytest.mark.rule("R35")
def test_the_predecessor_is_not_served_any_more(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its syncs are answered `rejoin` and change nothing."""
    service.started_job()
    old = agent.message()
    agent.join()
    orders = agent.send(old)
    assert orders.rejoin and not orders.start
    assert agent.take_one().number == 1


@pytest.mark.rule("R14", "R35")
def test_an_agent_that_leaves_is_gone(service: LocalService, agent: SimulatedAgent) -> None:
    """What it did not end is lost; nothing starts there until it joins again."""
    job = service.started_job()
    agent.grow({}, {})
    stopped, lost = agent.take()
    agent.end(stopped, EndKind.STOPPED, sync=False)
    orders = agent.sync(leaving=True)
    assert (orders.acknowledged, orders.start) == ([stopped.attempt], [])
    assert service.task(stopped.task).failed_count == 0
    assert service.task(lost.task).failed_count == 1
    late = service.started_job()
    assert late.state == "Queued"
    agent.join()
    service.tick()
    assert len(agent.take()) == 3
    assert service.job(job).state == "Running"


@pytest.mark.rule("R33")
def test_a_poll_fills_slots_and_renews_nothing(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """What waits at the server is looked at again; one that is no longer the newest is stale."""
    message = agent.message()
    assert agent.send(message).start == []
    leases = service.rows("SELECT lease_until FROM agent")
    service.clock.advance(3)
    service.started_job()
    orders = service.as_token(AGENT_TOKEN, nodes.poll, message)
    assert len(orders.start) == 1
    assert service.rows("SELECT lease_until FROM agent") == leases
    agent.sync()
    assert service.as_token(AGENT_TOKEN, nodes.poll, message).stale
    agent.join()
    assert service.as_token(AGENT_TOKEN, nodes.poll, message).rejoin


@pytest.mark.rule("R35")
def test_another_version_of_the_protocol_is_refused(service: LocalService) -> None:
    """With both numbers."""
    message = Join(VERSION + 1, "n1", "host", "x", 1, 1, 1, 1)
    with pytest.raises(Invalid, match=str(VERSION + 1)):
        service.as_token(AGENT_TOKEN, nodes.join, message)


@pytest.mark.rule("R33")
def test_an_agent_learns_its_times() -> None:
    """Lease, renewal, patience and grace are those of the server's settings."""
    service = LocalService(settings=Settings(lease_seconds=3, renew_seconds=1, grace_seconds=2))
    joined = SimulatedAgent(service).joined
    assert (joined.lease_seconds, joined.renew_seconds, joined.grace_seconds) == (3, 1, 2)
    assert joined.patience_seconds == 900
    service.close()


def test_an_earlier_manager_does_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """A manager whose term is not the highest writes nothing."""
    service.run(tick.take_over, "another")
    job = service.new_job()
    with pytest.raises(tick.LostManager):
        service.tick()
    assert service.job(job).state == "Queued"
