"""How much a task may create and a job may write (R40)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.log_room import LAST_WORDS_BYTES, log_bytes_allowed
from jobtasks.core.settings import Settings
from jobtasks.service import jobs, tasks
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

pytestmark = pytest.mark.rule("R40")
CAP = 10 * LAST_WORDS_BYTES


@pytest.fixture
def small() -> Iterator[LocalService]:
    """Limits that are reached soon."""
    settings = Settings(children_per_task_max=3, log_bytes_max=CAP, job_log_bytes_max=CAP + 100_000)
    service = LocalService(settings=settings)
    yield service
    service.close()


def test_a_task_creates_no_more_than_its_limit(small: LocalService) -> None:
    """What is past it is refused as a whole, in one call or several; another task has its own."""
    agent = SimulatedAgent(small)
    job = small.started_job()
    seed = agent.take_one()
    agent.create(seed, {}, {"sequence": 7})
    with pytest.raises(Invalid, match="A task may create at most 3 tasks"):
        agent.create(seed, {}, {})
    assert len(small.tasks_of(job)) == 3
    agent.create(seed, {})
    with pytest.raises(Invalid, match="at most 3"):
        agent.create(seed, {})
    agent.complete(seed)
    assert len(small.tasks_of(job)) == 4
    agent.create(agent.take()[0], {}, {}, {})


def test_what_was_deleted_counts_and_a_new_attempt_begins_at_none(small: LocalService) -> None:
    """So that no loop of creating and deleting goes on for ever."""
    agent = SimulatedAgent(small)
    small.started_job()
    seed = agent.take_one()
    for _ in range(3):
        (uuid,) = agent.create(seed, {}).uuids
        small.as_token(seed.token, tasks.delete, uuid)
    with pytest.raises(Invalid, match="at most 3"):
        agent.create(seed, {})
    agent.crash(seed)
    small.clock.advance(2)
    small.tick()
    assert agent.create(agent.take_one(), {}, {}, {}).count == 3


@pytest.mark.parametrize(
    ("written", "allowed"),
    [
        (0, CAP),
        (100_000, CAP),
        (100_001, CAP - 1),
        (CAP + 100_000 - LAST_WORDS_BYTES - 1, LAST_WORDS_BYTES + 1),
        (CAP + 100_000, LAST_WORDS_BYTES),
        (CAP * 1000, LAST_WORDS_BYTES),
    ],
)
def test_what_an_attempt_may_write_of_what_is_left(written: int, allowed: int) -> None:
    """Never more than an attempt may, never less than its last words."""
    settings = Settings(log_bytes_max=CAP, job_log_bytes_max=CAP + 100_000)
    assert log_bytes_allowed(settings, written) == allowed


def test_last_words_are_within_the_limit_of_an_attempt() -> None:
    """A limit below them holds."""
    assert log_bytes_allowed(Settings(log_bytes_max=1000, job_log_bytes_max=1), 5) == 1000


def test_agents_are_told_what_is_left_of_the_jobs_logs(small: LocalService) -> None:
    """What ended attempts wrote counts, failed and stopped ones too; each job by itself."""
    agent = SimulatedAgent(small, slots=1)
    job = small.started_job()
    first = agent.take_one()
    assert first.log_bytes_max == CAP
    agent.crash(first, log_bytes=200_000)
    small.clock.advance(2)
    small.tick()
    second = agent.take_one()
    assert second.log_bytes_max == CAP - 100_000
    small.call(jobs.cancel, job.uuid, None)
    agent.end(second, log_bytes=CAP)
    small.call(jobs.retry, job.uuid, None, None)
    small.tick()
    assert agent.take_one().log_bytes_max == LAST_WORDS_BYTES
    agent.end(next(iter(agent.running.values())))
    small.started_job()
    other = SimulatedAgent(small, "n2")
    assert CAP in {assignment.log_bytes_max for assignment in other.take()}
