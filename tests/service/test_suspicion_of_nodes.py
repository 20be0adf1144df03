"""Nodes on which everything fails: suspected, held, tried out, trusted again (R16)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.retry import Spent
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import explain, listing, steering
from jobtasks.store.records import NodeRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

pytestmark = pytest.mark.rule("R16")
SLOTS = 2
STREAK = 2 + SLOTS
MANY: list[dict[str, Any]] = [{}] * 40


def sow(agent: SimulatedAgent, tasks: int = len(MANY)) -> None:
    """Let the seeds of all jobs there are create tasks and complete."""
    for seed in agent.take():
        agent.create(seed, *MANY[:tasks])
        agent.complete(seed)


class Fleet:
    """A bad node and a good one, of two slots each, with two jobs of many tasks."""

    def __init__(self, service: LocalService, jobs: int = 2, **constraints: Any) -> None:
        self.service = service
        self.bad = SimulatedAgent(service, "bad", slots=SLOTS)
        self.good = SimulatedAgent(service, "good", slots=SLOTS)
        limits = {"max_tasks_per_node": 1, **constraints}
        self.jobs = [service.started_job(runtime_constraints=limits) for _ in range(jobs)]
        sow(self.good)

    def fail(self, times: int = 1, **facts: Any) -> list[Assignment]:
        """Let so many attempts, of both jobs in turn, fail on the bad node."""
        failed: list[Assignment] = []
        while len(failed) < times:
            started = self.bad.take()
            assert started, failed
            for assignment in started:
                failed.append(assignment)
                self.bad.end(assignment, **{"exit_code": 1, **facts})
        return failed

    def node(self, agent: SimulatedAgent) -> NodeRecord:
        filters = [["hostname", "=", f"{agent.node}.example"]]
        query = parse_query(RESOURCES["nodes"], {"filters": filters}, 10)
        (found,) = self.service.call(listing.list_nodes, query).items
        return found

    def held_seconds(self) -> float:
        """How long the bad node is held from now on; 0 when it is not."""
        held_until = self.node(self.bad).held_until
        return 0 if held_until is None else (held_until - self.service.clock.now) / 1_000_000

    def pass_seconds(self, seconds: float) -> None:
        self.service.pass_seconds(seconds, self.bad, self.good)

    def spent(self, task: str) -> Spent:
        ((text,),) = self.service.rows("SELECT spent FROM task WHERE uuid = :task", task=task)
        return msgspec.json.decode(text, type=Spent)

    def streak(self) -> int:
        """How many attempts in a row have failed on the bad node."""
        ((text,),) = self.service.rows("SELECT losing_streak FROM node WHERE id = 1")
        return len(msgspec.json.decode(text))

    def last(self, task: str) -> Any:
        return self.service.attempts(task)[-1]


@pytest.fixture
def fleet(service: LocalService) -> Fleet:
    """What runs at the end goes on."""
    return Fleet(service)


def test_a_node_on_which_everything_fails_is_held(fleet: Fleet) -> None:
    """After 2 + slots failures of two jobs, for a minute; others go on; the reason is told."""
    fleet.fail(STREAK - 1 - (STREAK - 1) % 2)
    assert fleet.node(fleet.bad).state == "live"
    fleet.fail(2)
    node = fleet.node(fleet.bad)
    assert (node.state, node.held, node.on_trial, node.held_by_user_uuid) == ("held", 1, 0, None)
    assert fleet.held_seconds() == 60
    assert node.held_reason == (
        "4 attempts in a row failed there, lastly:"
        " the process ended with exit code 1 and no verdict"
    )
    assert fleet.bad.take() == []
    assert len(fleet.good.take()) == SLOTS


def test_a_clock_set_back_makes_no_hold_longer(fleet: Fleet) -> None:
    """The manager's is for a minute from then on; an administrator's until the time he said."""
    fleet.fail(STREAK)
    assert fleet.held_seconds() == 60
    service = fleet.service
    other = SimulatedAgent(service, "other")
    service.call(steering.hold, fleet.node(other).uuid, 60)
    service.clock.advance(-3600)
    service.tick(gap=True)
    assert fleet.held_seconds() == 60
    held_until = fleet.node(other).held_until
    assert held_until is not None
    assert (held_until - service.clock.now) / 1_000_000 == 3660


def test_failures_of_the_streak_use_no_budget(fleet: Fleet) -> None:
    """They stay on record, the log says whose they were, and the node is avoided all the same."""
    failed = fleet.fail(STREAK)
    for assignment in failed:
        task, attempt = fleet.service.task(assignment.task), fleet.last(assignment.task)
        assert (task.failed_count, attempt.counted, attempt.node_fault) == (1, 0, 1)
        assert fleet.spent(assignment.task).own == 0
        assert fleet.spent(assignment.task).failed_nodes == (1,)
        assert (attempt.reason or "").endswith("; held against the node, not the task")
    assert "held against the node" in (fleet.service.task(failed[-1].task).failed_log or "")


def test_a_failure_that_would_be_the_last_is_not_when_it_was_the_nodes(
    service: LocalService,
) -> None:
    """A task on its last attempt is tried again elsewhere: the streak is looked at first."""
    fleet = Fleet(service, on_failure="continue")
    service.write(
        lambda tx: tx.text(
            "UPDATE task SET spent = '{\"own\":2}' WHERE state = 0 AND sequence = 1", {}
        )
    )
    failed = fleet.fail(STREAK)
    states = [service.task(assignment.task).state for assignment in failed]
    assert states == [3, 3, 3, 0]
    assert fleet.spent(failed[-1].task).own == 2


def test_a_success_ends_the_streak(fleet: Fleet) -> None:
    """Also within one message: what counts is the order in which attempts ended."""
    fleet.fail(2)
    first, second = fleet.bad.take()
    fleet.bad.complete(first)
    fleet.bad.crash(second)
    fleet.fail(2)
    assert fleet.node(fleet.bad).state == "live"
    assert fleet.streak() == 3


def test_the_order_within_one_message(fleet: Fleet) -> None:
    """Failed, complete, failed, told at once: a streak of one; the budgets stay used."""
    fleet.fail(2)
    one, two = fleet.bad.take()
    fleet.bad.write(one, success=True)
    fleet.bad.end(one, sync=False)
    fleet.bad.end(two, exit_code=1, sync=False)
    fleet.bad.renew()
    assert fleet.streak() == 1


def test_a_success_after_a_failure_in_one_message(service: LocalService) -> None:
    """Complete, failed, complete, told at once: nothing is left of the streak."""
    agent = SimulatedAgent(service, "n1", slots=3)
    SimulatedAgent(service, "n2")
    service.started_job()
    agent.grow({}, {}, {})
    one, two, three = agent.take()
    for assignment in (one, three):
        agent.write(assignment, success=True)
    for assignment, exit_code in ((one, 0), (two, 1), (three, 0)):
        agent.end(assignment, exit_code=exit_code, sync=False)
    agent.renew()
    assert service.rows("SELECT losing_streak, losing_job_id FROM node WHERE id = 1") == [
        ("[]", None)
    ]


def test_a_task_that_failed_twice_on_the_node(service: LocalService) -> None:
    """No other node is large enough for it: each of its failures is given back."""
    bad = SimulatedAgent(service, "bad", slots=SLOTS, memory_kib=9000)
    good = SimulatedAgent(service, "good", slots=SLOTS, memory_kib=2000)
    for _ in range(2):
        service.started_job(runtime_constraints={"min_ram_per_task": 3000})
    failed = []
    for _ in range(STREAK // 2):
        for assignment in bad.take():
            failed.append(assignment.task)
            bad.crash(assignment)
        service.pass_seconds(5, bad, good)
    assert [failed.count(task) for task in failed] == [2] * STREAK
    for task in set(failed):
        ((text,),) = service.rows("SELECT spent FROM task WHERE uuid = :task", task=task)
        assert msgspec.json.decode(text, type=Spent).own == 0
        assert [one.node_fault for one in service.attempts(task)] == [1, 1]
    assert service.rows("SELECT held_seconds FROM node WHERE id = 1") == [(60,)]


@pytest.mark.parametrize(
    "facts",
    [
        {"exit_code": 111},
        {"exit_code": 75},
        {"kind": EndKind.OUT_OF_MEMORY, "exit_code": None, "signal": 9, "peak_memory_kib": 100},
        {"kind": EndKind.STOPPED, "exit_code": None},
        {"kind": EndKind.AGENT_LOST, "exit_code": None},
    ],
)
def test_what_does_not_count(fleet: Fleet, facts: dict[str, Any]) -> None:
    """It neither adds to a streak nor ends it."""
    fleet.fail(2)
    fleet.fail(STREAK, **facts)
    assert fleet.node(fleet.bad).state == "live"
    fleet.fail(2)
    assert fleet.node(fleet.bad).state == "held"


def test_a_verdict_does_not_count(service: LocalService) -> None:
    """Tasks that say that they failed speak for themselves."""
    fleet = Fleet(service, on_failure="continue")
    for _ in range(STREAK):
        for assignment in fleet.bad.take():
            fleet.bad.fail(assignment)
    assert fleet.node(fleet.bad).state == "live"


def test_one_job_alone_is_its_own_fault(service: LocalService) -> None:
    """Until another node has completed a task of it meanwhile."""
    fleet = Fleet(service, jobs=1)
    fleet.fail(STREAK + 3)
    assert fleet.node(fleet.bad).state == "live"
    fleet.good.complete(fleet.good.take_one())
    fleet.fail(1)
    assert fleet.node(fleet.bad).state == "held"


def test_what_completed_before_the_streak_is_no_witness(service: LocalService) -> None:
    """Nor what completed on the node itself."""
    fleet = Fleet(service, jobs=1)
    fleet.good.complete(fleet.good.take_one())
    fleet.bad.complete(fleet.bad.take_one())
    fleet.fail(STREAK + 3)
    assert fleet.node(fleet.bad).state == "live"


def test_one_task_ends_the_hold(fleet: Fleet) -> None:
    """When it has passed, one task is tried, no second beside it; it completes: all slots again."""
    fleet.fail(STREAK)
    fleet.pass_seconds(60)
    node = fleet.node(fleet.bad)
    assert (node.state, node.on_trial, node.held_until) == ("held", 1, None)
    canary = fleet.bad.take_one()
    assert fleet.bad.take() == []
    fleet.service.wake.clear()
    fleet.bad.complete(canary)
    node = fleet.node(fleet.bad)
    assert (node.state, node.on_trial, node.held_reason) == ("live", 0, None)
    assert "nodes" in fleet.service.wake
    assert len(fleet.bad.take()) == SLOTS


def test_a_trial_that_fails_doubles_the_hold(fleet: Fleet) -> None:
    """Up to half an hour, at no cost to the tasks; after a success it begins at a minute again."""
    fleet.fail(STREAK)
    held = [fleet.held_seconds()]
    for _ in range(6):
        fleet.pass_seconds(held[-1])
        (canary,) = fleet.fail(1)
        assert fleet.spent(canary.task).own == 0
        assert fleet.last(canary.task).node_fault
        held.append(fleet.held_seconds())
    assert held == [60, 120, 240, 480, 960, 1800, 1800]
    assert "the task that tried it out failed too" in (fleet.node(fleet.bad).held_reason or "")
    fleet.pass_seconds(1800)
    fleet.bad.complete(fleet.bad.take_one())
    fleet.fail(STREAK)
    assert fleet.held_seconds() == 60


@pytest.mark.parametrize(
    "facts",
    [
        {"exit_code": 111},
        {"kind": EndKind.STOPPED, "exit_code": None},
        {"kind": EndKind.AGENT_LOST, "exit_code": None},
    ],
)
def test_a_trial_that_tells_nothing_is_repeated(fleet: Fleet, facts: dict[str, Any]) -> None:
    """With another task, at once; the hold neither ends nor begins anew."""
    fleet.fail(STREAK)
    fleet.pass_seconds(60)
    fleet.fail(1, **facts)
    assert fleet.node(fleet.bad).on_trial
    assert len(fleet.bad.take()) == 1


def test_what_still_ran_when_the_node_was_held(fleet: Fleet) -> None:
    """Its failure is the node's too; its success does not end the hold."""
    fleet.fail(STREAK - 2)
    one, two = fleet.bad.take()
    fleet.bad.end(one, exit_code=1)
    three = fleet.bad.take_one()
    fleet.bad.end(three, exit_code=1)
    assert fleet.node(fleet.bad).state == "held"
    fleet.bad.complete(two)
    assert fleet.node(fleet.bad).state == "held"
    fleet.pass_seconds(60)
    assert len(fleet.bad.take()) == 1


