"""How many tasks match is read from counters where they say it, and says what the rows say."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.service import jobs, listing
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

TASKS = RESOURCES["job_tasks"]
STATES = ("waiting", "running", "complete", "failed")


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LocalService, JobRecord]]:
    """A job with tasks of three levels in every state, children that wait for their creator, and
    running tasks that have written each verdict.
    """
    service = LocalService(tmp_path_factory.mktemp("counts") / "jobtasks.db")
    agent = SimulatedAgent(service, slots=9)
    job = service.started_job(runtime_constraints={"on_failure": "continue"})
    seed = agent.take_one()
    agent.create(seed, *[{"sequence": 1 + n % 2} for n in range(60)])
    agent.complete(seed)
    seeded = random.Random(5)
    for _ in range(2):
        for task in agent.take():
            seeded.choice([agent.complete, agent.complete, agent.fail, agent.crash])(task)
    running = agent.take()
    agent.create(running[0], {}, {"sequence": 7})
    for number, task in enumerate(running):
        if number % 3:
            agent.write(task, success=number % 3 == 1)
    yield service, job
    service.close()


def counted(service: LocalService, filters: list[Any]) -> int | None:
    query = parse_query(TASKS, {"filters": filters, "limit": 0}, 1000)
    return service.call(listing.list_tasks, query).items_available


SEQUENCES: list[list[Any]] = [
    [],
    *([["sequence", operator, 1]] for operator in ("=", "!=", "<", "<=", ">", ">=")),
    [["sequence", ">=", 1], ["sequence", "<", 2]],
]


@pytest.mark.parametrize(
    "filters",
    [
        *(list(pair) for pair in SEQUENCES),
        *([*pair, ["state", "=", state]] for pair, state in product(SEQUENCES, STATES)),
        *([["success", "=", value]] for value in (True, False, None)),
        *(
            [["failed_count", *test]]
            for test in ((">", 0), (">=", 1), ("=", 1), ("=", 0), (">", 9))
        ),
        [["success", "=", True], ["sequence", "=", 1]],
        [["state", "=", "waiting"], ["state", "=", "failed"]],
        [["state", "=", "unheard of"]],
        [["state", "!=", "failed"]],
        [["sequence", "in", [0, 1]]],
        [["qsequence", ">", 30]],
    ],
)
def test_the_count_is_that_of_the_rows(
    grown: tuple[LocalService, JobRecord], filters: list[Any]
) -> None:
    """Whatever is asked for, by counters or not."""
    service, job = grown
    filters = [["job_uuid", "=", job.uuid], *filters]
    query = parse_query(TASKS, {"filters": filters, "limit": 1000}, 1000)
    rows = service.call(listing.list_tasks, query).items
    assert counted(service, filters) == len(rows)


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("offset", [0, 1, 5, 100])
def test_a_page_holds_what_is_left_from_its_offset_on(
    grown: tuple[LocalService, JobRecord], state: str, offset: int
) -> None:
    """That the rows are counted beforehand takes none away."""
    service, job = grown
    asked = {
        "filters": [["job_uuid", "=", job.uuid], ["state", "=", state]],
        "order": "qsequence",
        "offset": offset,
        "limit": 3,
    }
    page = service.call(listing.list_tasks, parse_query(TASKS, asked, 1000))
    matching = [task.uuid for task in service.tasks_of(job) if STATES[task.state] == state]
    assert [task.uuid for task in page.items] == matching[offset : offset + 3]


def test_all_tasks_are_counted_without_a_job(grown: tuple[LocalService, JobRecord]) -> None:
    """For who sees all, for an owner, and for who has none."""
    service, job = grown
    query = parse_query(TASKS, {"limit": 0}, 1000)
    rows = service.rows("SELECT count(*) FROM visible_task")[0][0]
    assert service.call(listing.list_tasks, query).items_available == rows
    stranger = service.new_user("stranger")
    assert service.as_token(stranger, listing.list_tasks, query).items_available == 0
    owned = service.as_token(stranger, jobs.create, {"command": ["true"]})
    assert owned.owner_uuid != job.owner_uuid
    service.tick()
    assert service.as_token(stranger, listing.list_tasks, query).items_available == 1
    assert service.call(listing.list_tasks, query).items_available == rows + 1


def test_the_job_is_as_the_counts_need_it(grown: tuple[LocalService, JobRecord]) -> None:
    """Every state and verdict occurs, else the other test says nothing."""
    service, job = grown
    tasks = service.tasks_of(job)
    assert {task.state for task in tasks} == {0, 1, 2, 3}
    running = {task.success for task in tasks if task.state == 1}
    assert len(running) == 3
