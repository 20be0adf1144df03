"""A database that an earlier version made is brought up to date with what is in it."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from importlib.resources import files
from pathlib import Path

import pytest
from tests.databases import Cluster

from jobtasks.core.identifiers import attempt_token, token_hash
from jobtasks.protocol.messages import Alive, Ended, EndKind, Sync
from jobtasks.service import jobs, nodes, tasks
from jobtasks.service.soundness import contradictions
from jobtasks.store import postgres as postgres_store
from jobtasks.store import snapshots
from jobtasks.store.dialect import spelled
from jobtasks.store.postgres_link import connect, full_address
from jobtasks.store.sqlite import SqliteStore
from jobtasks.store.statements import load_migrations
from jobtasks.testing.clock import ManualClock
from jobtasks.testing.service import AGENT_TOKEN, LocalService

JOB = "zzzzz-8i9sb-000000000000001"
TASKS = [f"zzzzz-ot0gb-00000000000000{number}" for number in range(4)]
KEY = b"k" * 32
"""The secret of every `LocalService`."""
FIRST_ID = 1 << 32

ROWS = """
INSERT INTO node (id, uuid, lasting_id, hostname, slots, memory_kib, cores, scratch_mb, agent_id,
    created_at, modified_at)
VALUES (1, 'zzzzz-7ekkf-000000000000001', 'n1', 'n1.example', 2, 1000000, 8, 1000, 1, :t, :t);
INSERT INTO agent (id, node_id, incarnation, sync_number, lease_until, joined_at)
VALUES (1, 1, 'n1-1', 7, :t, :t);
INSERT INTO job (id, uuid, owner_uuid, created_at, modified_at, state, script, script_version,
    started_at, seeded)
VALUES (1, :job, 'zzzzz-tpzed-000000000000000', :t, :t, 'Running', 'run', '/srv', :t, 1);
INSERT INTO tally (job_id, next_qsequence, shapes, todo, running, done, live, frontier)
VALUES (1, 4, 1, 2, 1, 1, 1, 1);
INSERT INTO level (job_id, sequence, todo, running, done) VALUES (1, 0, 0, 0, 1), (1, 1, 2, 1, 0);
INSERT INTO shape (id, needs) VALUES (1, '{}');
INSERT INTO lane (job_id, sequence, shape_id, ready, live) VALUES (1, 0, 1, 0, 0), (1, 1, 1, 2, 1);
INSERT INTO batch (id, job_id, sequence, shape_id, creator_task_id, creator_attempt_id, state, size,
    ready, head)
VALUES (1, 1, 0, 1, NULL, NULL, 1, 1, 0, :id + 1), (2, 1, 1, 1, :id, 1, 1, 3, 2, :id + 2);
INSERT INTO task (id, uuid, batch_id, sequence, state, progress, success, output, created_at,
    modified_at, started_at, finished_at, attempts, attempt_id)
VALUES (:id, :task0, 1, 0, 2, 1.0, 1, 'first', :t, :t, :t, :t, 1, 1),
    (:id + 1, :task1, 2, 1, 1, NULL, NULL, NULL, :t, :t, :t, NULL, 1, 2),
    (:id + 2, :task2, 2, 1, 0, NULL, NULL, NULL, :t, :t, NULL, NULL, 0, NULL),
    (:id + 3, :task3, 2, 1, 0, NULL, NULL, NULL, :t, :t, NULL, NULL, 0, NULL);
INSERT INTO attempt (id, task_id, job_id, number, node_id, agent_id, slot, shape_id, state,
    token_hash, children, assigned_at, started_at, ended_at, cause, exit_code)
VALUES (1, :id, 1, 1, 1, 1, 1, 1, 3, :token1, 1, :t, :t, :t, 'exit', 0),
    (2, :id + 1, 1, 1, 1, 1, 1, 1, 1, :token2, 0, :t, :t, NULL, NULL, NULL);
INSERT INTO tail (attempt_id, stderr) VALUES (1, 'words');
"""
"""A job in its middle, in columns of the first schema: the seed is complete, of its three children
one runs under a live agent, two wait."""

LATER_ROWS = {
    11: """
UPDATE lane SET owner_uuid = 'zzzzz-tpzed-000000000000000';
UPDATE tally SET slots = 1;
""",
    16: """