def test_nothing_starts_in_the_call_that_holds_the_node(fleet: Fleet) -> None:
    """Told of the failure with a slot free, also the trial's; after a success all slots at once."""
    fleet.fail(STREAK - 2)
    for assignment in fleet.bad.take():
        fleet.bad.end(assignment, exit_code=1, sync=False)
    assert fleet.bad.sync().start == []
    assert fleet.held_seconds() == 60
    fleet.pass_seconds(60)
    fleet.bad.end(fleet.bad.take_one(), exit_code=1, sync=False)
    assert fleet.bad.sync().start == []
    assert fleet.held_seconds() == 120
    fleet.pass_seconds(120)
    canary = fleet.bad.take_one()
    fleet.bad.write(canary, success=True)
    fleet.bad.end(canary, sync=False)
    assert len(fleet.bad.sync().start) == SLOTS


def test_the_last_node_that_takes_work_is_never_held(fleet: Fleet) -> None:
    """It goes on, and its failures use budgets; when another node is back it is held."""
    fleet.service.call(steering.hold, fleet.node(fleet.good).uuid)
    failed = fleet.fail(STREAK + 2)
    assert fleet.node(fleet.bad).state == "live"
    assert all(fleet.last(assignment.task).counted for assignment in failed)
    fleet.service.call(steering.release, fleet.node(fleet.good).uuid)
    fleet.fail(1)
    assert fleet.node(fleet.bad).state == "held"


