"""Reasons of tasks and jobs in a service with simulated nodes; what they cost (R31)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pytest

from jobtasks.core.errors import NotFound
from jobtasks.core.reasons import Reason
from jobtasks.service import explain, jobs
from jobtasks.service.context import Caller
from jobtasks.store.base import Tx, Value, Values
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

pytestmark = pytest.mark.rule("R31")
T = TypeVar("T")


def of_task(service: LocalService, uuid: str) -> list[Reason]:
    return service.call(explain.task_reasons, uuid)


def of_job(service: LocalService, job: JobRecord) -> list[Reason]:
    return service.call(explain.job_reasons, job.uuid)


def codes(reasons: Iterable[Reason]) -> list[str]:
    return [reason.code for reason in reasons]


def test_a_job_that_no_node_can_run_says_so_at_once(service: LocalService) -> None:
    """Before any tick has looked at it; it starts when a node joins that is large enough."""
    SimulatedAgent(service, "small")
    job = service.new_job(runtime_constraints={"min_ram_per_task": 2_000_000, "colour": 1})
    reasons = of_job(service, job)
    assert codes(reasons) == ["too_large", "unknown_constraints"]
    assert "min_ram_per_task asks for 2000000 KiB" in reasons[0].text
    assert "(small.example) has 1000000" in reasons[0].text
    SimulatedAgent(service, "large", memory_kib=3_000_000)
    assert codes(of_job(service, job)) == ["ready", "unknown_constraints"]
    service.tick()
    assert service.job(job).state == "Running"


def test_without_nodes(service: LocalService, agent: SimulatedAgent) -> None:
    """No node has joined; then all are away."""
    job = service.started_job()
    seed = agent.take_one()
    (child,) = agent.create(seed, {}).uuids
    agent.complete(seed)
    agent.sync(leaving=True)
    (reason,) = of_task(service, child)
    assert reason.code == "no_node"
    assert "the agents of n1.example are away" in reason.text
    assert codes(of_job(service, job)) == ["no_node"]


def test_children_wait_for_their_creator_and_its_sequence(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Both are named, with where the creator runs."""
    job = service.started_job()
    seed = agent.take_one()
    child, sibling = agent.create(seed, {}, {"sequence": 0}).uuids
    creator, order = of_task(service, child)
    assert (creator.code, order.code) == ("creator", "lower_sequence")
    assert creator.details["creator"] == seed.task
    assert "attempt 1 on slot 1 of n1.example" in creator.text
    assert [(row["task"], row["state"]) for row in order.details["tasks"]] == [
        (seed.task, "running"),
        (sibling, "child"),
    ]
    assert codes(of_task(service, sibling)) == ["creator"]
    assert codes(of_task(service, seed.task)) == ["running"]
    assert codes(of_job(service, job)) == ["running", "creator", "lower_sequence"]


def test_a_task_waits_for_its_delay(service: LocalService, agent: SimulatedAgent) -> None:
    """Until when; what holds a higher sequence says the same."""
    job = service.started_job()
    seed = agent.take_one()
    (last,) = agent.create(seed, {"sequence": 3}).uuids
    agent.complete(seed)
    task = agent.take_one()
    agent.crash(task, exit_code=7)
    assert last == task.task
    (reason,) = of_task(service, last)
    assert reason.code == "delay"
    assert "It failed once (the process ended with exit code 7 and no verdict)" in reason.text
    assert reason.details["seconds"] == 1.0
    (summed,) = of_job(service, job)
    assert (summed.code, summed.details["tasks"]) == ("delay", 1)
    service.pass_seconds(1, agent)
    assert codes(of_task(service, last)) == ["ready"]


def test_who_holds_a_sequence(service: LocalService) -> None:
    """Running, delayed, waiting tasks and children of running ones, and how many in all."""
    agent = SimulatedAgent(service, slots=3)
    job = service.started_job()
    uuids = agent.grow(*[{} for _ in range(9)], {"sequence": 2})
    first, second, _ = agent.take()
    (child,) = agent.create(second, {"sequence": 1}).uuids
    agent.crash(first)
    (reason,) = of_task(service, uuids[9])
    states = {row["task"]: row["state"] for row in reason.details["tasks"]}
    assert states == {
        **dict.fromkeys(uuids[3:9], "waiting"),
        uuids[0]: "delayed",
        **dict.fromkeys(uuids[1:3], "running"),
        child: "child",
    }
    assert "10 tasks are not complete" in reason.text
    assert reason.text.endswith("and 5 more.")
    assert {found.code: found.details["tasks"] for found in of_job(service, job)} == {
        "running": 2,
        "creator": 1,
        "delay": 1,
        "ready": 6,
        "lower_sequence": 1,
    }


