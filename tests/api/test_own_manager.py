"""A job manager of somebody's own drives jobs over HTTP; ours never touches them (R7b)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

MANAGER = Path(__file__).resolve().parents[2] / "examples" / "own_manager" / "own_manager.py"
SECONDS_MAX = 60


def run_manager(api: Any, *arguments: str) -> str:
    """Run the manager of the examples as its user does; return the job's UUID."""
    token = api.http.headers["Authorization"].split()[1]
    ended = subprocess.run(
        [sys.executable, str(MANAGER), *arguments],
        env={**os.environ, "JOBTASKS_URL": api.server.url, "JOBTASKS_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def check(api: Any, uuid: str) -> None:
    """Look at what the manager left, and that nothing of it was done by ours."""
    job = api.get(f"jobs/{uuid}")
    assert (job["state"], job["success"], job["output"]) == ("Complete", True, "9 and 16")
    assert job["tasks_summary"] == {"todo": 0, "running": 0, "done": 3, "failed": 0}
    filters = f'[["job_uuid","=","{uuid}"]]'
    found = api.get("job_tasks", filters=filters, order="qsequence")["items"]
    shown = [
        (task["sequence"], task["qsequence"], task["output"], task["failed_count"])
        for task in found
    ]
    assert shown == [(0, 0, None, 0), (1, 1, "9", 0), (1, 2, "16", 1)]
    assert {task["created_by_job_task_uuid"] for task in found[1:]} == {found[0]["uuid"]}
    assert found[2]["failed_log"] == "not today\n"
    for task in found:
        assert api.get(f"job_tasks/{task['uuid']}/attempts") == {"items": []}
    assert [reason["code"] for reason in api.get(f"jobs/{uuid}/explain")["reasons"]] == ["foreign"]


@pytest.mark.rule("R7b")
def test_a_manager_makes_a_job_and_runs_it(api: Any) -> None:
    """From Running to Complete, one of three tasks twice, while a node looks for work."""
    node = api.node()
    uuid = run_manager(api)
    ours = api.job()["uuid"]
    assert node.next_assignment().job == ours, "the manager of the server works"
    assert [given.job for given in node.running.values()] == [ours]
    check(api, uuid)


@pytest.mark.rule("R7b")
def test_a_manager_locks_a_queued_job_and_runs_it(api: Any) -> None:
    """One that no node is large enough for, so that ours has not started it."""
    queued = api.job(runtime_constraints={"min_ram_per_node": 2**40}, script_parameters={"a": 1})
    assert queued["uuid"] in {job["uuid"] for job in api.get("jobs/queue")["items"]}
    uuid = run_manager(api, queued["uuid"])
    assert uuid == queued["uuid"]
    check(api, uuid)
    job = api.get(f"jobs/{uuid}")
    assert (job["is_locked_by_uuid"], job["script_parameters"]) == (job["owner_uuid"], {"a": 1})


@pytest.mark.rule("R7b", "R22")
def test_a_repeated_create_of_a_foreign_task_makes_one(api: Any) -> None:
    """By its Idempotency-Key, as for attempts."""
    job = api.job(state="Running")["uuid"]
    body = {"job_tasks": [{"job_uuid": job, "qsequence": 7}, {"job_uuid": job}]}
    answers = [
        api.http.post("/arvados/v1/job_tasks", json=body, headers={"Idempotency-Key": "one"})
        for _ in range(2)
    ]
    assert answers[0].json() == answers[1].json()
    assert api.get(f"jobs/{job}")["tasks_summary"]["todo"] == 2