@pytest.mark.parametrize("how", ["leaves", "is lost", "is drained"])
@pytest.mark.parametrize("is_on_trial", [False, True])
def test_a_held_node_becomes_the_last(fleet: Fleet, how: str, is_on_trial: bool) -> None:
    """The other one is no more: the hold ends at once, and all slots take work."""
    fleet.fail(STREAK)
    if is_on_trial:
        fleet.pass_seconds(60)
    if how == "leaves":
        fleet.good.sync(leaving=True)
    elif how == "is drained":
        fleet.service.call(steering.drain, fleet.node(fleet.good).uuid)
    else:
        fleet.service.pass_seconds(20, fleet.bad)
        fleet.service.pass_seconds(11, fleet.bad)
    assert fleet.node(fleet.bad).state == "live"
    assert len(fleet.bad.take()) == SLOTS


def test_an_administrator_ends_the_hold(fleet: Fleet) -> None:
    """Release trusts the node as a completed trial does."""
    fleet.fail(STREAK)
    assert fleet.service.call(steering.release, fleet.node(fleet.bad).uuid).state == "live"
    assert len(fleet.bad.take()) == SLOTS


def test_an_administrators_hold_stays(fleet: Fleet) -> None:
    """Whatever the manager thinks of the node; it is on trial when that hold has passed."""
    fleet.fail(STREAK)
    uuid = fleet.node(fleet.bad).uuid
    fleet.service.call(steering.hold, uuid, 600, "new disk")
    fleet.good.sync(leaving=True)
    node = fleet.node(fleet.bad)
    assert (node.state, node.held_reason, fleet.held_seconds()) == ("held", "new disk", 600)
    fleet.service.pass_seconds(20, fleet.bad)
    assert fleet.bad.take() == []


