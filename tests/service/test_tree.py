"""Who created whom, without reading a job's tasks (R2, R3, R4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobtasks.core.errors import NotFound
from jobtasks.service import jobs, tasks, tokens, tree
from jobtasks.service.context import Context
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import ADMIN_TOKEN, LocalService

from .costs import Cost, cost_of

Pairs = list[tuple[int, int, int, int]]


def pairs_of(service: LocalService, job: JobRecord) -> Pairs:
    """Return (creators' sequence, sequence, tasks, creators) of a job; counters must agree."""
    assert service.write(counter_problems) == {}
    found = service.call(tree.by_sequence, job.uuid)
    assert found.is_whole
    return [tuple(one) for one in found.items]  # type: ignore[misc]


@pytest.mark.rule("R3", "R4")
def test_tasks_count_from_their_creation_on(service: LocalService, agent: SimulatedAgent) -> None:
    """While their creator runs, not when it has failed, and when it is complete."""
    job = service.started_job()
    assert pairs_of(service, job) == [(-1, 0, 1, 0)]
    seed = agent.take_one()
    agent.create(seed, {}, {}, {"sequence": 5})
    alive: Pairs = [(-1, 0, 1, 0), (0, 1, 2, 1), (0, 5, 1, 1)]
    assert pairs_of(service, job) == alive
    agent.crash(seed)
    assert pairs_of(service, job) == alive[:1]
    service.pass_seconds(10, agent)
    agent.grow({}, {}, {"sequence": 5}, {"sequence": 0, "parameters": {"n": 1}})
    first = agent.take(free_slots=[1])[0]
    assert (first.sequence, first.qsequence) == (0, 7)
    agent.create(first, {})
    assert pairs_of(service, job) == [(-1, 0, 1, 0), (0, 0, 1, 1), (0, 1, 3, 2), (0, 5, 1, 1)]
    agent.complete(first)
    assert pairs_of(service, job) == [(-1, 0, 1, 0), (0, 0, 1, 1), (0, 1, 3, 2), (0, 5, 1, 1)]


@pytest.mark.rule("R23", "R24")
def test_deletes_and_retries_are_counted(service: LocalService, agent: SimulatedAgent) -> None:
    """A published child, one of a live creator, one that was moved by a retry, its creator."""
    job = service.started_job()
    seed = agent.take_one()
    made = agent.create(seed, {}, {}, {}).uuids
    service.as_token(seed.token, tasks.delete, made[0])
    assert pairs_of(service, job)[1] == (0, 1, 2, 1)
    agent.complete(seed)
    service.call(jobs.cancel, job.uuid, None)
    service.call(tasks.delete, made[1])
    assert pairs_of(service, job)[1] == (0, 1, 1, 1)
    service.call(jobs.retry, job.uuid, [made[2]], {"max_attempts": 2})
    assert pairs_of(service, job)[1] == (0, 1, 1, 1)
    service.call(jobs.cancel, job.uuid, None)
    service.call(tasks.delete, seed.task)
    service.call(tasks.delete, made[2])
    assert pairs_of(service, job) == []
    service.call(jobs.delete, job.uuid)
    assert service.rows("SELECT * FROM lineage") == []


@pytest.mark.rule("R7b")
def test_of_a_foreign_job_batches_tell(service: LocalService) -> None:
    """Its manager may write creators as it likes, and later."""
    job = service.call(jobs.create, {"state": "Running"})

    def make(**values: object) -> str:
        return service.call(tasks.create, {"job_uuid": job.uuid, **values}).uuid

    top = make()
    for _ in range(3):
        last = make(created_by_job_task_uuid=top)
    leaf = make(created_by_job_task_uuid=last, sequence=9)
    assert pairs_of(service, job) == [(-1, 0, 1, 0), (0, 1, 3, 1), (1, 9, 1, 1)]
    service.call(tasks.update, leaf, {"created_by_job_task_uuid": top}, whole=False)
    assert pairs_of(service, job) == [(-1, 0, 1, 0), (0, 1, 3, 1), (0, 9, 1, 1)]
    (low, high) = service.call(tree.children_by_sequence, top)
    assert (low.tasks, high.tasks) == (3, 1)


@pytest.mark.rule("R2")
def test_children_come_in_order_of_arrival_from_all_batches(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Several batches of one sequence, interleaved; pages go on where the last one ended."""
    service.started_job()
    seed = agent.take_one()
    for number in range(1, 11):
        constraints = {"min_ram_per_task": 1 + number % 3}
        agent.create(seed, {"runtime_constraints": constraints}, {"sequence": 3})
    agent.complete(seed)
    whole = service.call(tree.children, seed.task, 1, -1, 100)
    assert [one.qsequence for one in whole] == list(range(1, 21, 2))
    for size in (1, 3, 4):
        paged = []
        after = -1
        while page := service.call(tree.children, seed.task, 1, after, size):
            assert len(page) <= size
            paged += page
            after = page[-1].qsequence
        assert paged == whole
    child = agent.take(free_slots=[1])[0]
    agent.create(child, {}, {})
    (first,) = service.call(tree.children, seed.task, 1, -1, 1)
    assert (first.uuid, first.state, first.attempts, first.children) == (child.task, 1, 1, 2)


def test_small_sequences_are_counted_by_state(
    service: LocalService, agent: SimulatedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest first, as far as one call counts; of the others only their number is told."""
    monkeypatch.setattr(tree, "COUNTED_MAX", 5)
    service.started_job()
    seed = agent.take_one()
    agent.create(seed, {}, {}, {}, *[{"sequence": 2}] * 2, *[{"sequence": 3}] * 4)
    agent.complete(seed)
    agent.take(free_slots=[1])
    waiting = {"waiting": 2, "running": 1, "complete": 0, "failed": 0}
    found = service.call(tree.children_by_sequence, seed.task)
    assert [(one.sequence, one.tasks) for one in found] == [(1, 3), (2, 2), (3, 4)]
    assert [one.states for one in found] == [waiting, {**waiting, "running": 0}, None]


def test_more_pairs_than_an_answer_holds(
    service: LocalService, agent: SimulatedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first come, and that there are more."""
    monkeypatch.setattr(tree, "BRANCHES_MAX", 3)
    job = service.started_job()
    agent.grow(*[{"sequence": number} for number in range(1, 9)])
    found = service.call(tree.by_sequence, job.uuid)
    assert [one.sequence for one in found.items] == [0, 1, 2]
    assert not found.is_whole


@pytest.mark.rule("R32")
def test_strangers_see_no_tree(service: LocalService, agent: SimulatedAgent) -> None:
    """Nor the children of a task; nor does another job have them."""
    job = service.started_job()
    seed = agent.take_one()
    eve = service.new_user("eve")
    other = service.new_job()
    with pytest.raises(NotFound):
        service.as_token(eve, tree.by_sequence, job.uuid)
    with pytest.raises(NotFound):
        service.as_token(eve, tree.children_by_sequence, seed.task)
    with pytest.raises(NotFound):
        service.as_token(eve, tree.children, seed.task, 1, -1, 9)
    with pytest.raises(NotFound):
        service.call(tree.children, seed.task, 1, -1, 9, other.uuid)


def costs_of(path: Path, count: int) -> list[Cost]:
    """Return what the tree, the children by sequence and a page of children cost."""
    service = LocalService(path)
    agent = SimulatedAgent(service)
    job = service.started_job()
    seed = agent.take_one()
    agent.create(seed, *[{}] * count)
    agent.create(seed, *[{"sequence": 2}] * 30)
    agent.complete(seed)

    def call(ctx: Context, method: object, *arguments: object) -> int:
        method(ctx, tokens.identify(ctx, ADMIN_TOKEN), *arguments)  # type: ignore[operator]
        return 0

    found = [
        cost_of(service, path, lambda ctx: call(ctx, tree.by_sequence, job.uuid)),
        cost_of(service, path, lambda ctx: call(ctx, tree.children_by_sequence, seed.task)),
        cost_of(service, path, lambda ctx: call(ctx, tree.children, seed.task, 1, count // 2, 50)),
    ]
    service.close()
    return found


def test_a_tree_costs_the_same_however_many_tasks(tmp_path: Path) -> None:
    """Of 20,000 and of 60,000 children: as many statements and pages, and steps but for a few."""
    for few, many in zip(
        costs_of(tmp_path / "few.db", 20_000), costs_of(tmp_path / "many.db", 60_000), strict=True
    ):
        assert many.statements == few.statements
        assert many.steps <= few.steps * 1.05
        assert many.pages <= few.pages + 5
