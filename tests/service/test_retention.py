"""What is over is kept for a time: jobs, logs, tokens; nothing that is queued or runs ever goes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobtasks.core.errors import NotFound
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import EndKind, LogChunk
from jobtasks.service import jobs, log_space, logs, retention, user_tokens
from jobtasks.store.records import JobRecord
from jobtasks.store.statements import load_statements
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService

DAY = 86_400.0
TABLES = ("job", "task", "attempt", "tail", "requeue", "batch", "lane", "level", "tally")


def over(service: LocalService, agent: SimulatedAgent) -> JobRecord:
    """Return a job that has just completed."""
    job = service.started_job()
    agent.complete(agent.take_one())
    return service.job(job)


def before(service: LocalService, seconds: float) -> int:
    return retention.age_limit(service.clock.now, seconds)


def is_there(service: LocalService, job: JobRecord) -> bool:
    try:
        service.job(job)
    except NotFound:
        return False
    return True


@pytest.mark.rule("R24")
def test_jobs_go_when_they_were_over_long_enough(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """To the microsecond; first the oldest; with them every row that was theirs."""
    old = over(service, agent)
    service.pass_seconds(10, agent)
    young = over(service, agent)
    assert service.run(retention.remove_jobs, before(service, 10.1)) == []
    assert service.run(retention.remove_jobs, before(service, 5)) == [old.uuid]
    assert (is_there(service, old), is_there(service, young)) == (False, True)
    assert service.run(retention.remove_jobs, before(service, 0)) == [young.uuid]
    while service.tick() == 0:
        pass
    for table in TABLES:
        assert service.rows(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.rule("R24", "R21")
def test_what_is_not_over_stays(service: LocalService, agent: SimulatedAgent) -> None:
    """Queued, running, cancelled with a process that has not ended; and queued again (R23)."""
    running = service.started_job()
    first = agent.take_one()
    cancelled = service.started_job()
    second = agent.take_one()
    service.call(jobs.cancel, cancelled.uuid, None)
    again = service.new_job()
    service.call(jobs.cancel, again.uuid, None)
    service.call(jobs.retry, again.uuid, None, None)
    queued = service.new_job(runtime_constraints={"min_ram_per_node": 2**40})
    service.clock.advance(1)
    kept = (running, cancelled, again, queued)
    assert service.run(retention.remove_jobs, before(service, 0)) == []
    assert [is_there(service, job) for job in kept] == [True] * 4
    agent.end(second, EndKind.STOPPED)
    assert service.run(retention.remove_jobs, before(service, 0)) == [cancelled.uuid]
    assert service.write(counter_problems) == {}
    agent.complete(first)


def test_jobs_go_in_slices(service: LocalService, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction removes more than a slice; a look finds all of them, page by page."""
    monkeypatch.setattr(retention, "SLICE", 2)
    for _ in range(5):
        service.call(jobs.cancel, service.new_job().uuid, None)
    place, seen = retention.Place(), 0
    while found := service.run(retention.jobs_over, before(service, 0), place):
        seen += len(found)
        place = retention.Place(found[-1].over_at, found[-1].id)
    assert seen == 5
    counts = [len(service.run(retention.remove_jobs, before(service, 0))) for _ in range(4)]
    assert counts == [2, 2, 1, 0]


@pytest.mark.sqlite_only
def test_a_look_costs_what_it_finds(service: LocalService, agent: SimulatedAgent) -> None:
    """Neither young jobs nor those whose logs are gone already are looked at again and again."""
    for _ in range(3):
        over(service, agent)
    now = before(service, 0)
    for query in ("jobs_over_before", "jobs_with_old_logs"):
        statement = "EXPLAIN QUERY PLAN " + load_statements()[query].sql
        plan = [row[3] for row in service.rows(statement, before=1, after=0, after_id=0, limit=9)]
        assert "SEARCH j USING INDEX" in plan[0], plan
        assert not any("TEMP B-TREE" in step for step in plan), plan
    assert len(service.run(retention.give_up_logs, now)) == 3
    assert service.run(retention.jobs_over, now, retention.Place(), with_logs=True) == []


@pytest.mark.rule("R13", "R23")
def test_attempts_say_when_their_logs_went(service: LocalService, agent: SimulatedAgent) -> None:
    """The record stays, with the size that the log had; a retry's new attempt has its own log."""
    job = service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=False)
    agent.end(seed, log_bytes=7)
    assert service.attempts(seed.task)[0].log_removed_at is None
    service.clock.advance(DAY)
    assert [uuid for uuid, _ in service.run(retention.give_up_logs, before(service, DAY))] == [
        job.uuid
    ]
    removed_at = service.clock.now
    assert service.attempts(seed.task)[0].log_removed_at == removed_at
    assert service.attempts(seed.task)[0].log_bytes == 7
    assert service.job(job).logs_removed_at == removed_at
    agent.renew()
    service.call(jobs.retry, job.uuid, None, None)
    service.pass_seconds(1, agent)
    agent.complete(agent.take_one())
    assert [one.log_removed_at for one in service.attempts(seed.task)] == [removed_at, None]
    assert [uuid for uuid, _ in service.run(retention.give_up_logs, before(service, 0))] == [
        job.uuid
    ], "it has run since, and has logs again"


