"""The life of a job: states, who may change them, failures, cancel (R17–R19, R21)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid, JobTasksError, NotFound, StaleAttempt
from jobtasks.core.states import AttemptState, TaskState
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import jobs, tasks
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, SCRIPT, LocalService

STATES = ("Queued", "Running", "Complete", "Failed", "Cancelled")


def job_in(service: LocalService, agent: SimulatedAgent, state: str) -> JobRecord:
    """Return a job in this state, reached as jobs reach it."""
    job = service.new_job()
    if state == "Queued":
        return job
    service.tick()
    if state == "Cancelled":
        return service.call(jobs.cancel, job.uuid, None)
    if state in ("Complete", "Failed"):
        seed = agent.take_one()
        (agent.complete if state == "Complete" else agent.fail)(seed)
    job = service.job(job)
    assert job.state == state
    return job


def change(service: LocalService, job: JobRecord, whole: bool = False, **body: Any) -> JobRecord:
    """Send one update as the owner."""
    return service.call(jobs.update, job.uuid, body, whole=whole)


@pytest.mark.rule("R17")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("new", STATES)
@pytest.mark.parametrize("old", STATES)
def test_what_an_update_may_make_of_a_state(
    service: LocalService, agent: SimulatedAgent, old: str, new: str, whole: bool
) -> None:
    """Cancelled from Queued and Running; staying is no change; what only a manager does is 403;
    what no table allows is 422. From Queued it makes the job foreign (R7b).
    """
    job = job_in(service, agent, old)
    before = service.job(job)
    final = old in ("Complete", "Failed", "Cancelled")
    if new == old:
        assert change(service, job, whole, state=new) == before
    elif new == "Cancelled" and not final:
        assert change(service, job, whole, state=new).state == "Cancelled"
    elif old == "Queued":
        now = change(service, job, whole, state=new)
        assert (now.state, now.managed) == (new, 0)
    else:
        expected = Invalid if final or new == "Queued" else Forbidden
        with pytest.raises(expected) as problem:
            change(service, job, whole, state=new)
        assert problem.type is expected
        assert service.job(job) == before


@pytest.mark.rule("R17", "R8")
@pytest.mark.parametrize("value", ["running", "Done", 5, True, ["Running"], {"a": 1}], ids=repr)
def test_a_state_that_does_not_exist_is_refused(
    service: LocalService, agent: SimulatedAgent, value: Any
) -> None:
    """422, whatever its type."""
    job = job_in(service, agent, "Running")
    with pytest.raises(Invalid):
        change(service, job, state=value)


FOLLOWING: dict[str, Any] = {
    "running": False,
    "success": True,
    "started_at": "2001-01-01T00:00:00Z",
    "finished_at": "2001-01-01T00:00:00Z",
    "tasks_summary": {"todo": 0, "running": 0, "done": 9, "failed": 0},
    "output": "forged",
}


@pytest.mark.rule("R17")
@pytest.mark.parametrize("name", FOLLOWING)
def test_what_follows_the_state_is_the_managers(
    service: LocalService, agent: SimulatedAgent, name: str
) -> None:
    """403 for every other value, also for the owner; the value it has is no change."""
    job = job_in(service, agent, "Running")
    with pytest.raises(Forbidden, match=name):
        change(service, job, **{name: FOLLOWING[name], "priority": 5})
    assert service.job(job) == job
    current: dict[str, Any] = {
        "running": True,
        "success": None,
        "finished_at": None,
        "output": None,
    }
    if name in current:
        assert change(service, job, **{name: current[name], "priority": 5}).priority == 5


@pytest.mark.rule("R17", "R7")
def test_a_whole_job_may_come_back(service: LocalService, agent: SimulatedAgent) -> None:
    """In a PUT, empty values of what follows the state are ignored."""
    job = job_in(service, agent, "Running")
    empty = {"running": False, "success": "", "finished_at": "", "output": None, "log": "x"}
    body = {**empty, "started_at": None, "tasks_summary": {}, "description": "new"}
    assert change(service, job, True, **body).description == "new"
    assert service.job(job).state == "Running"


@pytest.mark.rule("R17")
def test_times_follow_the_state(service: LocalService, agent: SimulatedAgent) -> None:
    """started_at, finished_at and cancelled_at are set by what happens."""
    job = service.new_job()
    service.clock.advance(1)
    service.tick()
    began = service.clock.now
    service.clock.advance(1)
    assert (service.job(job).started_at, service.job(job).finished_at) == (began, None)
    agent.complete(agent.take_one())
    now = service.job(job)
    assert (now.started_at, now.finished_at, now.cancelled_at) == (began, service.clock.now, None)
    other = service.call(jobs.cancel, service.started_job().uuid, "enough")
    assert (other.cancelled_at, other.finished_at) == (service.clock.now, None)
    assert other.log == "cancelled: enough"


@pytest.mark.rule("R17")
def test_the_summary_counts_tasks(service: LocalService, agent: SimulatedAgent) -> None:
    """todo, running, done and failed."""
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    agent.grow({}, {}, {}, {"sequence": 5})
    first, second, _ = agent.take(free_slots=[1, 2, 3])
    agent.complete(first)
    agent.fail(second)
    now = service.job(job)
    assert (now.todo, now.running_tasks, now.done, now.failed) == (1, 1, 2, 1)


@pytest.mark.rule("R17")
def test_failed_is_set_when_the_last_attempt_has_ended(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Not while another still runs."""
    job = service.started_job()
    agent.grow({}, {})
    first, second = agent.take()
    agent.fail(first)
    assert service.job(job).state == "Running"
    agent.complete(second)
    assert service.job(job).state == "Failed"