@pytest.mark.rule("R31")
def test_held_nodes_are_explained(service: LocalService) -> None:
    """Until when and why; then that one task tries the node out."""
    fleet = Fleet(service)
    fleet.fail(STREAK)
    fleet.good.take()
    waiting = [task.uuid for task in service.tasks_of(fleet.jobs[0]) if not task.attempts]
    busy, held = service.call(explain.task_reasons, waiting[-1])
    assert (busy.code, held.code) == ("max_tasks_per_node", "nodes_held")
    assert "(in 60 s): 4 attempts in a row failed there" in held.text
    fleet.pass_seconds(60)
    fleet.bad.take_one()
    _, held = service.call(explain.task_reasons, waiting[-1])
    assert "bad.example until the task that tries it out has ended: 4 attempts" in held.text


@pytest.mark.rule("R14")
def test_one_bad_node_among_ten(service: LocalService) -> None:
    """Everything fails on it at once: it costs no task its job, and every task completes."""
    agents = [SimulatedAgent(service, f"n{number}", slots=SLOTS) for number in range(10)]
    bad, *good = agents
    jobs = [service.started_job() for _ in range(SLOTS)]
    sow(good[0])
    holds = 0
    for _ in range(400):
        was_held = service.rows("SELECT held_seconds FROM node WHERE id = 1")
        for assignment in bad.take():
            bad.crash(assignment)
        holds += was_held < service.rows("SELECT held_seconds FROM node WHERE id = 1")
        for agent in good:
            for assignment in agent.take():
                agent.complete(assignment)
        service.pass_seconds(5, *agents)
        if all(service.job(job).state == "Complete" for job in jobs):
            break
    states = [service.job(job).state for job in jobs]
    assert states == ["Complete"] * SLOTS
    failed = service.rows(
        "SELECT count(*), sum(counted), sum(node_fault) FROM attempt WHERE exit_code <> 0"
    )
    ((number, counted, of_node),) = failed
    assert holds >= 1
    assert counted < STREAK
    assert number == counted + of_node