def test_busy_nodes(service: LocalService) -> None:
    """Slots of one, memory of the other."""
    here = SimulatedAgent(service, "n1", slots=1)
    there = SimulatedAgent(service, "n2", memory_kib=5000)
    job = service.started_job(runtime_constraints={"min_ram_per_task": 3000})
    task, *_ = reversed(here.grow({}, {}, {}))
    assert len(here.take() + there.take()) == 2
    (reason,) = of_task(service, task)
    assert reason.code == "nodes_busy"
    assert "n1.example (1 of 1 slots taken)" in reason.text
    assert "n2.example (2000 of 5000 KiB free, 3000 needed)" in reason.text
    assert [row["tasks_of_this_job"] for row in reason.details["nodes"]] == [1, 1]
    assert codes(of_job(service, job)) == ["running", "nodes_busy"]


def test_limits_of_the_job(service: LocalService) -> None:
    """max_tasks_per_node where it runs, max_nodes where it does not."""
    here = SimulatedAgent(service, "n1")
    limits = {"max_tasks_per_node": 1, "max_nodes": 1}
    job = service.started_job(runtime_constraints=limits)
    _, task = here.grow({}, {})
    here.take_one()
    (limit,) = of_task(service, task)
    assert (limit.code, limit.details["nodes"][0]["used"]) == ("max_tasks_per_node", 1)
    SimulatedAgent(service, "n2")
    others, limit = of_task(service, task)
    assert (others.code, limit.code) == ("max_nodes", "max_tasks_per_node")
    assert "n2.example (it is on 1 of at most 1 nodes)" in others.text
    assert codes(of_job(service, job)) == ["running", "max_nodes", "max_tasks_per_node"]


def test_a_node_on_which_it_failed_is_avoided(service: LocalService) -> None:
    """While another would do and is busy; until when."""
    here = SimulatedAgent(service, "n1", slots=1)
    there = SimulatedAgent(service, "n2", slots=1)
    job = service.started_job()
    (task,) = here.grow({})
    attempt = here.take_one()
    service.started_job()
    there.take_one()
    here.crash(attempt)
    service.pass_seconds(2, here, there)
    busy, avoided = of_task(service, task)
    assert (busy.code, avoided.code) == ("nodes_busy", "nodes_avoided")
    assert "n1.example until" in avoided.text
    assert codes(of_job(service, job)) == ["nodes_busy", "nodes_avoided"]
    for _ in range(16):
        service.pass_seconds(20, here, there)
    assert codes(of_task(service, task)) == ["ready"]


def test_held_and_draining_nodes(service: LocalService, agent: SimulatedAgent) -> None:
    """A queued job starts on neither, a ready task neither."""
    running = service.started_job()
    (task,) = agent.grow({})
    until = service.clock.now + 60_000_000

    def mark(column: str, value: int) -> None:
        service.write(lambda tx: tx.text(f"UPDATE node SET {column} = {value}", {}))

    mark("held_until", until)
    queued = service.started_job()
    assert service.job(queued).state == "Queued"
    for reasons in (of_task(service, task), of_job(service, queued), of_job(service, running)):
        assert codes(reasons) == ["nodes_held"]
        assert "(in 60 s)" in reasons[0].text
    mark("held_until", service.clock.now)
    mark("draining", 1)
    assert codes(of_task(service, task)) == ["nodes_draining"]
    assert codes(of_job(service, queued)) == ["nodes_draining"]


def test_memory_that_was_doubled_is_explained(service: LocalService) -> None:
    """The node that was large enough for it is gone."""
    large = SimulatedAgent(service, "large", memory_kib=9000)
    SimulatedAgent(service, "small", memory_kib=5000)
    service.started_job(runtime_constraints={"min_ram_per_task": 4000})
    seed = large.take_one()
    large.end(seed, "out_of_memory", signal=9, peak_memory_kib=4000)  # type: ignore[arg-type]
    large.sync(leaving=True)
    delay, size = of_task(service, seed.task)
    assert (delay.code, size.code) == ("delay", "too_large")
    assert "raised after it ran out of memory, asks for 8000 KiB" in size.text
    assert (size.lift or "").startswith("large.example would do and is away")


