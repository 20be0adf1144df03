"""The life of a task: seeded, created, published or deleted, in order of sequence (R1–R6)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.settings import Settings
from jobtasks.core.states import TaskState
from jobtasks.protocol.messages import EndKind
from jobtasks.service import jobs, tasks
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService


def started(agent: SimulatedAgent) -> list[int]:
    """Return the qsequences of what the node starts now."""
    return [assignment.qsequence for assignment in agent.take()]


@pytest.mark.rule("R1")
def test_a_job_is_seeded_with_one_task_when_it_starts(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Nothing while it is queued; then sequence 0, qsequence 0, no parameters, no creator."""
    job = service.new_job()
    assert service.tasks_of(job) == []
    service.tick()
    (seed,) = service.tasks_of(job)
    assert (seed.sequence, seed.qsequence, seed.parameters) == (0, 0, "{}")
    assert seed.created_by_job_task_uuid is None
    assert (seed.job_uuid, seed.state) == (job.uuid, TaskState.WAITING)


@pytest.mark.rule("R1", "R23")
def test_a_job_is_never_seeded_twice(service: LocalService, agent: SimulatedAgent) -> None:
    """Not by further ticks, not when it is queued again."""
    job = service.started_job()
    service.tick()
    agent.fail(agent.take_one())
    service.call(jobs.retry, job.uuid, None, None)
    service.tick()
    assert [task.qsequence for task in service.tasks_of(job)] == [0]


@pytest.mark.rule("R2")
def test_children_belong_to_job_and_creator(service: LocalService, agent: SimulatedAgent) -> None:
    """Sequence defaults to the creator's + 1, also when it is null; any other may be given."""
    job = service.started_job()
    seed = agent.take_one()
    agent.create(seed, {}, {"sequence": None}, {"sequence": 0}, {"sequence": 2**31 - 1})
    children = service.tasks_of(job)[1:]
    assert [child.sequence for child in children] == [1, 1, 0, 2**31 - 1]
    assert {child.created_by_job_task_uuid for child in children} == {seed.task}
    assert {child.job_uuid for child in children} == {job.uuid}


@pytest.mark.rule("R2")
@pytest.mark.parametrize("creator", [None, "", "own"])
def test_a_create_may_name_its_own_creator_and_job(
    service: LocalService, agent: SimulatedAgent, creator: str | None
) -> None:
    """A body says null, "" or the task itself: existing clients send all three."""
    job = service.started_job()
    seed = agent.take_one()
    named = seed.task if creator == "own" else creator
    item = {"created_by_job_task_uuid": named, "job_uuid": job.uuid}
    child = service.as_token(seed.token, tasks.create, item)
    assert child.created_by_job_task_uuid == seed.task


REFUSED: list[dict[str, Any]] = [
    {"created_by_job_task_uuid": "zzzzz-ot0gb-000000000000000"},
    {"job_uuid": "zzzzz-8i9sb-000000000000000"},
    {"sequence": -1},
    {"sequence": 2**31},
    {"sequence": 1.5},
    {"sequence": True},
    {"sequence": "one"},
    {"qsequence": 7},
    {"parameters": [1]},
    {"parameters": "text"},
    {"runtime_constraints": 5},
    {"command": "true"},
    {"command": [1]},
    {"colour": "blue"},
]


@pytest.mark.rule("R2", "R8")
@pytest.mark.parametrize("item", REFUSED, ids=str)
def test_one_bad_item_refuses_the_whole_create(
    service: LocalService, agent: SimulatedAgent, item: dict[str, Any]
) -> None:
    """All or nothing; the sentence names the place of the bad one."""
    job = service.started_job()
    seed = agent.take_one()
    with pytest.raises(Invalid, match="task 2: "):
        agent.create(seed, {}, {}, item)
    assert len(service.tasks_of(job)) == 1
    assert agent.create(seed, {}).first_qsequence == 1


