"""A create that is repeated with its Idempotency-Key makes one thing (R22)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from tests.api.conftest import Api


@pytest.fixture
def attempt(api: Api) -> httpx.Client:
    """A running attempt's own client."""
    api.job()
    return api.as_attempt(api.node().next_assignment())


def keyed(client: httpx.Client, path: str, key: str, body: Any) -> httpx.Response:
    return client.post("/arvados/v1" + path, json=body, headers={"Idempotency-Key": key})


@pytest.mark.rule("R22")
def test_a_repeated_create_of_tasks_makes_them_once(attempt: httpx.Client) -> None:
    """The same key and body give the same tasks; another key makes others."""
    body = {"job_tasks": [{"parameters": {"n": 1}}, {"parameters": {"n": 2}}]}
    first = keyed(attempt, "/job_tasks", "a", body)
    assert first.status_code == 200
    assert keyed(attempt, "/job_tasks", "a", body).json() == first.json()
    assert keyed(attempt, "/job_tasks", "b", body).json()["first_qsequence"] == 3
    assert attempt.get("/arvados/v1/job_tasks", params={"limit": 0}).json()["items_available"] == 5


@pytest.mark.rule("R22")
def test_a_repeated_create_returns_the_task_as_it_is_now(attempt: httpx.Client) -> None:
    """One task: the record comes back; a task deleted since is not made again."""
    task = keyed(attempt, "/job_tasks", "one", {"sequence": 5}).json()
    assert keyed(attempt, "/job_tasks", "one", {"sequence": 5}).json()["uuid"] == task["uuid"]
    attempt.delete(f"/arvados/v1/job_tasks/{task['uuid']}")
    assert keyed(attempt, "/job_tasks", "one", {"sequence": 5}).status_code == 422


@pytest.mark.rule("R22")
def test_a_key_with_another_body_is_refused(attempt: httpx.Client) -> None:
    """The key says that it is the same request; another body says that it is not."""
    assert keyed(attempt, "/job_tasks", "k", {"sequence": 1}).status_code == 200
    answer = keyed(attempt, "/job_tasks", "k", {"sequence": 2})
    assert answer.status_code == 422
    assert "another body" in answer.json()["errors"][0]
    assert attempt.get("/arvados/v1/job_tasks", params={"limit": 0}).json()["items_available"] == 2


@pytest.mark.rule("R22")
def test_a_key_of_another_call_is_refused(api: Api) -> None:
    """Nobody gets the answer to something else, though nothing or the same was sent there."""
    first, second = (api.job()["uuid"] for _ in range(2))
    for uuid in (first, second):
        api.http.post(f"/arvados/v1/jobs/{uuid}/cancel")
    assert keyed(api.http, f"/jobs/{first}/retry", "again", {}).status_code == 200
    for path in (f"/jobs/{second}/retry", "/logs", "/jobs"):
        answer = keyed(api.http, path, "again", {})
        assert (answer.status_code, "body or call" in answer.text) == (422, True), path
    assert api.get(f"jobs/{second}")["state"] == "Cancelled"


@pytest.mark.rule("R22")
def test_a_repeated_create_of_a_job_makes_one_job(api: Api) -> None:
    """A key of a user's names one job."""
    body = {"command": ["true"], "description": "once"}
    first = keyed(api.http, "/jobs", "job", body).json()
    assert keyed(api.http, "/jobs", "job", body).json()["uuid"] == first["uuid"]


@pytest.mark.rule("R22")
def test_a_refused_create_leaves_its_key_free(attempt: httpx.Client) -> None:
    """Nothing of a refused request is stored, its key neither."""
    assert keyed(attempt, "/job_tasks", "x", {"sequence": -1}).status_code == 422
    assert keyed(attempt, "/job_tasks", "x", {"sequence": 1}).status_code == 200


@pytest.mark.rule("R22")
def test_a_key_is_bounded(attempt: httpx.Client) -> None:
    """A key of more than 255 characters is refused."""
    assert keyed(attempt, "/job_tasks", "k" * 256, {}).status_code == 422


@pytest.mark.rule("R22")
def test_a_submit_id_makes_one_job_for_ever(api: Api) -> None:
    """The same id and body return the job as it is now, however they are wrapped."""
    record = {"command": ["true"], "submit_id": "nightly"}
    first = api.job(**record)
    assert first["submit_id"] == "nightly"
    api.http.post(f"/arvados/v1/jobs/{first['uuid']}/cancel")
    again = api.http.post("/arvados/v1/jobs", json={"job": record}).json()
    assert (again["uuid"], again["state"]) == (first["uuid"], "Cancelled")
    found = api.get("jobs", filters='[["submit_id","=","nightly"]]')
    assert [job["uuid"] for job in found["items"]] == [first["uuid"]]


@pytest.mark.rule("R22")
def test_a_submit_id_with_another_body_is_refused(api: Api) -> None:
    """Also after the job was deleted: nothing runs twice under one id."""
    record = {"command": ["true"], "submit_id": "once"}
    job = api.job(**record)
    other = api.http.post("/arvados/v1/jobs", json={**record, "priority": 1})
    assert other.status_code == 422
    assert "submit_id" in other.json()["errors"][0]
    assert api.http.delete(f"/arvados/v1/jobs/{job['uuid']}").status_code == 200
    assert "deleted" in api.http.post("/arvados/v1/jobs", json=record).json()["errors"][0]


@pytest.mark.rule("R22")
@pytest.mark.parametrize("value", [1, [], "x" * 256, "a\0b"])
def test_a_submit_id_is_text_of_bounded_length(api: Api, value: Any) -> None:
    """Anything else is 422; empty or null is none."""
    body = {"command": ["true"], "submit_id": value}
    assert api.http.post("/arvados/v1/jobs", json=body).status_code == 422
    none = [api.job(submit_id=empty)["uuid"] for empty in (None, "", "")]
    assert len(set(none)) == 3