@pytest.mark.parametrize("on_failure", ["finish", "cancel"])
def test_a_halted_job(service: LocalService, agent: SimulatedAgent, on_failure: str) -> None:
    """Which task failed; then the job is over, and a retry is queued."""
    job = service.started_job(runtime_constraints={"on_failure": on_failure})
    *_, last = agent.grow({}, {}, {"sequence": 2})
    failing, running = agent.take()
    agent.fail(failing)
    for reasons in (of_task(service, last), of_job(service, job)):
        assert codes(reasons) == ["job_halted"]
        assert failing.task in reasons[0].text
        assert f"on_failure: {on_failure}" in reasons[0].text
    assert codes(of_task(service, failing.task)) == ["failed"]
    agent.complete(running)
    assert codes(of_task(service, running.task)) == ["complete"]
    assert codes(of_task(service, last)) == codes(of_job(service, job)) == ["job_failed"]
    service.call(jobs.retry, job.uuid, None, None)
    assert codes(of_task(service, last)) == ["job_queued", "ready"]


def test_a_failure_that_the_job_survives(service: LocalService, agent: SimulatedAgent) -> None:
    """on_failure: continue: the sequence goes on, nothing of a higher one starts."""
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    *_, last = agent.grow({}, {}, {"sequence": 2})
    failing, _ = agent.take()
    agent.fail(failing)
    assert codes(of_job(service, job)) == ["running", "tasks_failed", "lower_sequence"]
    (reason,) = of_task(service, last)
    assert {row["task"]: row["state"] for row in reason.details["tasks"]}[failing.task] == "failed"
    assert (reason.lift or "").startswith("Nothing in this run")


def test_a_cancelled_job(service: LocalService, agent: SimulatedAgent) -> None:
    """With the processes that have not ended."""
    job = service.started_job()
    seed = agent.take_one()
    service.call(jobs.cancel, job.uuid, "no need")
    for reasons in (of_task(service, seed.task), of_job(service, job)):
        assert codes(reasons) == ["job_cancelled"]
        assert "cancelled: no need; processes that have not ended yet: 1." in reasons[0].text


def test_min_nodes(service: LocalService) -> None:
    """A job waits for several free nodes; a task that needs several gathers them."""
    here = SimulatedAgent(service, "n1", slots=1)
    job = service.started_job(runtime_constraints={"min_nodes": 2})
    assert codes(of_job(service, job)) == ["min_nodes"]
    SimulatedAgent(service, "n2")
    assert codes(of_job(service, job)) == ["ready"]
    service.tick()
    assert service.job(job).state == "Running"
    (gang,) = here.grow({"runtime_constraints": {"min_nodes": 2}})
    assert codes(of_task(service, gang)) == ["gang_gathering"]
    assert here.take() == []
    (reason,) = of_task(service, gang)
    assert reason.details["nodes"] == ["n1.example"]
    assert codes(of_job(service, job)) == ["gang_gathering"]


def test_who_may_ask(service: LocalService, agent: SimulatedAgent) -> None:
    """Those who may see the job; an attempt sees its own job only."""
    job, other = service.started_job(), service.started_job()
    mine, _ = agent.take()
    assert service.as_token(mine.token, explain.job_reasons, job.uuid)
    for token, uuid in ((mine.token, other.uuid), (mine.token, "zzzzz-8i9sb-000000000000000")):
        with pytest.raises(NotFound):
            service.as_token(token, explain.job_reasons, uuid)
    with pytest.raises(NotFound):
        service.as_token(mine.token, explain.task_reasons, service.tasks_of(other)[0].uuid)


