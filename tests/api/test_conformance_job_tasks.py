"""What Arvados' clients ask of ``job_tasks`` writes, by the numbers of tests/clients/cases.txt.

A job that its creator made as Running is theirs to run, as every job was at Arvados (R7b).
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.rule("R41", "R7b")
BASE = "/arvados/v1"


@pytest.fixture
def job(api: Any) -> str:
    """A running job whose tasks the caller writes."""
    return str(api.job(state="Running")["uuid"])


def answered(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def add(api: Any, job: str, **body: Any) -> dict[str, Any]:
    return answered(api.http.post(f"{BASE}/job_tasks", json={"job_uuid": job, **body}))


def put(api: Any, task: dict[str, Any], **body: Any) -> dict[str, Any]:
    return answered(api.http.put(f"{BASE}/job_tasks/{task['uuid']}", json={"job_task": body}))


def status(api: Any, task: dict[str, Any]) -> int:
    found: httpx.Response = api.http.get(f"{BASE}/job_tasks/{task['uuid']}")
    return found.status_code


def test_case_9_1_2_3_numbers_of_arrival(api: Any, job: str) -> None:
    """Given where none is asked for, kept where one is, growing from create to create."""
    first = add(api, job)["qsequence"]
    assert first is not None
    assert first >= 0
    assert add(api, job, qsequence=99)["qsequence"] == 99
    numbers = [add(api, job)["qsequence"] for _ in range(3)]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 99


def test_case_9_4_5_records_as_json_text_in_a_form(api: Any) -> None:
    """`job_task={…}` and `job={…}`, as Perl and Go send them."""
    fields = {"job": json.dumps({"state": "Running", "script": "x", "script_parameters": {}})}
    made = answered(api.http.post(f"{BASE}/jobs", data=fields))
    fields = {"job_task": json.dumps({"job_uuid": made["uuid"], "parameters": {"a": [1, None]}})}
    task = answered(api.http.post(f"{BASE}/job_tasks", data=fields))
    assert (task["job_uuid"], task["parameters"]) == (made["uuid"], {"a": [1, None]})


def family(api: Any, job: str) -> list[dict[str, Any]]:
    """Return a task, its two children, and the child of one of these."""
    parent = add(api, job, sequence=0, qsequence=0, parameters={})
    children = [add(api, job, created_by_job_task_uuid=parent["uuid"]) for _ in range(2)]
    grandchild = add(api, job, created_by_job_task_uuid=children[0]["uuid"])
    return [parent, *children, grandchild]


def test_case_9_6_a_failure_deletes_the_children(api: Any, job: str) -> None:
    """Direct ones; what these created stays, as does the task itself."""
    parent, *children, grandchild = family(api, job)
    assert put(api, parent, success=False)["success"] is False
    assert [status(api, task) for task in children] == [404, 404]
    assert (status(api, parent), status(api, grandchild)) == (200, 200)


def test_case_9_7_a_zero_in_a_form_is_a_failure(api: Any, job: str) -> None:
    """`success: 0`, as crunch-job sends it."""
    parent, *children, _ = family(api, job)
    fields = {"_method": "PUT", "job_task": json.dumps({"success": 0})}
    answer = api.http.post(f"{BASE}/job_tasks/{parent['uuid']}", data=fields)
    assert answered(answer)["success"] is False
    assert [status(api, task) for task in children] == [404, 404]


def test_case_9_8_only_becoming_false_deletes(api: Any, job: str) -> None:
    """Not being false from the start, nor staying so."""
    parent = add(api, job, success=False)
    child = add(api, job, created_by_job_task_uuid=parent["uuid"])
    assert put(api, parent, success=False)["success"] is False
    assert status(api, child) == 200


def test_case_9_9_unknown_keys(api: Any, job: str) -> None:
    """Dropped from a flat body, refused in a wrapped one."""
    assert "colour" not in add(api, job, colour="blue")
    body = {"job_task": {"job_uuid": job, "colour": "blue"}}
    answer = api.http.post(f"{BASE}/job_tasks", json=body)
    assert answer.status_code == 422
    assert "unknown attribute: colour" in answer.text


def test_case_9_10_a_whole_record_with_empty_names(api: Any, job: str) -> None:
    """As crunchrunner sends it: taken, and the names stay."""
    parent, child, *_ = family(api, job)
    empty = {"job_uuid": "", "created_by_job_task_uuid": ""}
    fields = {"job_task": json.dumps({**empty, "parameters": {}, "output": "o", "success": True})}
    answer = api.http.put(f"{BASE}/job_tasks/{parent['uuid']}", data=fields)
    task = answered(answer)
    assert (task["job_uuid"], task["success"], task["output"]) == (job, True, "o")
    assert child["created_by_job_task_uuid"] == parent["uuid"]


def test_a_task_as_the_old_job_manager_drives_it(api: Any, job: str) -> None:
    """What crunch-job writes, from the first task to the children of what succeeded."""
    parent, child, *_ = family(api, job)
    put(api, parent, started_at="2016-11-09T17:56:12Z")
    assert put(api, parent, success=None, started_at="2016-11-09T17:56:13Z")["state"] == "running"
    done = put(api, parent, finished_at="2016-11-09T17:57:00Z", success=1, progress=1.0)
    assert (done["state"], done["finished_at"]) == ("complete", "2016-11-09T17:57:00.000000000Z")
    query = {
        "filters": json.dumps([["created_by_job_task_uuid", "in", [parent["uuid"]]]]),
        "order": "qsequence",
    }
    listed = api.get("job_tasks", **query)
    assert listed["items"][0]["uuid"] == child["uuid"]
    assert api.get("job_tasks", **query, offset=2)["items"] == []
