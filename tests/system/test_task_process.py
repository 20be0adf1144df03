"""What a task's process finds (R38), and what its record looks like (R42)."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from .conftest import Act, Acted, Api, Served, acting, process_identity, wait_until

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


def found_by(job: Acted, qsequence: int = 0) -> dict[str, Any]:
    """Return what a task that played `environment` has found."""
    job.final()
    found: dict[str, Any] = json.loads(job.tasks(qsequence=qsequence)[0]["output"])
    return found


@pytest.mark.rule("R38")
def test_a_task_knows_where_it_is(act: Act, shared_server: Served) -> None:
    """Job, task, attempt, slot, server, parameters."""
    child = acting(["environment"])
    child["parameters"] |= {"in-put": "a b", "nested": {"x": [1]}, "none": None, "yes": True}
    job = act([["create", child], ["complete"]])
    found = found_by(job, 1)["environ"]
    task = job.tasks(qsequence=1)[0]
    expected = {
        "JOB_UUID": job.uuid,
        "TASK_UUID": task["uuid"],
        "TASK_ATTEMPT": "1",
        "TASK_SEQUENCE": "1",
        "TASK_QSEQUENCE": "1",
        "JOB_SCRIPT": "actor.py",
        "JOB_PARAMETER_WITNESS": str(job.witness.path),
        "TASK_PARAMETER_IN_PUT": "a b",
        "TASK_PARAMETER_NESTED": '{"x":[1]}',
        "TASK_PARAMETER_NONE": "",
        "TASK_PARAMETER_YES": "true",
        "ARVADOS_API_HOST": shared_server.address,
        "CRUNCH_NODE_SLOTS": "4",
        "TASK_NODES": socket.gethostname(),
        "TASK_SLOT_NODE": socket.gethostname(),
    }
    assert {name: found.get(name) for name in expected} == expected
    assert found["JOBTASKS_URL"].startswith(shared_server.url)
    assert 1 <= int(found["TASK_SLOT_NUMBER"]) <= 4
    assert len(found["ARVADOS_API_TOKEN"]) > 30


@pytest.mark.rule("R38")
def test_a_task_inherits_little(act: Act, shared_server: Served) -> None:
    """What is named; nothing of an operator's, not even when it is named."""
    found = found_by(act([["environment"]]))["environ"]
    assert found["OWN_NAME"] == "passed"
    assert {"OTHER_NAME", "JOBTASKS_SECRET", "JOBTASKS_TOKEN"} & found.keys() == set()
    assert (
        found["ARVADOS_API_TOKEN"][::-1]
        != (shared_server.state / "admin.token").read_text().strip()
    )
    assert found["PATH"].startswith(str(Path(sys.executable).parent))
    inherited = {"PATH", "HOME", "USER", "LANG", "TZ", "TMPDIR", "OWN_NAME", "PYTHONPATH"}
    own = ("JOB_", "TASK_", "JOBTASKS_URL", "ARVADOS_API_", "CRUNCH_NODE_SLOTS", "LC_")
    assert [name for name in found if name not in inherited and not name.startswith(own)] == []


