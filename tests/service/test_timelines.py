"""A job's attempts over time, read a slice at a time (R13, R25)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.errors import NotFound
from jobtasks.protocol.messages import EndKind
from jobtasks.service import jobs, timelines
from jobtasks.service.timelines import Answer, Asked, Timelines
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

SECOND = 1_000_000


def unhurried() -> Timelines:
    """Return timelines that are read whole with one call, on the slowest machine."""
    return Timelines(clock=lambda: 0.0)


def ask(
    service: LocalService, job: JobRecord, kept: Timelines | None = None, **asked: Any
) -> Answer:
    """Return a part of a job's timeline as it is now, from `kept` or read anew."""
    return service.call((kept or unhurried()).answer, job.uuid, Asked(**asked))


@pytest.fixture
def worked(service: LocalService, agent: SimulatedAgent) -> JobRecord:
    """A seed of a second; four children at once, of which one fails, one is stopped, two run."""
    job = service.started_job()
    seed = agent.take_one()
    agent.create(seed, *[{}] * 4)
    service.pass_seconds(1, agent)
    agent.complete(seed)
    first, second, *_ = agent.take()
    service.pass_seconds(2, agent)
    agent.crash(first)
    agent.end(second, EndKind.STOPPED)
    return job


@pytest.mark.rule("R13")
def test_bars_say_where_when_and_how(service: LocalService, worked: JobRecord) -> None:
    """A row for each slot; what runs has no end."""
    service.pass_seconds(1)
    kept = unhurried()
    found = ask(service, worked, kept)
    assert (found.is_behind, found.attempts_read, found.cells) == (False, 5, None)
    assert [(row.hostname, row.slot, row.nodes) for row in found.rows] == [
        ("n1.example", slot, 1) for slot in (1, 2, 3, 4)
    ]
    assert found.bars is not None
    begun = found.first_at
    assert begun is not None and found.now == begun + 4 * SECOND
    seen = [
        (bar.row, bar.begins_at - begun, bar.ends_at and bar.ends_at - begun, bar.state)
        for bar in sorted(found.bars, key=lambda bar: bar.qsequence)
    ]
    assert seen == [
        (0, 0, SECOND, "complete"),
        (0, SECOND, 3 * SECOND, "failed"),
        (1, SECOND, 3 * SECOND, "stopped"),
        (2, SECOND, None, "running"),
        (3, SECOND, None, "running"),
    ]
    failed = next(bar for bar in found.bars if bar.state == "failed")
    assert (failed.cause, failed.sequence, failed.qsequence, failed.number) == ("exit", 1, 1, 1)
    assert service.task(failed.task_uuid).qsequence == 1
    (bar,) = ask(service, worked, kept, until=begun + SECOND // 2).bars or []
    assert bar.qsequence == 0
    late = ask(service, worked, kept, since=begun + 3 * SECOND + SECOND // 2).bars or []
    assert [bar.state for bar in late] == ["running"] * 2
    assert ask(service, worked, kept, since=begun + 9 * SECOND).bars == []
    assert ask(service, worked, kept, until=begun - SECOND).bars == []


@pytest.mark.rule("R13")
def test_what_ran_is_looked_at_again(
    service: LocalService, agent: SimulatedAgent, worked: JobRecord
) -> None:
    """One timeline that is asked again and again says what one says that begins now."""
    kept = unhurried()
    for _ in range(3):
        service.pass_seconds(5, agent)
        assert ask(service, worked, kept) == ask(service, worked)
        agent.sync()
    for one in list(agent.running.values())[1:]:
        agent.complete(one)
    service.pass_seconds(1, agent)
    assert ask(service, worked, kept) == ask(service, worked)
    service.call(jobs.cancel, worked.uuid, None)
    for one in list(agent.running.values()):
        agent.end(one, EndKind.STOPPED)
    service.pass_seconds(3600, agent)
    last = ask(service, worked, kept)
    assert last == ask(service, worked)
    assert last.last_at is not None and last.until == last.last_at + 1
    assert last.until < last.now - 3000 * SECOND


def test_cells_stand_for_too_many_bars(
    service: LocalService, worked: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the columns that were asked for; how busy, what ended, what failed."""
    service.pass_seconds(1)
    monkeypatch.setattr(timelines, "BARS_MAX", 4)
    found = ask(service, worked, columns=4)
    assert found.bars is None and found.cells is not None and found.column_us is not None
    assert found.since is not None and found.until is not None
    assert found.until - found.since == 4 * found.column_us
    assert found.until - found.now < found.column_us
    by_row = {row: [cell for cell in found.cells if cell.row == row] for row in range(4)}
    assert [cell.busy for cell in by_row[0]][:3] == pytest.approx([1.0, 1.0, 1.0], abs=0.05)
    assert [cell.column for cell in by_row[3] if cell.busy > 0.1] == [1, 2, 3] or [
        cell.column for cell in by_row[3] if cell.busy > 0.1
    ] == [0, 1, 2, 3]
    assert sum(cell.ended for cell in found.cells) == 3
    assert [(cell.row, cell.failed) for cell in found.cells if cell.failed] == [(0, 1)]
    assert ask(service, worked, columns=1000).bars is None
    assert ask(service, worked, until=found.since + SECOND // 2).bars is not None


def test_a_slice_is_read_with_each_call(
    service: LocalService, agent: SimulatedAgent, worked: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For so long; until all is read cells say what is known, and that there is more."""
    ticks = iter(range(1000))
    monkeypatch.setattr(timelines, "PAGE", 2)
    monkeypatch.setattr(timelines, "READ_SECONDS", 2)
    kept = Timelines(clock=lambda: next(ticks))
    seen = []
    while (found := ask(service, worked, kept)).is_behind:
        assert found.bars is None
        seen.append(found.attempts_read)
        assert len(seen) < 20
    assert seen == sorted(set(seen)) and len(seen) > 1
    assert found == ask(service, worked)


def test_few_timelines_are_kept(
    service: LocalService, agent: SimulatedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was asked for longest ago is read anew."""
    monkeypatch.setattr(timelines, "JOBS_MAX", 2)
    kept = unhurried()
    found = [service.started_job() for _ in range(3)]
    agent.take()
    for job in (*found, found[0]):
        assert ask(service, job, kept).attempts_read == 1
    assert len(kept._kept) == 2


@pytest.mark.rule("R25")
def test_a_gang_has_a_bar_on_each_of_its_nodes(service: LocalService) -> None:
    """By their names; the attempts of other jobs are left out."""
    agents = [SimulatedAgent(service, name, slots=1) for name in ("n10", "n2", "n3")]
    job = service.started_job()
    other = service.started_job()
    seed, *_ = agents[0].take()
    agents[1].take()
    agents[0].create(seed, {"runtime_constraints": {"min_nodes": 2}})
    agents[0].complete(seed)
    for _ in range(3):
        for agent in (agents[0], agents[2]):
            agent.take()
    found = ask(service, job)
    assert [row.hostname for row in found.rows] == ["n3.example", "n10.example"]
    gang = [bar for bar in found.bars or [] if bar.sequence == 1]
    assert sorted(bar.row for bar in gang) == [0, 1]
    assert len(ask(service, other).bars or []) == 1


def test_nothing_has_begun(service: LocalService) -> None:
    """No rows and no bars; nor does a stranger see that."""
    job = service.new_job()
    found = ask(service, job)
    assert (found.first_at, found.rows, found.bars, found.is_behind) == (None, [], [], False)
    with pytest.raises(NotFound):
        service.as_token(service.new_user("eve"), unhurried().answer, job.uuid, Asked())
