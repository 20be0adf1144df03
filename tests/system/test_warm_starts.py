"""Tasks in Python that start with their modules imported, on a running server."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.fork_servers import fork_servers

from .conftest import Api, agent_of, process_identity, wait_until
from .conftest import Served as Server

LOST_MAX = 80
"""Tasks of which each may lose its fork server."""
SCRIPT = """#!{python}
import sys
known = "jobtasks_sdk" in sys.modules
from jobtasks_sdk import current_job, current_task

task = current_task()
if task.sequence == 0:
    for n in range(current_job().script_parameters["count"]):
        task.create({{"n": n}})
    task.complete()
else:
    task.progress(0.5)
    task.complete(f"{{task.parameters['n']}} {{known}}")
"""


@pytest.fixture
def job(tmp_path: Path) -> dict[str, Any]:
    """A job whose tasks say whether they found the SDK imported."""
    script = tmp_path / "report.py"
    script.write_text(SCRIPT.format(python=sys.executable))
    script.chmod(0o755)
    return {
        "script": script.name,
        "script_version": str(tmp_path),
        "script_parameters": {"count": 20},
        "runtime_constraints": {"preload": ["jobtasks_sdk"]},
    }


def outputs(api: Api, job: dict[str, Any]) -> list[str]:
    """Run it; return what its tasks said."""
    done = api.final(api.post("/jobs", job)["uuid"])
    assert done["state"] == "Complete", done["log"]
    return str(done["output"]).splitlines()


def test_tasks_find_the_sdk_imported(api: Api, job: dict[str, Any]) -> None:
    """As soon as the node's fork server is ready; every result is there, cold or warm."""

    def some_are_warm() -> bool:
        found = outputs(api, job)
        assert sorted(int(line.split()[0]) for line in found) == list(range(20))
        return any(line.endswith("True") for line in found)

    wait_until("a warm start", some_are_warm)
    job["runtime_constraints"] = {}
    assert not any(line.endswith("True") for line in outputs(api, job))


@pytest.mark.rule("R37")
def test_no_task_is_lost_with_its_fork_server(
    api: Api, job: dict[str, Any], shared_server: Server
) -> None:
    """Killed again and again while tasks start from it: each task runs once, to its end."""
    agent = wait_until("the node's agent", lambda: agent_of(shared_server.state))
    job["script_parameters"] = {"count": LOST_MAX}
    uuid = api.post("/jobs", job)["uuid"]
    killed = set()

    def over() -> bool:
        for pid in fork_servers(agent):
            killed.add(process_identity(pid))
            os.kill(pid, signal.SIGKILL)
        return api.get(f"/jobs/{uuid}")["state"] not in ("Queued", "Running")

    wait_until("the job's end", over)
    done = api.final(uuid)
    assert (done["state"], done["tasks_summary"]["done"]) == ("Complete", LOST_MAX + 1)
    assert len(str(done["output"]).splitlines()) == LOST_MAX
    assert killed
    # One whose server died before it had begun asks to be tried again.
    codes = {
        attempt["exit_code"]
        for task in api.tasks(uuid)
        if task["failed_count"]
        for attempt in api.attempts(task["uuid"])
    }
    assert codes <= {0, 75}