@pytest.mark.rule("R17")
def test_cancelled_twice_keeps_the_first_time(service: LocalService, agent: SimulatedAgent) -> None:
    """Another time is no change, what else the update says is taken; null cannot undo it."""
    job = job_in(service, agent, "Cancelled")
    now = change(service, job, cancelled_at="2031-01-01T00:00:00Z", priority=5)
    assert (now.cancelled_at, now.priority) == (job.cancelled_at, 5)
    for value in (None, "never"):
        with pytest.raises(Invalid):
            change(service, job, cancelled_at=value)


@pytest.mark.rule("R17", "R32")
def test_an_attempts_token_never_changes_a_job(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its own job: 403; another: it does not exist for it."""
    job, other = service.new_job(), service.new_job()
    service.tick()
    token = agent.take()[0].token
    methods: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
        (jobs.update, ({"priority": 5},), {"whole": False}),
        (jobs.cancel, (None,), {}),
        (jobs.delete, (), {}),
        (jobs.retry, (None, None), {}),
    ]
    for method, arguments, named in methods:
        with pytest.raises(Forbidden):
            service.as_token(token, method, job.uuid, *arguments, **named)
        with pytest.raises(NotFound):
            service.as_token(token, method, other.uuid, *arguments, **named)
    with pytest.raises(Forbidden):
        service.as_token(token, jobs.create, {"command": ["true"]})
    with pytest.raises(Forbidden):
        service.as_token(AGENT_TOKEN, jobs.create, {"command": ["true"]})


@pytest.mark.rule("R17")
def test_what_a_queued_job_runs_may_still_change(service: LocalService) -> None:
    """Until it has started; then it is 422."""
    job = service.new_job()
    changed = change(service, job, script="other", runtime_constraints={"max_attempts": "7"})
    assert (changed.script, changed.runtime_constraints) == ("other", '{"max_attempts":"7"}')
    agent = SimulatedAgent(service)
    service.tick()
    late: list[dict[str, Any]] = [
        {"script": "run"},
        {"runtime_constraints": {}},
        {"command": ["x"]},
    ]
    for body in late:
        with pytest.raises(Invalid):
            change(service, job, **body)
    assert agent.take_one().job == job.uuid


@pytest.mark.rule("R18")
def test_jobs_start_oldest_first_when_a_node_is_large_enough(service: LocalService) -> None:
    """Busy or not; a job that no node can hold waits, and starts when such a node joins."""
    large = service.new_job(runtime_constraints={"min_ram_per_task": 5000})
    first, second = service.new_job(), service.new_job()
    service.tick()
    assert service.job(first).state == "Queued"
    small = SimulatedAgent(service, "n1", slots=1, memory_kib=1000)
    service.tick()
    assert [service.job(job).state for job in (large, first, second)] == [
        *("Queued", "Running", "Running")
    ]
    assert small.take_one().job == first.uuid
    SimulatedAgent(service, "n2", memory_kib=5000)
    service.tick()
    assert service.job(large).state == "Running"


def failed_and_running(
    service: LocalService, agent: SimulatedAgent, on_failure: str | None
) -> tuple[JobRecord, Assignment]:
    """Let one of four tasks of sequence 1 fail for good while another runs; 2 waits."""
    given = {"on_failure": on_failure} if on_failure else {}
    job = service.started_job(runtime_constraints=given)
    agent.grow({}, {}, {}, {}, {"sequence": 2})
    first, second = agent.take(free_slots=[1, 2])
    agent.fail(first)
    return job, second


@pytest.mark.rule("R19")
@pytest.mark.parametrize("given", [None, "finish"])
def test_on_failure_finish(service: LocalService, agent: SimulatedAgent, given: str | None) -> None:
    """Nothing more is started, running tasks finish, then the job is Failed."""
    job, running = failed_and_running(service, agent, given)
    orders = agent.sync()
    assert (orders.start, orders.stop) == ([], [])
    agent.write(running, success=True)
    assert service.job(job).state == "Running"
    agent.end(running)
    now = service.job(job)
    assert (now.state, now.done, now.failed, now.todo) == ("Failed", 2, 1, 3)


@pytest.mark.rule("R19")
def test_on_failure_cancel(service: LocalService, agent: SimulatedAgent) -> None:
    """Running tasks are stopped too; that is no failure of theirs."""
    job, running = failed_and_running(service, agent, "cancel")
    orders = agent.sync()
    assert orders.start == []
    assert [stop.attempt for stop in orders.stop] == [running.attempt]
    assert service.job(job).state == "Running"
    agent.end(running, EndKind.STOPPED, signal=15)
    now = service.job(job)
    assert (now.state, now.done, now.failed, now.todo) == ("Failed", 1, 1, 4)
    assert service.task(running.task).failed_count == 0


@pytest.mark.rule("R19", "R14")
def test_on_failure_cancel_stops_what_has_not_reached_its_agent(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """The agent never heard of it: stopped, not failed."""
    job = service.started_job(runtime_constraints={"on_failure": "cancel"})
    agent.grow({}, {})
    (first,) = agent.take(free_slots=[1])
    (unheard,) = agent.send(agent.message(free_slots=[2])).start
    agent.fail(first)
    orders = agent.sync()
    assert (orders.start, orders.ask) == ([], [unheard.attempt])
    agent.sync(unknown=[unheard.attempt])
    assert service.job(job).state == "Failed"
    task = service.task(unheard.task)
    assert (task.failed_count, task.state) == (0, TaskState.WAITING)


@pytest.mark.rule("R19")
def test_on_failure_continue(service: LocalService, agent: SimulatedAgent) -> None:
    """The others of that sequence and below, and what they create there, still run."""
    job, running = failed_and_running(service, agent, "continue")
    agent.create(running, {"sequence": 1}, {"sequence": 0}, {"sequence": 3})
    agent.complete(running)
    (below,) = agent.take()
    assert below.sequence == 0
    agent.complete(below)
    seen = []
    while started := agent.take():
        for assignment in started:
            seen.append(assignment.sequence)
            agent.complete(assignment)
    assert seen == [1, 1, 1]
    now = service.job(job)
    assert (now.state, now.failed, now.todo) == ("Failed", 1, 2)


@pytest.mark.rule("R19")
def test_on_failure_continue_retries_too(service: LocalService, agent: SimulatedAgent) -> None:
    """A temporary failure beside a permanent one is tried again before the job ends."""
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    agent.grow({}, {})
    first, second = agent.take()
    agent.crash(second)
    agent.fail(first)
    assert service.job(job).state == "Running"
    service.pass_seconds(1)
    agent.complete(agent.take_one())
    assert service.job(job).state == "Failed"


@pytest.mark.rule("R19")
@pytest.mark.parametrize("on_failure", ["finish", "cancel"])
def test_a_failure_ends_a_delay(
    service: LocalService, agent: SimulatedAgent, on_failure: str
) -> None:
    """A task that waits for another attempt is not started any more, the job ends at once."""
    job = service.started_job(runtime_constraints={"on_failure": on_failure})
    agent.grow({}, {})
    first, second = agent.take()
    agent.crash(second)
    agent.fail(first)
    assert service.job(job).state == "Failed"
    service.pass_seconds(10)
    assert agent.take() == []


@pytest.mark.rule("R21")
def test_nothing_is_accepted_after_a_cancel_was_answered(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Tokens are dead, tasks wait again, children are gone, nothing more starts."""
    job = service.started_job()
    agent.grow({}, {})
    (first,) = agent.take(free_slots=[1])
    children = agent.create(first, {}).uuids
    agent.write(first, success=True, output="too late")
    assert service.call(jobs.cancel, job.uuid, None).state == "Cancelled"
    attempts: list[Any] = [
        lambda: agent.write(first, progress=0.5),
        lambda: agent.create(first, {}),
        lambda: service.as_token(first.token, tasks.show, first.task),
        lambda: service.as_token(first.token, tasks.delete, children[0]),
    ]
    for attempt in attempts:
        with pytest.raises(StaleAttempt):
            attempt()
    task = service.task(first.task)
    assert (task.state, task.success, task.output) == (TaskState.WAITING, None, None)
    now = service.job(job)
    assert (now.todo, now.running_tasks, now.done, now.live) == (2, 0, 1, 1)
    orders = agent.sync()
    assert orders.start == []
    assert [stop.attempt for stop in orders.stop] == [first.attempt]
    agent.end(first, exit_code=0)
    now = service.job(job)
    assert (now.state, now.done, now.live, now.output) == ("Cancelled", 1, 0, None)
    assert service.task(first.task).failed_count == 0


@pytest.mark.rule("R21", "R27")
def test_a_cancelled_attempt_keeps_its_slot_until_its_process_is_gone(
    service: LocalService,
) -> None:
    """And its memory: nothing else is placed beside a process that may live."""
    agent = SimulatedAgent(service, slots=1, memory_kib=1000)
    job, other = (
        service.new_job(runtime_constraints={"min_ram_per_task": size}) for size in (900, 200)
    )
    service.tick()
    first = agent.take_one()
    service.call(jobs.cancel, job.uuid, None)
    agent.slots = 2
    assert agent.sync(free_slots=[1, 2]).start == []
    agent.end(first, EndKind.STOPPED, signal=9, stderr_tail=b"bye\n", peak_memory_kib=7)
    (attempt,) = service.attempts(first.task)
    assert (attempt.state, attempt.cause, attempt.signal) == (AttemptState.ENDED, "cancelled", 9)
    assert (attempt.stderr, attempt.peak_memory_kib) == ("bye\n", 7)
    assert agent.take_one().job == other.uuid


@pytest.mark.rule("R21")
def test_an_unheard_assignment_of_a_cancelled_job_is_never_sent(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Its agent is asked, does not know it, and the slot is free."""
    job = service.started_job()
    (unheard,) = agent.send(agent.message()).start
    service.call(jobs.cancel, job.uuid, None)
    orders = agent.sync()
    assert (orders.start, orders.ask) == ([], [unheard.attempt])
    agent.sync(unknown=[unheard.attempt])
    assert service.job(job).live == 0


@pytest.mark.rule("R21", "R17")
def test_cancel_may_be_repeated_and_queued_jobs_be_cancelled(service: LocalService) -> None:
    """The second answer is the record as it is; a job that is over by itself stays so (422)."""
    job = service.new_job()
    first = service.call(jobs.cancel, job.uuid, "one")
    service.clock.advance(5)
    assert service.call(jobs.cancel, job.uuid, "two") == first
    agent = SimulatedAgent(service)
    service.tick()
    assert agent.take() == []
    done = job_in(service, agent, "Complete")
    with pytest.raises(Invalid):
        service.call(jobs.cancel, done.uuid, None)


@pytest.mark.rule("R40", "R8")
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"script": "run"},
        {"script": "run", "script_version": "relative"},
        {"script": "../run", "script_version": "/srv"},
        {"script": "/run", "script_version": "/srv"},
        {"command": "true"},
        {"command": [""]},
        {"command": ["x"], "state": "running"},
        {"command": ["x"], "started_at": "2014-01-01T00:00:00Z"},
        {"command": ["x"], "priority": "high"},
        {"command": ["x"], "script_parameters": [1]},
        {"command": ["x"], "colour": "blue"},
        {"command": ["x"], "output": "forged"},
        {"command": ["x"], "description": 5},
    ],
    ids=str,
)
def test_a_job_that_cannot_be_is_refused(service: LocalService, body: dict[str, Any]) -> None:
    """422 at create, nothing stored."""
    with pytest.raises(JobTasksError) as problem:
        service.call(jobs.create, body)
    assert problem.value.status == 422
    assert service.rows("SELECT count(*) FROM job") == [(0,)]


def create_and_start(service: LocalService, **attributes: Any) -> str:
    """Create a job as the API does; return its state when that is done."""

    def create(ctx: Context, caller: Caller) -> str:
        uuid = jobs.create(ctx, caller, {**SCRIPT, **attributes}).uuid
        jobs.start_at_once(ctx, uuid)
        return uuid

    return service.job(service.call(create)).state


@pytest.mark.rule("R1", "R18")
@pytest.mark.parametrize(
    ("constraints", "state"),
    [
        ({}, "Running"),
        ({"min_ram_per_task": 2_000_000}, "Queued"),
        ({"min_nodes": 2}, "Queued"),
        ({"min_nodes": 1}, "Running"),
    ],
)
def test_a_job_that_nothing_is_before_starts_with_its_creation(
    service: LocalService, agent: SimulatedAgent, constraints: dict[str, Any], state: str
) -> None:
    """If one node would do; the manager need not be woken then."""
    service.wake.clear()
    assert create_and_start(service, runtime_constraints=constraints) == state
    assert ("manager" in service.wake) == (state == "Queued")
    if state == "Running":
        assert agent.take_one().number == 1


@pytest.mark.rule("R1", "R18")
def test_a_job_that_comes_after_another_waits_for_the_manager(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Whoever is first in the queue starts first."""
    first = service.new_job()
    assert create_and_start(service) == "Queued"
    service.tick()
    assert service.job(first).state == "Running"


@pytest.mark.rule("R1")
def test_no_job_starts_without_a_node(service: LocalService) -> None:
    """It stays queued until one joins."""
    assert create_and_start(service) == "Queued"
