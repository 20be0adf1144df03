"""kill -9 of the server within a large create: none of it or all of it, and once (R2, R37)."""

from __future__ import annotations

import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest

from .conftest import LIMIT_SECONDS, Served, Start, wait_until

COUNT = 60_000
SEED = f"""#!{sys.executable}
from jobtasks_sdk import current_task
task = current_task()
if task.sequence == 0:
    made = task.create_many({{"parameters": {{"n": n}}}} for n in range({COUNT}))
    task.complete(output=str(len(set(made))))
"""


def rows(served: Served) -> int:
    """Return how many rows there are, whoever may see them."""
    with closing(sqlite3.connect(served.state / "jobtasks.db")) as database:
        return int(database.execute("SELECT count(*) FROM task").fetchone()[0])


@pytest.mark.timeout(4 * LIMIT_SECONDS)
@pytest.mark.rule("R2", "R22", "R37")
def test_a_large_create_is_there_once(start: Start, tmp_path: Path) -> None:
    """What the killed server had stored of it is seen by nobody; the SDK repeats the call."""
    script = tmp_path / "seed.py"
    script.write_text(SEED)
    script.chmod(0o755)
    served = start("--slots", "1")
    with served.api() as api:
        job = api.post("jobs", {"script": script.name, "script_version": str(tmp_path)})["uuid"]
    wait_until("a part of the tasks", lambda: 5000 < rows(served) < COUNT, LIMIT_SECONDS)
    served.kill()
    assert 5000 < rows(served) < COUNT, "it was killed in the middle"
    served = start(listen=served.address, state=served.state)
    with served.api() as api:
        counts = wait_until(
            "the tasks",
            lambda: [
                found
                for found in [api.get(f"jobs/{job}")["tasks_summary"]]
                if sum(found.values()) > 1
            ],
            LIMIT_SECONDS,
        )
        assert sum(counts[0].values()) == COUNT + 1
        api.post(f"jobs/{job}/cancel")
