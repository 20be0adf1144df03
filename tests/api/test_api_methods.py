"""The methods of both resources, as clients use them."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import LIMIT_SECONDS, Api

from jobtasks.protocol.messages import Ended, EndKind

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}000Z")


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    "body",
    [
        {"job": {"command": ["true"], "description": "x"}},
        {"job": json.dumps({"command": ["true"], "description": "x"})},
        {"command": ["true"], "description": "x"},
        {"command": ["true"], "description": "x", "find_or_create": True, "job": None},
    ],
)
def test_forms_of_a_body(api: Api, body: dict[str, Any]) -> None:
    """Wrapped, wrapped as text, flat; keys of a flat body that are no attributes are dropped."""
    answer = api.http.post(JOBS, json=body)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["command"], answer.json()["description"]) == (["true"], "x")


@pytest.mark.rule("R41", "R42")
def test_a_job_as_clients_see_it(api: Api) -> None:
    """Kind, address, tag, times with nine digits, and all of its attributes."""
    from jobtasks.core.resources import RESOURCES

    job = api.job(
        script_parameters={"b": [], "a": {"c": None}},
        runtime_constraints={"min_nodes": 1},
        priority=3,
    )
    assert list(job) == list(RESOURCES["jobs"].attributes)
    assert job["kind"] == "arvados#job"
    assert job["href"] == f"/jobs/{job['uuid']}"
    assert re.fullmatch(r"zzzzz-8i9sb-[0-9a-z]{15}", job["uuid"])
    assert TIME.fullmatch(job["created_at"])
    assert job["script_parameters"] == {"b": [], "a": {"c": None}}
    assert (job["state"], job["running"], job["success"]) == ("Queued", False, None)
    assert job["tasks_summary"] == {"todo": 0, "running": 0, "done": 0, "failed": 0}
    shown = api.get(f"jobs/{job['uuid']}")
    changed = api.http.patch(f"{JOBS}/{job['uuid']}", json={"description": "new"}).json()
    assert changed["description"] == "new"
    assert changed["etag"] != shown["etag"]


@pytest.mark.rule("R41", "R42")
def test_a_task_as_clients_see_it(api: Api) -> None:
    """Kind, address, and all of its attributes; the seed of R1."""
    from jobtasks.core.resources import RESOURCES

    job = api.job()
    assignment = api.node().next_assignment()
    task = api.get(f"job_tasks/{assignment.task}")
    assert list(task) == list(RESOURCES["job_tasks"].attributes)
    assert (task["kind"], task["href"]) == ("arvados#jobTask", f"/job_tasks/{task['uuid']}")
    assert (task["job_uuid"], task["created_by_job_task_uuid"]) == (job["uuid"], None)
    assert (task["sequence"], task["qsequence"], task["parameters"]) == (0, 0, {})
    assert (task["state"], task["attempts"], task["failed_count"]) == ("running", 1, 0)
    assert (task["failed_at"], task["failed_log"], task["success"]) == (None, None, None)


@pytest.mark.rule("R9", "R10", "R20")
def test_a_job_runs_to_its_end(api: Api) -> None:
    """A script's attempt creates tasks, reports, ends; the job's output collates theirs."""
    job = api.job()
    node = api.node()
    seed = node.next_assignment()
    client = api.as_attempt(seed)
    made = client.post(
        TASKS, json={"job_tasks": [{"parameters": {"n": n}, "command": ["true"]} for n in (1, 2)]}
    )
    assert made.status_code == 200, made.text
    assert (made.json()["count"], made.json()["first_qsequence"]) == (2, 1)
    report = client.patch(f"{TASKS}/{seed.task}", json={"success": True, "output": "seed"})
    assert (report.json()["success"], report.json()["progress"]) == (True, 1.0)
    node.end(seed.attempt, log_bytes=5)
    for _ in made.json()["uuids"]:
        child = node.next_assignment()
        child_client = api.as_attempt(child)
        body = {
            "job_task": {"success": "1", "output": f"child {json.loads(child.parameters)['n']}"}
        }
        assert child_client.put(f"{TASKS}/{child.task}", json=body).status_code == 200
        node.end(child.attempt)
    final = api.get(f"jobs/{job['uuid']}", wait=LIMIT_SECONDS)
    assert (final["state"], final["running"], final["success"]) == ("Complete", False, True)
    assert final["output"] == "seed\nchild 1\nchild 2\n"
    assert final["tasks_summary"] == {"todo": 0, "running": 0, "done": 3, "failed": 0}
    whole = api.http.get(f"{JOBS}/{job['uuid']}/output")
    assert whole.text == final["output"]
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert api.get(f"jobs/{job['uuid']}/levels")["items"] == [
        {"sequence": 0, "todo": 0, "running": 0, "done": 1, "failed": 0},
        {"sequence": 1, "todo": 0, "running": 0, "done": 2, "failed": 0},
    ]
    attempts = api.get(f"job_tasks/{seed.task}/attempts")["items"]
    assert [(a["number"], a["node"], a["state"], a["exit_code"]) for a in attempts] == [
        (1, "testnode", "ended", 0)
    ]


@pytest.mark.rule("R20")
def test_a_long_output_is_streamed(api: Api) -> None:
    """More than a page and a MiB: the attribute holds the first MiB, the address all of it."""
    count = 520
    job = api.job()
    node = api.node(slots=64)
    seed = node.next_assignment()
    client = api.as_attempt(seed)
    client.post(TASKS, json={"job_tasks": [{"command": ["true"]}] * count})
    client.patch(f"{TASKS}/{seed.task}", json={"success": True})
    orders = node.end(seed.attempt)
    done = 0
    while done < count:
        for given in orders.start:
            headers = {"Authorization": f"OAuth2 {given.token}"}
            body = {"success": True, "output": f"{given.qsequence:05d}" + "é" * 1050}
            answer = api.http.patch(f"{TASKS}/{given.task}", json=body, headers=headers)
            assert answer.is_success, answer.text
        done += len(orders.start)
        ended = [Ended(given.attempt, EndKind.EXIT, exit_code=0) for given in orders.start]
        orders = node.sync(*ended)
    final = api.get(f"jobs/{job['uuid']}", wait=LIMIT_SECONDS)
    whole = api.http.get(f"{JOBS}/{job['uuid']}/output").text
    expected = "".join(f"{q:05d}" + "é" * 1050 + "\n" for q in range(1, count + 1))
    assert whole == expected
    assert final["output_truncated"] is True
    assert len(final["output"].encode()) <= 1024 * 1024
    assert expected.startswith(final["output"])


@pytest.mark.rule("R41")
def test_lists(api: Api) -> None:
    """Kind, limits, counts, select; pages show each row once."""
    uuids = [api.job(description=f"listed {n}")["uuid"] for n in range(5)]
    filters = json.dumps([["uuid", "in", uuids]])
    page = api.get("jobs", filters=filters, order="created_at", limit=2, offset=1)
    assert (page["kind"], page["etag"], page["self_link"]) == ("arvados#jobList", "", "")
    assert (page["offset"], page["limit"], page["items_available"]) == (1, 2, 5)
    assert [job["uuid"] for job in page["items"]] == uuids[1:3]
    assert "items_available" not in api.get("jobs", filters=filters, count="none")
    chosen = api.get("jobs", filters=filters, select='["description","uuid"]', limit=1)["items"]
    assert [set(job) for job in chosen] == [{"kind", "uuid", "description"}]
    assert api.get("jobs", filters=filters, limit=0)["items"] == []
    assert api.get("jobs", limit=5000)["limit"] == 1000


@pytest.mark.rule("R41")
def test_select_on_single_records(api: Api) -> None:
    """Honoured by create, show and update; the address wins over the body."""
    made = api.http.post(JOBS, json={"job": {"command": ["true"]}, "select": ["uuid", "state"]})
    assert set(made.json()) == {"kind", "uuid", "state"}
    address = f"{JOBS}/{made.json()['uuid']}"
    shown = api.http.get(address, params={"select": '["state"]'})
    assert shown.json() == {"kind": "arvados#job", "state": "Queued"}
    changed = api.http.patch(
        address,
        params={"select": '["description"]'},
        json={"job": {"description": "x"}, "select": ["uuid"]},
    )
    assert changed.json() == {"kind": "arvados#job", "description": "x"}


@pytest.mark.rule("R17", "R21")
def test_a_show_that_waits_is_answered_when_the_job_ends(api: Api) -> None:
    """Held until the end, and no longer; without an end until the time is over."""
    address = f"{JOBS}/{api.job()['uuid']}"
    began = time.monotonic()
    early = api.http.get(address, params={"wait": "0.2"}).json()
    assert early["state"] == "Queued"
    assert time.monotonic() - began >= 0.2
    answers: list[dict[str, Any]] = []
    waiter = threading.Thread(
        target=lambda: answers.append(
            httpx.get(
                api.server.url + address,
                params={"wait": LIMIT_SECONDS},
                headers=api.http.headers,
                timeout=60,
            ).json()
        )
    )
    began = time.monotonic()
    waiter.start()
    cancelled = api.http.post(address + "/cancel", json={"reason": "enough"})
    assert cancelled.json()["state"] == "Cancelled"
    waiter.join(LIMIT_SECONDS)
    assert [answer["state"] for answer in answers] == ["Cancelled"]
    assert time.monotonic() - began < LIMIT_SECONDS / 2


def test_a_wait_has_a_longest_time(small: Api) -> None:
    """Asking for an hour is answered after `wait_seconds_max`."""
    job = small.job()
    began = time.monotonic()
    assert small.get(f"jobs/{job['uuid']}", wait=3600)["state"] == "Queued"
    assert time.monotonic() - began < LIMIT_SECONDS


@pytest.mark.rule("R23", "R24")
def test_cancel_retry_delete(api: Api) -> None:
    """A cancelled job can be queued again, or deleted; a deleted one is gone."""
    uuid = api.job()["uuid"]
    address = f"{JOBS}/{uuid}"
    assert api.http.post(address + "/retry").status_code == 422
    assert api.http.post(address + "/cancel").json()["state"] == "Cancelled"
    assert api.http.post(address + "/retry", json={"job_tasks": "x"}).status_code == 422
    again = api.http.post(address + "/retry", json={})
    assert (again.status_code, again.json()["state"]) == (200, "Queued")
    assert api.http.post(address + "/cancel").status_code == 200
    deleted = api.http.delete(address)
    assert (deleted.status_code, deleted.json()["uuid"]) == (200, uuid)
    assert api.http.get(address).status_code == 404


@pytest.mark.rule("R2", "R7")
def test_who_may_write_tasks(api: Api) -> None:
    """An administrator creates no task in a job that we run, and reports for none."""
    job = api.job()
    seed = api.node().next_assignment()
    refused = api.http.post(TASKS, json={"job_uuid": job["uuid"], "parameters": {}})
    assert refused.status_code == 403
    refused = api.http.patch(f"{TASKS}/{seed.task}", json={"success": True})
    assert refused.status_code == 403
    assert len(refused.json()["errors"][0]) > 20


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    "change",
    [
        {"progress": 1.5},
        {"progress": "1"},
        {"success": "yes"},
        {"output": 5},
        {"sequence": 7},
        {"nothing": 1},
    ],
)
def test_a_refused_report_changes_nothing(api: Api, change: dict[str, Any]) -> None:
    """422, and the good values of the same request are not stored either."""
    api.job()
    seed = api.node().next_assignment()
    client = api.as_attempt(seed)
    body = {"job_task": {"output": "good", **change}}
    answer = client.patch(f"{TASKS}/{seed.task}", json=body)
    assert answer.status_code == 422, answer.text
    assert api.get(f"job_tasks/{seed.task}")["output"] is None


@pytest.mark.rule("R2", "R40")
def test_bulk_create_is_all_or_nothing(small: Api) -> None:
    """One bad item, one too many, or something else than objects: nothing is created."""
    job = small.job()
    seed = small.node().next_assignment()
    client = small.as_attempt(seed)
    for items, status in (
        ([{"parameters": {}}] * 3 + [{"parameters": []}], 422),
        ([{}] * 21, 413),
        ([{}, 1], 422),
        ("x", 422),
        ([{"parameters": {"a": "x" * 600}}], 422),
    ):
        answer = client.post(TASKS, json={"job_tasks": items})
        assert answer.status_code == status, answer.text
    large = {"job_task": {"parameters": {}}, "padding": "x" * 3000}
    assert client.post(TASKS, json=large).status_code == 413
    assert client.post(TASKS, json={"job_tasks": [{}] * 20, "padding": "x" * 3000}).is_success
    counts = small.get(f"jobs/{job['uuid']}/levels")["items"]
    assert [(level["sequence"], level["todo"]) for level in counts] == [(0, 0), (1, 20)]


@pytest.mark.rule("R32")
def test_an_attempt_sees_its_own_job_only(api: Api) -> None:
    """Other jobs and their tasks do not exist for it; its token dies with it."""
    other = api.job()
    node = api.node()
    seeds = {seed.job: seed for seed in (node.next_assignment(),)}
    other_seed = seeds[other["uuid"]]
    mine = api.job()
    seed = node.next_assignment()
    client = api.as_attempt(seed)
    assert client.get(f"{JOBS}/{mine['uuid']}").status_code == 200
    assert client.get(f"{JOBS}/{other['uuid']}").status_code == 404
    assert client.get(f"{TASKS}/{other_seed.task}").status_code == 404
    listed = client.get(TASKS).json()["items"]
    assert [task["uuid"] for task in listed] == [seed.task]
    assert [job["uuid"] for job in client.get(JOBS).json()["items"]] == [mine["uuid"]]
    assert client.post(JOBS, json={"command": ["true"]}).status_code == 403
    node.end(seed.attempt)
    late = client.patch(f"{TASKS}/{seed.task}", json={"output": "late"})
    assert late.status_code == 403
    assert client.get(f"{JOBS}/{mine['uuid']}").status_code == 403


def test_head_has_the_headers_of_get(api: Api) -> None:
    """And no body."""
    job = api.job()
    for path in ("/healthz", f"{JOBS}/{job['uuid']}", f"{JOBS}/{job['uuid']}/output"):
        got, head = api.http.get(path), api.http.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == got.headers["content-type"]
        assert head.headers["content-length"] == str(len(got.content))


@pytest.mark.rule("R41")
def test_addresses_may_be_untidy(api: Api) -> None:
    """A slash at the end, doubled slashes, .json."""
    uuid = api.job()["uuid"]
    for path in (f"{JOBS}/{uuid}/", f"//arvados//v1/jobs/{uuid}", f"{JOBS}/{uuid}.json"):
        url = httpx.URL(api.server.url).copy_with(raw_path=path.encode())
        answer = httpx.get(url, headers=api.http.headers)
        assert answer.status_code == 200, path
        assert answer.json()["uuid"] == uuid
    assert api.http.get(JOBS + ".json").json()["kind"] == "arvados#jobList"


def test_every_answer_names_its_request(api: Api) -> None:
    """The client's own name, or a new one."""
    assert (
        api.http.get("/healthz", headers={"X-Request-Id": "mine"}).headers["x-request-id"] == "mine"
    )
    names = {api.http.get("/nothing").headers["x-request-id"] for _ in range(2)}
    assert len(names) == 2
    assert all(re.fullmatch(r"req-[0-9a-z]{20}", name) for name in names)