def test_removed_tokens(service: LocalService) -> None:
    """Revoked or expired for so long, whichever came first; those in force and ours stay."""
    kept = service.call(user_tokens.create, {"label": "kept"})
    ends = service.call(user_tokens.create, {"expires_at": "2999-01-01T00:00:00Z"})
    revoked = service.call(user_tokens.create, {"expires_at": "2999-01-01T00:00:00Z"})
    service.call(user_tokens.revoke, revoked.uuid)
    service.clock.advance(DAY)
    assert service.run(retention.dead_tokens, before(service, DAY + 1)) == 0
    assert service.run(retention.remove_tokens, before(service, DAY + 1)) == 0
    assert service.run(retention.dead_tokens, before(service, DAY)) == 1
    assert service.run(retention.remove_tokens, before(service, DAY)) == 1
    left = {uuid for (uuid,) in service.rows("SELECT uuid FROM token WHERE role = 'user'")}
    assert left >= {kept.uuid, ends.uuid}
    assert revoked.uuid not in left


def test_limits_follow_the_settings() -> None:
    """0 is for ever, which is the default for jobs and logs."""
    assert retention.limits(10**15, Settings())[:2] == (None, None)
    settings = Settings(retain_jobs_seconds=3, retain_logs_seconds=2, retain_tokens_seconds=0)
    assert retention.limits(10_000_000, settings) == (7_000_000, 8_000_000, None)
    assert retention.age_limit(5, 1) == 0


JOB = "zzzzz-8i9sb-000000000000001"
TASK = "zzzzz-ot0gb-000000000000001"


def put(log_dir: Path, name: str, text: str = "x") -> Path:
    path = log_dir / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_logs_until_a_moment_are_removed(tmp_path: Path) -> None:
    """Newer ones stay, and what the tasks read; of a job that is gone everything goes."""
    old = put(tmp_path, f"{JOB}/{TASK}.1.log", "four")
    until = old.stat().st_mtime_ns // 1000 + 1
    new = put(tmp_path, f"{JOB}/{TASK}.2.log")
    os.utime(new, ns=((until + 5) * 1000,) * 2)
    attachment = put(tmp_path, f"{JOB}/attachment", "input")
    os.utime(attachment, ns=(0, 0))
    assert log_space.space_of(tmp_path) == (3, 10)
    assert log_space.space_of(tmp_path, [JOB], log_space.LOG) == (2, 5)
    assert log_space.remove(tmp_path, [(JOB, until)]) == (1, 4)
    assert (old.exists(), new.exists(), attachment.exists()) == (False, True, True)
    assert log_space.remove(tmp_path, [(JOB, None)]) == (2, 6)
    assert not (tmp_path / JOB).exists()
    assert log_space.remove(tmp_path, [(JOB, None)]) == (0, 0)


def test_only_folders_of_jobs_are_ours(tmp_path: Path) -> None:
    """What somebody else has put there is neither measured nor removed; nor is there anything."""
    put(tmp_path, "notes/today.log")
    put(tmp_path, f"{JOB}/{TASK}.1.log")
    put(tmp_path, "zzzzz-ot0gb-000000000000001/x.log")
    assert log_space.job_names(tmp_path) == [JOB]
    assert log_space.job_names(tmp_path / "nothing") == []
    assert log_space.space_of(tmp_path / "nothing") == (0, 0)


def test_a_log_that_comes_after_its_removal_is_dropped(
    service: LocalService, agent: SimulatedAgent, tmp_path: Path
) -> None:
    """The agent is told that it may forget it; nothing appears on disk."""
    over(service, agent)
    (task,) = service.rows("SELECT uuid FROM task")[0]
    (attempt,) = service.attempts(task)
    chunk = LogChunk(attempt.id, 0, b"late", True)
    gone = attempt._replace(log_removed_at=1)
    assert logs.store_chunks(tmp_path, [gone], [chunk], 1000) == [attempt.id]
    assert list(tmp_path.iterdir()) == []
    assert logs.store_chunks(tmp_path, [attempt], [chunk], 1000) == [attempt.id]
    assert log_space.space_of(tmp_path) == (1, 4)
