"""A database that comes back from a backup, while processes of its future may still be there."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from jobtasks.core.errors import StaleAttempt
from jobtasks.protocol.messages import Alive, Sync
from jobtasks.service import nodes, recovery, tasks
from jobtasks.service.soundness import contradictions
from jobtasks.store import snapshots
from jobtasks.store.sqlite import SqliteStore
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import AGENT_TOKEN, LocalService


def restored(path: Path, has_logs: bool = True) -> LocalService:
    """Return a service on a copy, as `jobtasks admin restore` leaves it."""
    service = LocalService(store=SqliteStore(path))
    service.run(recovery.begin_anew, has_logs=has_logs)
    return service


@pytest.mark.rule("R12", "R13", "R14", "R32")
def test_the_future_of_a_backup_has_no_hold_on_it(tmp_path: Path) -> None:
    """Attempts and agents that began after the backup are unknown for ever: their ids, from which
    their tokens are derived, are not given again.
    """
    service = LocalService(tmp_path / "first.db")
    agent = SimulatedAgent(service, slots=2)
    job = service.started_job()
    agent.grow({}, {}, {}, {})
    before = agent.take()
    snapshots.copy(tmp_path / "first.db", tmp_path / "copy.db")
    for one in before:
        agent.complete(one)
    later = agent.take()
    other = SimulatedAgent(service, "n2", slots=2)
    service.close()

    back = restored(tmp_path / "copy.db")
    assert back.write(contradictions) == {}
    for one in before:
        assert [a.cause for a in back.attempts(one.task)] == ["agent_lost"]
        assert back.task(one.task).failed_log == f"[jobtasks] {recovery.RESTORED}\n"
    returned = SimulatedAgent(back, slots=2)
    newer = returned.take()
    assert {one.task for one in newer} == {one.task for one in before}
    given = {one.attempt for one in newer}
    assert given.isdisjoint(one.attempt for one in (*before, *later))
    for one in (*before, *later):
        with pytest.raises(StaleAttempt):
            back.as_token(one.token, tasks.update, one.task, {"success": True}, whole=False)
    for stranger in (agent, other):
        message = Sync(stranger.joined.agent, 10**6, running=[Alive(one.attempt) for one in later])
        orders = back.as_token(AGENT_TOKEN, nodes.sync, message)
        assert orders.rejoin
    while not (job_now := back.job(job)).finished_at:
        for one in returned.running.copy().values():
            returned.complete(one)
        returned.take()
    assert (job_now.state, job_now.done) == ("Complete", 5)
    assert back.write(contradictions) == {}
    back.close()


def test_a_backup_of_a_beginning_has_no_second_first_attempt(tmp_path: Path) -> None:
    """Also where no attempt had been when the backup was made."""
    service = LocalService(tmp_path / "first.db")
    snapshots.copy(tmp_path / "first.db", tmp_path / "copy.db")
    agent = SimulatedAgent(service, slots=1)
    service.started_job()
    old = agent.take_one()
    service.close()
    back = restored(tmp_path / "copy.db")
    returned = SimulatedAgent(back, slots=1)
    back.started_job()
    assert returned.take_one().attempt > old.attempt
    assert returned.joined.agent > agent.joined.agent
    back.close()


def test_logs_that_stayed_behind_are_said_to_be_gone(tmp_path: Path) -> None:
    """Those of the past; what is written from now on is kept."""
    service = LocalService(tmp_path / "first.db")
    agent = SimulatedAgent(service, slots=1)
    service.started_job()
    first = agent.take_one()
    snapshots.copy(tmp_path / "first.db", tmp_path / "copy.db")
    service.close()
    back = restored(tmp_path / "copy.db", has_logs=False)
    returned = SimulatedAgent(back, slots=1)
    back.clock.advance(1)
    returned.complete(returned.take_one())
    removed = [one.log_removed_at for one in back.attempts(first.task)]
    assert removed[0] is not None
    assert removed[1] is None
    back.close()


def test_a_copy_is_of_one_moment(tmp_path: Path) -> None:
    """It is taken while the database is open, and is complete by itself."""
    service = LocalService(tmp_path / "first.db")
    service.new_job()
    snapshots.copy(tmp_path / "first.db", tmp_path / "copy.db")
    service.new_job()
    assert snapshots.schema_version(tmp_path / "copy.db") == snapshots.newest_version()
    assert snapshots.FileBeside(tmp_path / "copy.db").damage() == []
    connection = sqlite3.connect(tmp_path / "copy.db")
    assert connection.execute("SELECT count(*) FROM job").fetchone() == (1,)
    connection.close()
    service.close()