def test_what_is_ready_is_what_the_next_sync_takes(service: LocalService) -> None:
    """Over nodes and constraints of many kinds: explain agrees with the claim."""
    sizes = [{"min_ram_per_task": kib} for kib in (100, 400, 700, 1500)]
    limits = [{"max_tasks_per_node": 1}, {"max_nodes": 1}, {"min_cores_per_task": 3}, {}]
    items = [{"runtime_constraints": {**size, **limit}} for size in sizes for limit in limits]
    agents = [
        SimulatedAgent(service, "n1", memory_kib=1000, cores=4),
        SimulatedAgent(service, "n2", slots=2, memory_kib=2000, cores=2),
        SimulatedAgent(service, "n3", slots=1, memory_kib=600, cores=8),
    ]
    service.started_job()
    waiting = set(agents[0].grow(*items))
    seen: Counter[str] = Counter()
    for agent in agents * 3:
        told = {uuid: of_task(service, uuid) for uuid in waiting}
        seen.update(code for reasons in told.values() for code in codes(reasons))
        started = [one.task for one in agent.take(free_slots=agent.free_slots[:1])]
        assert all(codes(told[uuid]) == ["ready"] for uuid in started)
        waiting -= set(started)
        here = f"{agent.node}.example"
        for uuid in waiting if not started else ():
            (reason, *_) = told[uuid]
            assert reason.details.get("node") != here, (agent.node, reason)
    assert seen.keys() >= {"ready", "nodes_busy", "max_tasks_per_node", "max_nodes", "too_large"}


class CountingTx:
    """A transaction that counts its statements."""

    clock_ahead = 0

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.counts: Counter[str] = Counter()

    def one(self, shape: Callable[..., T], query: str, /, **values: Value) -> T | None:
        self.counts[query] += 1
        return self.tx.one(shape, query, **values)

    def all(self, shape: Callable[..., T], query: str, /, **values: Value) -> list[T]:
        self.counts[query] += 1
        return self.tx.all(shape, query, **values)

    def value(self, query: str, /, **values: Value) -> Any:
        self.counts[query] += 1
        return self.tx.value(query, **values)

    def run(self, query: str, /, **values: Value) -> int:
        raise AssertionError(f"{query}: a question writes nothing")

    def run_many(self, query: str, rows: Iterable[Values], /) -> int:
        raise AssertionError(f"{query}: a question writes nothing")

    def add_many(self, query: str, rows: Sequence[Sequence[Value]], /) -> None:
        raise AssertionError(f"{query}: a question writes nothing")

    def add(self, query: str, /, **values: Value) -> int:
        raise AssertionError(f"{query}: a question writes nothing")

    def lock_jobs(self, job_ids: Iterable[int], /) -> None:
        raise AssertionError("a question locks nothing")

    def hint(self, topics: Iterable[str], /) -> None:
        raise AssertionError("a question wakes nobody")

    def text(self, statement: str, values: Mapping[str, Value], /) -> list[tuple[Any, ...]]:
        raise AssertionError("statements of explain have names")


Method = Callable[..., list[Reason]]
ADMIN = Caller("admin", "")


def cost(service: LocalService, method: Method, uuid: str) -> tuple[int, int]:
    """Return the statements and the steps of the database's virtual machine of one call."""
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    def work(tx: Tx) -> int:
        counting = CountingTx(tx)
        connection = service.store._connection  # type: ignore[attr-defined]
        connection.set_progress_handler(step, 1)
        method(service.context(counting), ADMIN, uuid)
        connection.set_progress_handler(None, 0)
        return counting.counts.total()

    return service.write(work), steps


def costs(count: int) -> dict[str, tuple[int, int]]:
    """Return what questions cost in a job of so many tasks, all kinds of holders among them."""
    service = LocalService()
    agent = SimulatedAgent(service)
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    last, first, *_ = agent.grow({"sequence": 2}, *[{} for _ in range(count - 1)])
    failing, crashing, running, _ = agent.take()
    agent.create(running, *[{"sequence": 1} for _ in range(count // 10)])
    agent.fail(failing)
    agent.crash(crashing)
    children = service.rows("SELECT max(id), uuid FROM task")
    found = {
        "higher": cost(service, explain.task_reasons, last),
        "failed": cost(service, explain.task_reasons, first),
        "child": cost(service, explain.task_reasons, children[0][1]),
        "job": cost(service, explain.job_reasons, job.uuid),
    }
    service.close()
    return found


def test_the_cost_does_not_depend_on_the_number_of_tasks() -> None:
    """The same statements, and as many steps, at 1,000 and at 100,000 tasks."""
    small, large = costs(1000), costs(100_000)
    for what, (statements, steps) in large.items():
        assert statements == small[what][0] <= 12, (what, small, large)
        assert steps <= small[what][1] * 1.1, (what, small, large)