@pytest.mark.rule("R38")
def test_the_sdk_is_there_alone(act: Act) -> None:
    """PYTHONPATH names one directory with nothing else in it, so that no library of ours leaks."""
    path = found_by(act([["environment"]]))["environ"]["PYTHONPATH"]
    assert os.listdir(path) == ["jobtasks_sdk"]
    program = "import sys, jobtasks_sdk; print(*sorted({n.split('.')[0] for n in sys.modules}))"
    seen = subprocess.run(
        ["python3", "-S", "-c", program],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "jobtasks_sdk" in seen.stdout.split()
    assert "jobtasks" not in seen.stdout.split()


@pytest.mark.rule("R38")
def test_a_task_has_a_directory_of_its_own(act: Act) -> None:
    """TASK_WORK: empty, the current directory, and nothing in it outlives the attempt."""
    litter = {"command": ["sh", "-c", "mkdir -p a/b; echo x > a/b/c; echo y > .hidden"]}
    job = act(
        [["create_times", 8, litter], ["create", acting(["environment"], sequence=2)], ["complete"]]
    )
    job.api.final(job.uuid)
    found = json.loads(job.tasks(sequence=2)[0]["output"])
    work = found["environ"]["TASK_WORK"]
    assert (found["cwd"], found["files"]) == (work, [])
    slots = Path(work).parent
    wait_until("all empty", lambda: not any(any(slot.iterdir()) for slot in slots.iterdir()))


@pytest.mark.rule("R38")
def test_the_tasks_of_a_job_share_a_directory_on_their_node(act: Act) -> None:
    """JOB_WORK: what one leaves the next finds; another job does not; it goes with the job."""
    leave = {"command": ["sh", "-c", 'echo kept > "$JOB_WORK/file"']}
    look = acting(["leave_file", "here", "JOB_WORK"], ["environment"], sequence=2)
    read = {"command": ["sh", "-c", 'test "$(cat "$JOB_WORK/file")" = kept'], "sequence": 2}
    job = act([["create", leave, look, read], ["complete"]])
    assert job.api.final(job.uuid)["state"] == "Complete"
    work = json.loads(job.tasks(qsequence=2)[0]["output"])["environ"]["JOB_WORK"]
    wait_until("it is gone", lambda: not Path(work).exists())


@pytest.mark.rule("R38")
def test_parameters_that_are_too_large_are_left_out(act: Act) -> None:
    """The task starts all the same, and reads them by API."""
    child = acting(["environment"])
    child["parameters"] |= {"nul": "a\0b", "small": "s"}
    job = act([["create_large", 40_000, child], ["complete"]])
    found = found_by(job, 1)["environ"]
    assert {"TASK_PARAMETER_LARGE", "TASK_PARAMETER_NUL"} & found.keys() == set()
    assert found["TASK_PARAMETER_SMALL"] == "s"
    assert job.tasks(qsequence=1)[0]["parameters"]["nul"] == "a\0b"
    assert len(job.tasks(qsequence=1)[0]["parameters"]["large"]) == 40_000


@pytest.mark.rule("R38")
def test_the_log_has_both_streams_in_order(api: Api) -> None:
    """As they arrived, and each for itself; in parts; stdin is empty."""
    # Each write waits until the agent has taken the one before: that is what arrival means.
    program = (
        'cat; taken() { until grep -aqs "$1" "$TASK_WORK"/../../logs/*.log; do sleep 0.01; done; };'
        'for n in 1 2 3; do echo out $n; taken "out $n"; echo err $n >&2; taken "err $n"; done'
    )
    uuid = api.post("/jobs", {"command": ["sh", "-c", program]})["uuid"]
    assert api.final(uuid)["state"] == "Complete"
    path = f"/job_tasks/{api.tasks(uuid)[0]['uuid']}/log"
    lines = [f"{stream} {number}\n" for number in (1, 2, 3) for stream in ("out", "err")]
    wait_until("the log", lambda: api.http.get(path).text == "".join(lines))
    assert api.http.get(path, params={"stream": "stderr"}).text == "err 1\nerr 2\nerr 3\n"
    assert api.http.get(path, params={"offset": 6, "limit": 5}).text == "err 1"


@pytest.mark.rule("R42", "R8")
def test_attributes_of_a_real_task_and_their_types(act: Act, api: Api) -> None:
    """While it waits after a failure, and when it is complete."""
    child = acting(["complete"])
    job = act([["say", "first"], ["end", 1]], [["say", "second"], ["create", child], ["complete"]])
    job.final()
    task = job.seed
    types: dict[str, type | tuple[type, ...]] = {
        "uuid": str,
        "href": str,
        "kind": str,
        "etag": str,
        "owner_uuid": str,
        "created_at": str,
        "modified_at": str,
        "job_uuid": str,
        "sequence": int,
        "parameters": dict,
        "runtime_constraints": dict,
        "output": str,
        "progress": float,
        "success": bool,
        "qsequence": int,
        "failed_count": int,
        "failed_at": (int, float),
        "failed_log": str,
        "log": str,
        "state": str,
        "started_at": str,
        "finished_at": str,
        "attempts": int,
    }
    assert {name for name, kind in types.items() if not isinstance(task[name], kind)} == set()
    assert re.fullmatch(r"zzzzz-ot0gb-[0-9a-z]{15}", task["uuid"])
    assert re.fullmatch(r"zzzzz-8i9sb-[0-9a-z]{15}", task["job_uuid"])
    assert task["kind"] == "arvados#jobTask"
    for name in ("created_at", "modified_at", "started_at", "finished_at"):
        assert TIME.fullmatch(task[name]), (name, task[name])
    assert abs(task["failed_at"] - time.time()) < 60
    assert (task["progress"], task["success"], task["command"]) == (1.0, True, None)
    assert job.tasks()[1]["created_by_job_task_uuid"] == task["uuid"]


@pytest.mark.rule("R41")
def test_all_methods_on_a_running_job(act: Act, api: Api, tmp_path: Path) -> None:
    """list, create, show, update by PATCH and by PUT of the whole record, delete; always 200."""
    gate, token = tmp_path / "gate", tmp_path / "token"
    job = act([["leave_file", str(token), "ARVADOS_API_TOKEN"], ["await_file", str(gate)]])
    wait_until("the token", token.exists)
    attempt, path = api.as_token(token.read_text()), f"/job_tasks/{job.seed['uuid']}"
    assert attempt.status("PATCH", path, {"progress": 0.25}) == 200
    whole = {**job.seed, "progress": 0.5, "output": "half"}
    assert attempt.status("PUT", path, {"job_task": whole}) == 200
    assert (job.seed["progress"], job.seed["output"]) == (0.5, "half")
    created = api.http.post(
        "/job_tasks",
        json={"job_task": acting(["complete"])},
        headers={"Authorization": f"OAuth2 {token.read_text()}"},
    )
    assert (created.status_code, created.json()["sequence"]) == (200, 1)
    child = f"/job_tasks/{created.json()['uuid']}"
    assert (attempt.status("GET", child), attempt.status("DELETE", child)) == (200, 200)
    assert attempt.status("GET", "/job_tasks") == 200
    assert attempt.status("PATCH", path, {"success": True, "progress": None}) == 200
    gate.touch()
    assert api.final(job.uuid)["output"] == "half\n"
    assert job.witness.count() == 1


@pytest.mark.rule("R36")
def test_what_a_task_leaves_behind_is_ended(act: Act, tmp_path: Path) -> None:
    """A background process that keeps the pipes open neither delays the end nor stays."""
    path = tmp_path / "pid"
    program = f"sleep 600 & echo $! > {path}; echo said"
    api = act([["complete"]]).api
    uuid = api.post("/jobs", {"command": ["sh", "-c", program]})["uuid"]
    assert api.final(uuid)["state"] == "Complete"
    assert process_identity(int(path.read_text())) is None
