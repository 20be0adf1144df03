"""Large creates come slice by slice, and exist all at once or never (R2, R4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.errors import Invalid, StaleAttempt, Unavailable
from jobtasks.core.settings import Settings
from jobtasks.service import arrivals, creation, jobs
from jobtasks.service.arrivals import SILENT_SECONDS, Arrival
from jobtasks.service.creation import BulkCreated
from jobtasks.service.idempotency import Key
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService

KEY = Key("k", b"body")
ITEMS: list[dict[str, Any]] = [{"parameters": {"n": n}, "sequence": 1 + n % 2} for n in range(12)]
TASKS = "SELECT count(*) FROM task"
VISIBLE = "SELECT count(*) FROM visible_task"
LEFT = "SELECT (SELECT count(*) FROM arrival), (SELECT count(*) FROM batch WHERE state = 2)"


class Creation:
    """A large create of a running seed, as the edge does it."""

    def __init__(
        self, service: LocalService, agent: SimulatedAgent, key: Key | None = None
    ) -> None:
        self.service = service
        self.agent = agent
        self.key = key
        self.job = service.started_job()
        self.seed = agent.take_one()

    def begin(self, count: int = len(ITEMS)) -> Any:
        return self._call(arrivals.begin, count, self.key)

    def add(self, arrival: Arrival, items: list[dict[str, Any]]) -> None:
        self._call(arrivals.add, arrival, creation.checked(arrival.origin, items))

    def half(self) -> Arrival:
        """Begin, and add one half."""
        arrival: Arrival = self.begin()
        self.add(arrival, ITEMS[:6])
        return arrival

    def finish(self, arrival: Arrival) -> BulkCreated:
        made: BulkCreated = self._call(arrivals.finish, arrival, self.key)
        self.service.run(arrivals.leave, arrival.id)
        return made

    def whole(self) -> BulkCreated:
        """Do all of it."""
        arrival = self.half()
        self.add(arrival, ITEMS[6:])
        return self.finish(arrival)

    def count(self, statement: str) -> int:
        return int(self.service.rows(statement)[0][0])

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        return self.service.as_token(self.seed.token, method, *arguments)


@pytest.fixture
def create(service: LocalService, agent: SimulatedAgent) -> Creation:
    return Creation(service, agent)


def tally(service: LocalService, job: JobRecord) -> tuple[int, int]:
    record = service.job(job)
    return record.todo, record.running_tasks


@pytest.mark.rule("R2", "R3")
def test_tasks_exist_from_the_end_on(service: LocalService, create: Creation) -> None:
    """Before it: in no list and no count. Then as if they had come in one transaction."""
    arrival = create.half()
    assert create.count(TASKS) == 7
    assert create.count(VISIBLE) == 1
    assert tally(service, create.job) == (0, 1)
    create.add(arrival, ITEMS[6:])
    assert create.count(VISIBLE) == 1
    made = create.finish(arrival)
    found = service.tasks_of(create.job)[1:]
    assert [task.uuid for task in found] == made.uuids
    assert [task.qsequence for task in found] == list(range(1, 13))
    assert [task.parameters for task in found] == [f'{{"n":{n}}}' for n in range(12)]
    assert {task.created_by_job_task_uuid for task in found} == {create.seed.task}
    assert tally(service, create.job) == (12, 1)
    create.agent.complete(create.seed)
    assert len(create.agent.take()) == create.agent.slots
    assert service.rows(LEFT) == [(0, 0)]


@pytest.mark.rule("R4")
def test_they_go_with_their_creator(service: LocalService, create: Creation) -> None:
    """Once they are there they are deleted as any children; batches of two creates are apart."""
    create.whole()
    create.whole()
    assert create.count(VISIBLE) == 25
    create.agent.crash(create.seed)
    assert create.count(VISIBLE) == 1
    for _ in range(6):
        service.tick()
    assert create.count(TASKS) == 1


@pytest.mark.rule("R2", "R6")
def test_others_create_meanwhile(service: LocalService, create: Creation) -> None:
    """Numbers follow each other within a create, and none is given twice."""
    arrival = create.half()
    (other,) = create.agent.create(create.seed, {}).uuids
    create.add(arrival, ITEMS[6:])
    made = create.finish(arrival)
    assert service.task(other).qsequence == 13
    assert made.first_qsequence == 1
    assert [task.qsequence for task in service.tasks_of(create.job)] == list(range(14))


@pytest.mark.rule("R2")
@pytest.mark.parametrize("how", ["left", "silent"])
def test_what_is_given_up_is_swept(service: LocalService, create: Creation, how: str) -> None:
    """By who began it, or as nothing more comes: a killed server. It cannot be gone on with."""
    arrival = create.half()
    service.tick()
    assert create.count(TASKS) == 7, "as long as it goes on it is left alone"
    if how == "left":
        service.run(arrivals.leave, arrival.id)
    else:
        service.pass_seconds(SILENT_SECONDS + 1, create.agent)
    for _ in range(4):
        service.tick()
    assert create.count(TASKS) == 1
    assert service.rows(LEFT) == [(0, 0)]
    with pytest.raises(Unavailable):
        create.add(arrival, ITEMS[6:])
    with pytest.raises(Unavailable):
        create.finish(arrival)
    assert tally(service, create.job) == (0, 1)


@pytest.mark.rule("R32")
def test_an_attempt_that_is_over_creates_nothing_more(
    service: LocalService, create: Creation
) -> None:
    """Neither a slice nor the end of a create; its next attempt begins anew."""
    arrival = create.half()
    service.call(jobs.cancel, create.job.uuid, None)
    with pytest.raises(StaleAttempt):
        create.add(arrival, ITEMS[6:])
    with pytest.raises(StaleAttempt):
        create.finish(arrival)
    assert create.count(VISIBLE) == 1


@pytest.mark.rule("R22")
def test_a_repeat_makes_nothing(service: LocalService, agent: SimulatedAgent) -> None:
    """Neither one that comes later nor one that was under way at the same time."""
    create = Creation(service, agent, KEY)
    late = create.half()
    made = create.whole()
    assert create.begin() == made
    create.add(late, ITEMS[6:])
    assert create.finish(late) == made
    assert create.count(VISIBLE) == 13
    for _ in range(4):
        service.tick()
    assert create.count(TASKS) == 13
    create.key = Key("k", b"another body")
    with pytest.raises(Invalid):
        create.begin()


@pytest.mark.rule("R40")
def test_limits_hold_at_the_end(agent: SimulatedAgent) -> None:
    """Of a job and of an attempt, whatever came in between."""
    service = LocalService(settings=Settings(tasks_per_job_max=20, children_per_task_max=14))
    create = Creation(service, SimulatedAgent(service))
    with pytest.raises(Invalid):
        create.begin(20)
    with pytest.raises(Invalid):
        create.begin(0)
    arrival = create.half()
    create.agent.create(create.seed, *[{}] * 8)
    create.add(arrival, ITEMS[6:])
    with pytest.raises(Invalid):
        create.finish(arrival)
    assert create.count(VISIBLE) == 9
    service.close()


@pytest.mark.rule("R2")
def test_a_killed_server_leaves_nothing(tmp_path: Path) -> None:
    """Its successor sweeps what had come, and the counters agree with the rows at any time."""
    path = tmp_path / "killed.db"
    service = LocalService(path)
    create = Creation(service, SimulatedAgent(service))
    create.half()
    now = service.clock.now
    service.close()
    after = LocalService(path)
    after.clock.advance((now - after.clock.now) / 1_000_000 + SILENT_SECONDS + 1)
    assert after.rows(VISIBLE) == [(1,)]
    assert not after.write(counter_problems)
    for _ in range(4):
        after.tick()
    assert after.rows(TASKS) == [(1,)]
    assert after.rows(LEFT) == [(0, 0)]
    assert not after.write(counter_problems)
    after.close()


def test_only_attempts_create_by_slices(service: LocalService, create: Creation) -> None:
    """Who runs a job himself does it in one transaction."""
    assert service.call(arrivals.begin, 12, None) is None
