"""A backup of a server that works, and the server that comes back from it (R12, R14, R37)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import Acted, Start, acting, environment, wait_until


def admin(*words: object) -> subprocess.CompletedProcess[str]:
    """Run ``jobtasks admin`` as an administrator does."""
    command = [sys.executable, "-m", "jobtasks.cli.main", "admin", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment(), timeout=60
    )


def done(*words: object) -> str:
    """Run a command that must succeed; return what it printed."""
    ended = admin(*words)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.rule("R12", "R14", "R32", "R37")
def test_a_job_goes_on_from_a_backup_of_its_middle(start: Start, tmp_path: Path) -> None:
    """What was complete stays so, what ran is lost with its agent and runs again; the past has no
    way back: tokens of attempts that the backup does not know are nobody's.
    """
    served = start("--slots", "2")
    go, backup, new = tmp_path / "go", tmp_path / "all.backup", tmp_path / "new"
    child = acting(["await_file", str(go)], ["complete"])
    with served.api() as api:
        job = Acted(api, tmp_path, [["create", child, child, child, child], ["complete"]])
        job.noted("start", 3)
        attachment = b"what tasks read" * 1000
        waiting = api.post("/jobs", {"command": ["true"], "runtime_constraints": {"min_nodes": 9}})
        api.http.put(f"/jobs/{waiting['uuid']}/attachment", content=attachment)
        assert f"wrote {backup}: as of " in done("backup", backup, "--state", served.state)
        go.touch()
        job.final()
        highest = max(one["number"] for task in job.tasks() for one in api.attempts(task["uuid"]))
        assert highest == 1
    served.end()
    assert backup.stat().st_mode & 0o777 == 0o600
    assert f"restored {new}: as of " in done("restore", backup, "--state", new)
    assert "is sound (schema " in done("check", "--state", new)
    again = start("--slots", "2", state=new)
    assert (new / "admin.token").read_text() == (served.state / "admin.token").read_text()
    with again.api() as api:
        ended = api.final(job.uuid)
        assert ended["success"], ended
        seed, *children = api.tasks(job.uuid)
        assert (seed["attempts"], len(children)) == (1, 4)
        stories = sorted(
            [attempt["cause"] for attempt in api.attempts(task["uuid"])] for task in children
        )
        assert stories == [["agent_lost", "exit"]] * 2 + [["exit"]] * 2
        assert api.http.get(f"/jobs/{waiting['uuid']}/attachment").content == attachment
        log = api.http.get(f"/job_tasks/{seed['uuid']}/log")
        assert (log.status_code, "removed" in log.text) == (404, True), log.text
    rows = json.loads(done("check", "--state", new, "-o", "json"))
    assert (rows["sound"], rows["contradictions"], rows["damage"]) == (True, [], [])


def test_logs_come_along_when_asked_for(start: Start, tmp_path: Path) -> None:
    """Of a server that is not running, too."""
    served = start("--slots", "1")
    with served.api() as api:
        job = api.final(api.post("/jobs", {"command": ["echo", "kept words"]})["uuid"])
        (task,) = api.tasks(job["uuid"])
        wait_until("the log", lambda: "kept words" in log_of(api.http, task["uuid"]))
    served.end()
    done("backup", "--with-logs", tmp_path / "b", "--state", served.state)
    done("restore", tmp_path / "b", "--state", tmp_path / "new")
    again = start("--no-agent", state=tmp_path / "new")
    with again.api() as api:
        assert "kept words" in log_of(api.http, task["uuid"])


def log_of(http: object, task: str) -> str:
    """Return the text of a task's log."""
    import httpx

    assert isinstance(http, httpx.Client)
    return http.get(f"/job_tasks/{task}/log").text


def test_a_directory_in_use_is_not_restored_to(start: Start, tmp_path: Path) -> None:
    """Nor one that is not empty; a new or an empty one is."""
    served = start("--no-agent")
    backup = tmp_path / "b"
    done("backup", backup, "--state", served.state)
    refused = admin("restore", backup, "--state", served.state)
    assert refused.returncode == 125
    assert "another server serves" in refused.stderr
    served.end()
    refused = admin("restore", backup, "--state", served.state)
    assert (refused.returncode, "is not empty" in refused.stderr) == (2, True), refused.stderr
    empty = tmp_path / "empty"
    empty.mkdir()
    done("restore", backup, "--state", empty)
    assert sorted(os.listdir(empty)) == sorted(
        ["admin.token", "agent.token", "jobtasks.db", "lock", "logs", "secret.key"]
    )
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