@pytest.mark.rule("R2")
def test_a_child_of_the_last_sequence_needs_a_sequence(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The default would be above 2^31 - 1, which no task may have."""
    service.started_job()
    agent.grow({"sequence": 2**31 - 1})
    last = agent.take_one()
    with pytest.raises(Invalid, match="sequence"):
        agent.create(last, {})
    assert agent.create(last, {"sequence": 2**31 - 1}).count == 1


@pytest.mark.rule("R2")
def test_what_a_create_cannot_tell_is_ignored(service: LocalService, agent: SimulatedAgent) -> None:
    """Verdict, failures, state and times of a create have no effect."""
    service.started_job()
    seed = agent.take_one()
    item = {
        "progress": 1.0,
        "success": True,
        "output": "x",
        "state": "complete",
        "attempts": 9,
        "failed_count": 4,
        "failed_at": 1.5,
        "failed_log": "x",
        "log": "x",
        "started_at": "2001-01-01",
        "finished_at": "2001-01-01",
        "created_at": "2001-01-01",
    }
    child = service.as_token(seed.token, tasks.create, item)
    assert (child.progress, child.success, child.output) == (None, None, None)
    assert (child.state, child.attempts, child.failed_count) == (TaskState.WAITING, 0, 0)
    assert (child.failed_at, child.started_at, child.finished_at) == (None, None, None)
    assert child.created_at == service.clock.now


@pytest.mark.rule("R2", "R32")
def test_only_attempts_create_tasks(service: LocalService, agent: SimulatedAgent) -> None:
    """Owner and admin get 403 and a sentence that says why."""
    job = service.started_job()
    with pytest.raises(Forbidden, match="attempt"):
        service.call(tasks.create, {"job_uuid": job.uuid})
    assert len(service.tasks_of(job)) == 1


@pytest.mark.rule("R2", "R40")
def test_creates_have_limits() -> None:
    """Past the number of tasks of a call or a job, and with none at all: 422, nothing stored."""
    service = LocalService(settings=Settings(bulk_tasks_max=3, tasks_per_job_max=5))
    agent = SimulatedAgent(service)
    service.started_job()
    seed = agent.take_one()
    for count in (0, 4):
        with pytest.raises(Invalid):
            agent.create(seed, *[{} for _ in range(count)])
    assert agent.create(seed, {}, {}, {}).count == 3
    with pytest.raises(Invalid, match="5"):
        agent.create(seed, {}, {})
    assert agent.create(seed, {}).count == 1
    service.close()


@pytest.mark.rule("R3")
def test_children_wait_until_their_creator_is_complete(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Not merely until it said so: its process must have ended."""
    service.started_job()
    seed = agent.take_one()
    agent.create(seed, {"sequence": 0}, {})
    assert started(agent) == []
    agent.write(seed, success=True, progress=1.0)
    assert started(agent) == []
    agent.end(seed)
    assert started(agent) == [1]


@pytest.mark.rule("R4")
@pytest.mark.parametrize("permanent", [True, False])
def test_children_of_a_failed_attempt_stop_to_exist(
    service: LocalService, agent: SimulatedAgent, permanent: bool
) -> None:
    """At once and for every reader, claim and count, after a temporary failure too."""
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    seed = agent.take_one()
    uuids = agent.create(seed, {}, {"sequence": 0}, {"sequence": 7}).uuids
    if permanent:
        agent.fail(seed)
    else:
        agent.crash(seed)
    for uuid in uuids:
        with pytest.raises(NotFound):
            service.task(uuid)
    assert [task.qsequence for task in service.tasks_of(job)] == [0]
    assert [level[0] for level in service.call(jobs.levels, job.uuid)] == [0]
    now = service.job(job)
    assert (now.todo, now.failed) == ((0, 1) if permanent else (1, 0))
    assert started(agent) == []


@pytest.mark.rule("R4", "R6")
def test_the_next_attempt_creates_children_again_with_new_numbers(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Qsequence is never reused, and the dead children never run, also before they are swept."""
    job = service.started_job()
    first = agent.take_one()
    agent.create(first, {}, {})
    agent.crash(first)
    service.clock.advance(10)
    service.tick()
    second = agent.take_one()
    assert agent.create(second, {}, {}).first_qsequence == 3
    agent.complete(second)
    assert started(agent) == [3, 4]
    assert [task.qsequence for task in service.tasks_of(job)] == [0, 3, 4]


@pytest.mark.rule("R4")
def test_rows_of_dead_children_are_swept_in_slices() -> None:
    """A tick removes at most `sweep_rows` rows, until none is left."""
    service = LocalService(settings=Settings(sweep_rows=4))
    agent = SimulatedAgent(service)
    service.started_job()
    seed = agent.take_one()
    agent.create(seed, *[{} for _ in range(10)])
    agent.crash(seed)

    def left() -> int:
        return int(service.rows("SELECT count(*) FROM task")[0][0])

    seen = [left()]
    while seen[-1] > 1 and len(seen) < 9:
        assert service.tick() == 0, "more to sweep: the next tick is due at once"
        seen.append(left())
    assert seen == [11, 7, 3, 1]
    service.tick()
    assert service.rows("SELECT count(*) FROM batch WHERE state = 2") == [(0,)]
    service.close()


@pytest.mark.rule("R5")
def test_lower_sequences_must_be_complete_first(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Sequence 2 waits while one of 1 runs; gaps in the numbers do not matter."""
    service.started_job()
    agent.grow({"sequence": 9}, {"sequence": 3}, {"sequence": 3})
    first, second = agent.take()
    assert [first.sequence, second.sequence] == [3, 3]
    agent.complete(first)
    assert started(agent) == []
    agent.complete(second)
    assert started(agent) == [1]


@pytest.mark.rule("R5")
def test_tasks_start_in_order_of_qsequence(service: LocalService, agent: SimulatedAgent) -> None:
    """Also one at a time, and with different constraints."""
    service.started_job()
    sizes = [{}, {"min_ram_per_task": 10}, {"min_ram_per_task": 20}, {}]
    agent.grow(*[{"runtime_constraints": size} for size in sizes * 3])
    order = []
    for _ in range(12):
        (assignment,) = agent.take(free_slots=[1])
        order.append(assignment.qsequence)
        agent.complete(assignment)
    assert order == list(range(1, 13))


@pytest.mark.rule("R5")
def test_children_of_two_creators_start_in_order_of_arrival(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Though each creator's children are kept together, and their arrivals alternate."""
    service.started_job()
    agent.grow({}, {})
    left, right = agent.take()
    for _ in range(4):
        agent.create(left, {})
        agent.create(right, {})
    agent.complete(left)
    agent.complete(right)
    order = []
    for _ in range(8):
        (assignment,) = agent.take(free_slots=[1])
        order.append(assignment.qsequence)
        agent.complete(assignment)
    assert order == list(range(3, 11))


@pytest.mark.rule("R5")
def test_children_with_a_lower_sequence_go_first(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """What its creator leaves below the waiting tasks is the new frontier."""
    service.started_job()
    agent.grow({"sequence": 5}, {"sequence": 5}, {"sequence": 5})
    first, second, _ = agent.take(free_slots=[1, 2, 3])
    agent.create(first, {"sequence": 2})
    agent.complete(first)
    agent.end(second, EndKind.STOPPED)
    (below,) = agent.take()
    assert below.sequence == 2, "the stopped task of sequence 5 waits for it"
    agent.complete(below)
    assert started(agent) == [2]


@pytest.mark.rule("R5", "R15")
def test_a_task_in_its_delay_holds_the_frontier(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Nothing of a higher sequence starts meanwhile."""
    service.started_job()
    agent.grow({}, {"sequence": 2})
    agent.crash(agent.take_one())
    assert started(agent) == []
    service.pass_seconds(2)
    again = agent.take_one()
    assert again.sequence == 1
    agent.complete(again)
    assert started(agent) == [2]


@pytest.mark.rule("R6")
def test_qsequence_is_the_order_of_arrival(service: LocalService, agent: SimulatedAgent) -> None:
    """From 0, given by the server; a bulk create is contiguous; deleted numbers stay unused."""
    job = service.started_job()
    seed = agent.take_one()
    assert agent.create(seed, {}, {}).first_qsequence == 1
    created = agent.create(seed, {})
    service.as_token(seed.token, tasks.delete, created.uuids[0])
    assert agent.create(seed, {}, {}).first_qsequence == 4
    assert [task.qsequence for task in service.tasks_of(job)] == [0, 1, 2, 4, 5]
