"""What sums a job up, over HTTP (R41): failures by family, who created whom."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import LIMIT_SECONDS, Api

from jobtasks.service import timelines

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"


def grown(api: Api, count: int, **constraints: Any) -> tuple[str, Any, list[Any]]:
    """Return a job whose seed made `count` tasks, a node, and their attempts, all running on it."""
    job = api.job(runtime_constraints={"on_failure": "continue", **constraints})
    node = api.node(slots=count)
    seed = node.next_assignment()
    made = api.as_attempt(seed).post(TASKS, json={"job_tasks": [{"parameters": {}}] * count})
    assert made.status_code == 200, made.text
    node.end(seed.attempt)
    return job["uuid"], node, [node.next_assignment() for _ in range(count)]


@pytest.mark.rule("R13", "R23")
def test_failures_come_by_family_and_are_tried_again(api: Api) -> None:
    """As the page describes them; the family's name is what a retry takes."""
    job, node, attempts = grown(api, 3, min_ram_per_task=2048)
    for number, one in enumerate(attempts):
        node.end(one.attempt, 3 if number else 4, stderr_tail=b"KeyError: 'a%d'\n" % number)
    final = api.get(f"jobs/{job}", wait=LIMIT_SECONDS)
    assert (final["state"], final["tasks_summary"]["failed"]) == ("Failed", 3)
    first, second = api.get(f"jobs/{job}/families")["items"]
    assert (first["attempts"], first["tasks"], first["exit_code"]) == (2, 2, 3)
    assert (first["cause"], first["signal"], first["message"]) == ("exit", None, "KeyError: <text>")
    assert first["first_at"] <= first["last_at"]
    sample = first["sample"]
    assert (sample["job_task_uuid"], sample["number"]) == (attempts[2].task, 1)
    assert (sample["message"], sample["node"]) == ("KeyError: 'a2'", "testnode")
    assert (sample["sequence"], sample["qsequence"], sample["memory_kib"]) == (1, 3, 2048)
    assert second["exit_code"] == 4
    body = {"family": first["family"], "ram_factor": 3}
    dry = api.http.post(f"{JOBS}/{job}/retry", json=body, params={"dry_run": True}).json()
    assert dry["tasks_summary"]["todo"] == 2
    assert api.get(f"jobs/{job}")["state"] == "Failed"
    again = api.http.post(f"{JOBS}/{job}/retry", json=body)
    assert again.status_code == 200, again.text
    assert again.json()["tasks_summary"] == {"todo": 2, "running": 0, "done": 1, "failed": 1}
    assert {node.next_assignment().memory_kib for _ in range(2)} == {6144}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"family": 1}, "family must be text"),
        ({"family": "x", "job_tasks": []}, "either"),
        ({"ram_factor": 2}, "goes with a family"),
        ({"family": "x", "ram_factor": 1}, "above 1"),
        ({"family": "x", "ram_factor": 65}, "at most 64"),
        ({"family": "x", "ram_factor": True}, "number"),
        ({"family": "x", "ram_factor": "2"}, "number"),
        ({"job_tasks": "x"}, "list"),
    ],
)
def test_a_retry_that_cannot_be(api: Api, body: dict[str, Any], said: str) -> None:
    """422 and a sentence."""
    job = api.job()
    answer = api.http.post(f"{JOBS}/{job['uuid']}/retry", json=body)
    assert answer.status_code == 422
    assert said in answer.json()["errors"][0]


@pytest.mark.rule("R2")
def test_who_created_whom(api: Api) -> None:
    """By sequence, the children of a task by state, and these children, page by page."""
    job, _, attempts = grown(api, 3)
    (seed,) = api.get("job_tasks", filters=f'[["job_uuid","=","{job}"],["sequence","=",0]]')[
        "items"
    ]
    answer = api.as_attempt(attempts[1]).post(TASKS, json={"job_tasks": [{}, {"sequence": 7}]})
    assert answer.status_code == 200, answer.text
    path = f"jobs/{job}/tree"
    assert api.get(path) == {
        "items": [
            {"creator_sequence": None, "sequence": 0, "tasks": 1, "creators": 0},
            {"creator_sequence": 0, "sequence": 1, "tasks": 3, "creators": 1},
            {"creator_sequence": 1, "sequence": 2, "tasks": 1, "creators": 1},
            {"creator_sequence": 1, "sequence": 7, "tasks": 1, "creators": 1},
        ],
        "is_whole": True,
    }
    states = {"waiting": 0, "running": 3, "complete": 0, "failed": 0}
    assert api.get(path, task=seed["uuid"]) == {
        "items": [{"sequence": 1, "tasks": 3, "states": states}]
    }
    page = api.get(path, task=seed["uuid"], sequence=1, limit=2)["items"]
    assert [(one["qsequence"], one["children"]) for one in page] == [(1, 0), (2, 2)]
    assert page[0] == {
        "uuid": attempts[0].task,
        "sequence": 1,
        "qsequence": 1,
        "state": "running",
        "attempts": 1,
        "failed_count": 0,
        "children": 0,
    }
    (last,) = api.get(path, task=seed["uuid"], sequence=1, after=2)["items"]
    assert last["uuid"] == attempts[2].task
    assert api.get(path, task=seed["uuid"], sequence=5) == {"items": []}
    other = api.job()["uuid"]
    for query in ({"task": seed["uuid"]}, {"task": seed["uuid"], "sequence": 1}):
        assert api.http.get(f"{JOBS}/{other}/tree", params=query).status_code == 404
    for wrong in ({"sequence": 1}, {"task": seed["uuid"], "sequence": "x"}):
        assert api.http.get(f"{JOBS}/{job}/tree", params=wrong).status_code == 422


@pytest.mark.rule("R13")
def test_a_timeline(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars as the page describes them; parts of it; what cannot be asked for."""
    monkeypatch.setattr(timelines, "READ_SECONDS", 60.0)
    job, node, attempts = grown(api, 2)
    node.end(attempts[0].attempt, 3)
    path = f"jobs/{job}/timeline"
    found = api.get(path)
    assert (found["is_behind"], found["attempts_read"], found["cells"]) == (False, 3, None)
    assert found["from"] == found["first_at"] <= found["last_at"] <= found["now"]
    assert found["rows"][0] == {
        "node": found["rows"][0]["node"],
        "hostname": "testnode",
        "slot": 1,
        "nodes": 1,
    }
    by_number = {bar["qsequence"]: bar for bar in found["bars"]}
    assert [by_number[number]["state"] for number in range(3)] == ["complete", "failed", "running"]
    assert by_number[1] == {
        "row": by_number[1]["row"],
        "from": by_number[1]["from"],
        "until": found["last_at"],
        "state": "failed",
        "cause": "exit",
        "sequence": 1,
        "qsequence": 1,
        "number": 1,
        "job_task_uuid": attempts[0].task,
        "slot": attempts[0].slot,
    }
    assert by_number[2]["until"] is None
    late = api.get(path, **{"from": found["now"], "until": "2999-01-01", "columns": 7})
    assert [bar["state"] for bar in late["bars"]] == ["running"]
    for wrong in (
        {"from": "now"},
        {"columns": 1001},
        {"from": "2020-01-02", "until": "2020-01-01"},
    ):
        assert api.http.get(f"/arvados/v1/{path}", params=wrong).status_code == 422