UPDATE batch SET creator_sequence = 0 WHERE creator_task_id IS NOT NULL;
INSERT INTO lineage (job_id, creator_sequence, sequence, tasks, creators)
VALUES (1, -1, 0, 1, 0), (1, 0, 1, 3, 1);
""",
}
"""What a program of that schema or a later one wrote besides."""


VALUES: dict[str, int | str | bytes] = {
    "t": ManualClock().now,
    "id": FIRST_ID,
    "job": JOB,
    **{f"task{number}": uuid for number, uuid in enumerate(TASKS)},
    **{f"token{one}": token_hash(attempt_token(KEY, one)) for one in (1, 2)},
}


def old_rows(version: int) -> list[str]:
    """Return the statements by which a program of that version wrote a job in its middle."""
    later = (rows for since, rows in LATER_ROWS.items() if since <= version)
    return list(filter(str.strip, ";".join([ROWS, *later]).split(";")))


def make_old_database(path: Path, version: int) -> None:
    """Write a database as a program of that version left it, in the middle of a job."""
    connection = sqlite3.connect(path)
    for number, script in load_migrations():
        if number <= version:
            connection.executescript(script)
    for statement in old_rows(version):
        connection.execute(statement, VALUES)
    connection.execute(f"PRAGMA user_version = {version}")
    connection.commit()
    connection.close()


def make_old_postgres(cluster: Cluster, version: int) -> str:
    """Do the same in a new database of PostgreSQL; return its address."""
    cluster.execute(f"CREATE DATABASE old_{version}")
    address = cluster.address(f"old_{version}")
    with contextlib.closing(connect(full_address(address), pooled=False)) as link:
        known = [step for step in load_migrations("postgres") if step[0] <= version]
        with pytest.MonkeyPatch.context() as older:
            older.setattr(postgres_store, "load_migrations", lambda dialect: known)
            postgres_store.migrate(link)
        for statement in old_rows(version):
            link.execute(spelled(statement), VALUES)
    return address


@pytest.mark.rule("R10", "R32", "R35", "R37")
@pytest.mark.parametrize("version", [number for number, _ in load_migrations()])
def test_a_job_goes_on_through_an_upgrade(tmp_path: Path, version: int) -> None:
    """The agent did not notice: its attempt reports with the token it has, the others follow."""
    path = tmp_path / "jobtasks.db"
    make_old_database(path, version)
    service = LocalService(store=SqliteStore(path))
    assert snapshots.schema_version(path) == snapshots.newest_version()
    see_it_end(service)


@pytest.mark.rule("R10", "R32", "R35", "R37")
@pytest.mark.parametrize("version", [number for number, _ in load_migrations("postgres")])
def test_a_job_goes_on_through_an_upgrade_of_postgresql(postgres: Cluster, version: int) -> None:
    """As it does on SQLite."""
    address = make_old_postgres(postgres, version)
    see_it_end(LocalService(store=postgres_store.PostgresStore(address)))


def see_it_end(service: LocalService) -> None:
    """Let the job go on until it is complete."""
    assert service.write(contradictions) == {}
    service.tick(gap=True)
    old = service.job(JOB)
    assert (old.state, old.todo, old.running_tasks, old.done) == ("Running", 2, 1, 1)
    assert service.task(TASKS[0]).log == "words"
    token = attempt_token(KEY, 2)
    service.as_token(token, tasks.update, TASKS[1], {"success": True, "output": "b"}, whole=False)
    renewed = service.as_token(
        AGENT_TOKEN, nodes.sync, Sync(1, 8, running=[Alive(2)], jobs_known=[JOB])
    )
    assert (renewed.renewed, renewed.stop, renewed.ask) == (True, [], [])
    ends = [Ended(2, EndKind.EXIT, exit_code=0)]
    orders = service.as_token(AGENT_TOKEN, nodes.sync, Sync(1, 9, ended=ends, free_slots=[1, 2]))
    assert orders.acknowledged == [2]
    assert [one.task for one in orders.start] == TASKS[2:]
    for one in orders.start:
        values = {"success": True, "output": f"{one.qsequence}"}
        service.as_token(one.token, tasks.update, one.task, values, whole=False)
    ends = [Ended(one.attempt, EndKind.EXIT, exit_code=0) for one in orders.start]
    service.as_token(AGENT_TOKEN, nodes.sync, Sync(1, 10, ended=ends, free_slots=[1, 2]))
    done = service.job(JOB)
    assert (done.state, done.output) == ("Complete", "first\nb\n2\n3\n")
    assert service.write(contradictions) == {}
    service.close()


def test_new_things_work_on_an_old_database(tmp_path: Path) -> None:
    """What came later has its place in the records of the first version."""
    path = tmp_path / "jobtasks.db"
    make_old_database(path, 1)
    service = LocalService(store=SqliteStore(path))
    old = service.job(JOB)
    assert (old.managed, old.node_uuids) == (1, '["zzzzz-7ekkf-000000000000001"]')
    assert service.task(TASKS[1]).failed_log is None
    foreign = service.call(jobs.create, {"state": "Running"})
    assert service.call(tasks.create, {"job_uuid": foreign.uuid, "log": "x"}).log == "x"
    service.close()


RELEASED = {
    "0001_begin.sql": "ddb1c34e98aa6e40",
    "0002_nodes.sql": "cf35c03a447231e6",
    "0003_repeats.sql": "37973ad95c4a952c",
    "0004_retention.sql": "480ecb44f859237b",
    "0005_foreign_jobs_and_reuse.sql": "6b04143fe9ac310f",
    "0006_task_pages.sql": "c63631c9613e4fd6",
    "0007_notices.sql": "7d70a91dd9589934",
    "0008_suspicion.sql": "b196e3be811b5537",
    "0009_events.sql": "36a2cb3e00648230",
    "0010_limits.sql": "49523407226653cf",
    "0011_sharing.sql": "2fb2d26d13fe0cfd",
}
"""Migrations that databases have gone through, by the beginning of the SHA-256 of each."""


@pytest.mark.parametrize("name", RELEASED)
def test_a_migration_that_was_applied_does_not_change(name: str) -> None:
    """A database that has it would not get what is added: that is a migration of its own."""
    script = files("jobtasks.store").joinpath("migrations", name).read_bytes()
    assert hashlib.sha256(script).hexdigest()[:16] == RELEASED[name]