def test_a_connection_serves_many_requests(api: Api) -> None:
    """HTTP/1.1 keep-alive, errors included."""
    host, port = api.server.listener.getsockname()
    with socket.create_connection((host, port)) as connection:
        file = connection.makefile("rwb")
        for path, status in (("/healthz", b"200"), ("/nothing", b"404"), ("/healthz", b"200")):
            file.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            file.flush()
            assert file.readline().split()[1] == status
            length = 0
            while (line := file.readline()) != b"\r\n":
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            assert len(file.read(length)) == length
        file.close()


@pytest.mark.rule("R14")
def test_a_script_that_cannot_run_is_refused_at_create(api: Api, tmp_path: Path) -> None:
    """What the server sees to be missing, a directory or not executable makes no job."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for script, word in (
        ("missing", "does not exist"),
        ("folder", "is a directory"),
        ("plain", "is not executable"),
        ("../escape", "below its script_version"),
    ):
        body = {"script": script, "script_version": str(tmp_path)}
        answer = api.http.post("/arvados/v1/jobs", json=body)
        assert answer.status_code == 422
        assert word in answer.json()["errors"][0]


@pytest.mark.rule("R14")
def test_a_directory_that_the_server_does_not_see_is_not_judged(api: Api) -> None:
    """Where the server cannot look, the attempt tells."""
    body = {"script": "run", "script_version": "/nonexistent/scripts"}
    assert api.http.post("/arvados/v1/jobs", json=body).status_code == 200
