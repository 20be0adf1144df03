"""A database that an earlier version made is brought up to date with what is in it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from jobtasks.service import jobs, tasks
from jobtasks.store.sqlite import SqliteStore
from jobtasks.store.statements import load_migrations
from jobtasks.testing.service import LocalService

FIRST = """
INSERT INTO job (id, uuid, owner_uuid, created_at, modified_at, state, script, script_version,
    seeded)
VALUES (1, 'zzzzz-8i9sb-000000000000001', 'zzzzz-tpzed-000000000000000', 1, 1, 'Running', 'run',
    '/srv', 1);
INSERT INTO tally (job_id, next_qsequence, todo, frontier) VALUES (1, 1, 1, 0);
INSERT INTO level (job_id, sequence, todo) VALUES (1, 0, 1);
INSERT INTO shape (id, needs) VALUES (1, '{}');
INSERT INTO lane (job_id, sequence, shape_id, ready, live) VALUES (1, 0, 1, 1, 1);
INSERT INTO batch (id, job_id, sequence, shape_id, state, size, ready, head)
VALUES (1, 1, 0, 1, 1, 1, 1, 4294967296);
INSERT INTO task (id, uuid, batch_id, sequence, created_at, modified_at)
VALUES (4294967296, 'zzzzz-ot0gb-000000000000001', 1, 0, 1, 1);
"""
"""A running job with its seed, as the first schema had it."""


def test_a_database_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """What was in it is there, and new things work on it."""
    path = tmp_path / "jobtasks.db"
    connection = sqlite3.connect(path)
    number, script = load_migrations()[0]
    connection.executescript(script + FIRST + f"PRAGMA user_version = {number};")
    connection.close()
    service = LocalService(store=SqliteStore(path))
    old = service.job("zzzzz-8i9sb-000000000000001")
    assert (old.state, old.todo, old.managed, old.node_uuids) == ("Running", 1, 1, "[]")
    assert service.task("zzzzz-ot0gb-000000000000001").failed_log is None
    foreign = service.call(jobs.create, {"state": "Running"})
    assert service.call(tasks.create, {"job_uuid": foreign.uuid, "log": "x"}).log == "x"
    service.close()
