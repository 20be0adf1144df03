"""A job whose directory is gone moves to another server, which is killed while it comes (R37)."""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from jobtasks.core.packs import YOUNG_SECONDS

from .conftest import QUICK, Api, Served, Start, wait_until

LOG_LINES = 70_000
SETTINGS = {**QUICK, "housekeeping_seconds": 0.2}
SCRIPT = f"""\
#!/usr/bin/env -S python3 -S
import os, sys, time
from jobtasks_sdk import current_job, current_task
import beside
task = current_task()
if task.sequence == 0:
    sys.stdout.write(("x" * 79 + "\\n") * {LOG_LINES})
    task.create_many([{{}} for _ in range(3)])
    task.complete()
else:
    if os.environ["TASK_QSEQUENCE"] != "1":
        while not os.path.exists(current_job().script_parameters["gate"]):
            time.sleep(0.02)
    task.complete(f"{{beside.WORD}} {{os.environ['TASK_QSEQUENCE']}}")
"""


def left(served: Served) -> tuple[int, int, list[Path]]:
    """How many tasks and arrivals there are, whoever may see them; and files of jobs."""
    with closing(sqlite3.connect(served.state / "jobtasks.db")) as database:
        query = "SELECT (SELECT count(*) FROM task), (SELECT count(*) FROM arrival)"
        tasks, arrivals = database.execute(query).fetchone()
    files = [*(served.state / "logs").rglob("*.log"), *(served.state / "scripts").iterdir()]
    return tasks, arrivals, files


def exported(api: Api, job: str) -> bytes:
    """Return the stream of a job, or nothing when its logs have not come to the server."""
    data: bytes = api.http.get(f"/jobs/{job}/export").content
    return b"" if b'"logs_incomplete"' in data[-300:] else data


def an_hour_passes(served: Served, unnamed: Path) -> None:
    """Make what a killed server has left as old as that."""
    with closing(sqlite3.connect(served.state / "jobtasks.db")) as database, database:
        database.execute("UPDATE arrival SET heard_at = heard_at - 3600 * 1000000")
    then = unnamed.stat().st_mtime - YOUNG_SECONDS
    os.utime(unnamed, (then, then))


def send_a_part(served: Served, data: bytes) -> socket.socket:
    """Begin to send a job, and go no further."""
    host, port = served.address.split(":")
    token = (served.state / "admin.token").read_text().strip()
    connection = socket.create_connection((host, int(port)))
    connection.sendall(
        b"POST /arvados/v1/jobs/import HTTP/1.1\r\nHost: x\r\n"
        + f"Authorization: Bearer {token}\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data[:-300]
    )
    return connection


@pytest.mark.rule("R23", "R37")
def test_a_job_moves_without_its_directory(start: Start, tmp_path: Path) -> None:
    """Nothing is seen of an import that was killed, and nothing stays; then it comes, and runs."""
    scripts, gate = tmp_path / "scripts", tmp_path / "gate"
    scripts.mkdir()
    (scripts / "run.py").write_text(SCRIPT)
    (scripts / "run.py").chmod(0o755)
    (scripts / "beside.py").write_text("WORD = 'carried'\n")
    old = start("--slots", "1", state=tmp_path / "old")
    with old.api() as api:
        job = api.post(
            "/jobs",
            {
                "script": "run.py",
                "script_version": str(scripts),
                "script_parameters": {"gate": str(gate)},
            },
        )
        wait_until("two are done", lambda: len(api.tasks(job["uuid"], state="complete")) == 2)
        api.post(f"/jobs/{job['uuid']}/cancel")
        wait_until("it has ended", lambda: not api.get(f"/jobs/{job['uuid']}")["node_uuids"])
        data = wait_until("an export with its log", lambda: exported(api, job["uuid"]))
    shutil.rmtree(scripts)
    new = start("--no-agent", state=tmp_path / "new", settings=SETTINGS)
    with send_a_part(new, data):
        wait_until("a part of it", lambda: left(new)[0])
        new.kill()
    tasks, arrivals, files = left(new)
    assert (tasks, arrivals, len(files)) == (4, 1, 2), "rows, a log, and a pack without a name"
    (unnamed,) = [path for path in files if not path.suffix]
    an_hour_passes(new, unnamed)
    new = start("--slots", "1", state=new.state, settings=SETTINGS)
    with new.api() as api:
        assert api.get("/jobs")["items"] == []
        wait_until("all of it is gone", lambda: left(new) == (0, 0, []))
        answer = api.http.post("/jobs/import", content=data, params={"resume": "true"}).json()
        assert (answer["state"], answer["scripts"]) == ("Queued", "came")
        assert api.get(f"/jobs/{job['uuid']}")["script_hash"] == job["script_hash"]
        gate.touch()
        done = api.final(job["uuid"])
        told = [(task["state"], task["attempts"]) for task in api.tasks(job["uuid"])]
        assert (done["state"], done["output"]) == (
            "Complete",
            "".join(f"carried {n}\n" for n in (1, 2, 3)),
        ), told
        assert [attempts for _, attempts in told[:2]] == [1, 1], (
            "what was complete is not run again"
        )
