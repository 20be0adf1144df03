"""Requests as old clients send them: forms, methods in disguise, tokens in parameters."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from tests.api.conftest import ADMIN, Api

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset='utf8'"}


def form(client: httpx.Client, path: str, fields: Any, method: str = "POST") -> httpx.Response:
    """Send fields as a form."""
    return client.request(method, path, content=urlencode(fields), headers=FORM)


@pytest.fixture
def attempt(api: Api) -> httpx.Client:
    """A running attempt's own client."""
    api.job()
    return api.as_attempt(api.node().next_assignment())


@pytest.mark.rule("R41")
@pytest.mark.parametrize("name", ["job_task", "jobTask", "jobtask"])
def test_a_record_as_json_in_one_field(attempt: httpx.Client, name: str) -> None:
    """``job_task={json}``, as Perl, Go and Workbench send it."""
    record = {"sequence": 4, "parameters": {"a": ["ü", None, "line\nline", "😀"]}}
    answer = form(attempt, TASKS, {name: json.dumps(record), "current_request_id": "x"})
    assert answer.status_code == 200, answer.text
    assert {key: answer.json()[key] for key in record} == record


@pytest.mark.rule("R41")
def test_a_record_in_brackets(attempt: httpx.Client) -> None:
    """``job_task[sequence]=1``; values are text, and become what their attributes are."""
    fields = [
        ("job_task[sequence]", "7"),
        ("job_task[parameters][a]", "b"),
        ("job_task[parameters][list][]", "1"),
        ("job_task[parameters][list][]", "2"),
        ("job_task[command]", '["true"]'),
        ("job_task[runtime_constraints]", '{"min_nodes": 1}'),
        ("job_task[output]", ""),
    ]
    task = form(attempt, TASKS, fields).json()
    assert task["sequence"] == 7
    assert task["parameters"] == {"a": "b", "list": ["1", "2"]}
    assert task["command"] == ["true"]
    assert task["runtime_constraints"] == {"min_nodes": 1}


@pytest.mark.rule("R7")
def test_an_attempt_reports_by_form(attempt: httpx.Client) -> None:
    """As crunchrunner does: a whole record comes back, empty where it knows nothing (R7)."""
    task = attempt.get(TASKS).json()["items"][0]
    path = f"{TASKS}/{task['uuid']}"
    record = {
        "job_uuid": "",
        "created_by_job_task_uuid": "",
        "parameters": {},
        "sequence": 0,
        "output": "here",
        "success": True,
    }
    answer = form(attempt, path, {"job_task": json.dumps(record)}, "PUT")
    assert answer.status_code == 200, answer.text
    assert (answer.json()["output"], answer.json()["progress"]) == ("here", 1.0)
    fields = {"job_task[success]": "", "job_task[progress]": "0.5", "_method": "patch"}
    changed = form(attempt, path, fields)
    assert (changed.json()["success"], changed.json()["progress"]) == (None, 0.5)


@pytest.mark.rule("R41")
def test_a_record_in_the_address_wins_over_the_body(attempt: httpx.Client) -> None:
    """As the old Java SDK sends it, beside the same record in the body."""
    wrapped = json.dumps({"sequence": 3})
    answer = attempt.post(TASKS, params={"job_task": wrapped}, json={"sequence": 9})
    assert answer.json()["sequence"] == 3
    both = attempt.post(
        TASKS,
        params={"job_task": wrapped, "select": '["sequence"]'},
        content=urlencode({"job_task": "{}", "select": '["uuid"]'}),
        headers=FORM,
    )
    assert both.json() == {"kind": "arvados#jobTask", "sequence": 3}


@pytest.mark.rule("R41")
def test_a_post_is_taken_for_what_it_says(api: Api) -> None:
    """By field ``_method`` of a form, or by header; its form is the address' parameters then."""
    job = api.job(description="find me")
    filters = json.dumps([["uuid", "in", [job["uuid"]] * 90]])
    fields = {"_method": "GET", "filters": filters, "select": '["description"]', "limit": "5"}
    found = form(api.http, JOBS, fields).json()
    assert found["items"] == [{"kind": "arvados#job", "description": "find me"}]
    long = api.http.post(
        JOBS,
        content=urlencode({"filters": filters}),
        headers={**FORM, "X-HTTP-Method-Override": "get"},
    )
    assert [item["uuid"] for item in long.json()["items"]] == [job["uuid"]]
    path = f"{JOBS}/{job['uuid']}"
    patched = api.http.post(path, json={"priority": 3}, headers={"X-HTTP-Method-Override": "PATCH"})
    assert patched.json()["priority"] == 3
    assert form(api.http, path, {"_method": "HEAD"}).json()["uuid"] == job["uuid"]
    assert form(api.http, path, {"_method": "DELETE"}).status_code == 200
    assert api.http.get(path).status_code == 404


@pytest.mark.rule("R41")
def test_only_a_post_is_taken_for_something_else(api: Api) -> None:
    """A GET stays one; a method that does not exist is refused."""
    job = api.job()
    headers = {"X-HTTP-Method-Override": "DELETE"}
    assert api.http.get(f"{JOBS}/{job['uuid']}", headers=headers).status_code == 200
    assert api.http.get(f"{JOBS}/{job['uuid']}").status_code == 200
    before = api.get("jobs", limit=0)["items_available"]
    for wrong in ("TRACE", "DELTE", "CONNECT"):
        answer = api.http.post(
            JOBS, json={"command": ["true"]}, headers={"X-HTTP-Method-Override": wrong}
        )
        assert answer.status_code == 405
    assert api.get("jobs", limit=0)["items_available"] == before


@pytest.mark.rule("R41")
@pytest.mark.parametrize("name", ["api_token", "oauth_token"])
def test_a_token_in_a_parameter(api: Api, name: str) -> None:
    """In the address or in a form; it goes before the header, and JSON bodies have none."""
    with api.client(None) as nobody:
        assert nobody.get(JOBS, params={name: ADMIN}).status_code == 200
        assert form(nobody, JOBS, {"_method": "GET", name: ADMIN}).status_code == 200
        job = json.dumps({"command": ["true"]})
        uuid = api.get("api_client_authorizations/current")["uuid"]
        assert form(nobody, JOBS, {"job": job, name: f"v2/{uuid}/{ADMIN}"}).status_code == 200
        assert nobody.post(JOBS, json={"command": ["true"], name: ADMIN}).status_code == 401
    assert api.http.get(JOBS, params={name: "nonsense"}).status_code == 401


@pytest.mark.rule("R41")
def test_arguments_of_methods_in_a_form(api: Api) -> None:
    """``reason`` is text, lists and objects are JSON text."""
    job = api.job()
    path = f"{JOBS}/{job['uuid']}"
    assert "why not" in form(api.http, path + "/cancel", {"reason": "why not"}).json()["log"]
    assert form(api.http, path + "/retry", {"job_tasks": "[1]"}).status_code == 422
    again = form(api.http, path + "/retry", {"runtime_constraints": '{"max_nodes": 3}'}).json()
    assert again["runtime_constraints"] == {"max_nodes": 3}


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"command=ls", 422),
        (b"job=", 422),
        (b"job=1", 422),
        (b"job=%7B", 400),
        (b"job=%ff", 400),
        (b"\xff=1", 400),
        (b"job[]=x", 422),
        (b"job[command]=x", 422),
        (b"job[command]=[1]", 422),
        (b"job[nothing]=1", 422),
        (b"job={}&job[priority]=1", 422),
        (b"job[priority]=1&job[priority][a]=1", 422),
        (b"job[script_parameters][a]=1&job[script_parameters][a][b]=1", 422),
        (b"job[script_parameters][a][]=1&job[script_parameters][a][b]=1", 422),
        (b"job[description]=a%00b&job[command]=%5B%22true%22%5D", 422),
        (b"job" + b"[a]" * 100 + b"=1", 413),
        (b"&" * 1000, 413),
    ],
)
def test_forms_that_are_refused(api: Api, body: bytes, status: int) -> None:
    """A clear error, and nothing is stored."""
    before = api.get("jobs", limit=0)["items_available"]
    answer = api.http.post(JOBS, content=body, headers=FORM)
    assert (answer.status_code, bool(answer.json()["errors"][0])) == (status, True)
    assert api.get("jobs", limit=0)["items_available"] == before


@pytest.mark.rule("R40")
def test_a_form_has_limits_of_its_own(api: Api) -> None:
    """Two megabytes, announced or not; JSON that is called a form keeps the larger limit."""
    body = b"job=%7B%7D&x=" + b"y" * 2 * 1024 * 1024
    assert api.http.post(JOBS, content=body, headers=FORM).status_code == 413
    pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
    assert api.http.post(JOBS, content=pieces, headers=FORM).status_code == 413
    large = json.dumps({"command": ["true"], "script_parameters": {"x": "y" * 2_000_000}})
    spaced = (piece for piece in (b"  ", b"\n", large.encode(), b" " * 200_000))
    assert api.http.post(JOBS, content=spaced, headers=FORM).status_code == 200


@pytest.mark.rule("R41")
def test_encodings_that_are_not_understood(api: Api) -> None:
    """Bodies in parts and compressed ones are 415, and not taken for something else."""
    parts = api.http.post(JOBS, files={"job": b'{"command":["true"]}'})
    assert parts.status_code == 415
    packed = api.http.post(JOBS, content=b"x", headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415
    plain = {"Content-Encoding": "identity"}
    assert api.http.post(JOBS, json={"command": ["true"]}, headers=plain).status_code == 200


@pytest.mark.rule("R41")
def test_pages_of_other_sites_may_call(api: Api) -> None:
    """OPTIONS needs no token; every answer says that it may be read, errors too."""
    with api.client(None) as nobody:
        asked = nobody.options(TASKS + "/anything")
        assert (asked.status_code, asked.text) == (200, "-")
        answers = [asked, nobody.get(JOBS), nobody.get("/arvados/v1/nothing"), api.http.get(JOBS)]
        for answer in answers:
            assert answer.headers["access-control-allow-origin"] == "*"
            assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "access-control-allow-origin" not in nobody.get("/healthz").headers
