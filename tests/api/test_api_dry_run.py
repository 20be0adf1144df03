"""``dry_run``: every call that changes something can be rehearsed."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Api

V1 = "/arvados/v1"
REHEARSE = {"dry_run": "true"}


def state_of(api: Api) -> Any:
    """Return all that people see."""
    names = ("jobs", "job_tasks", "users", "api_client_authorizations", "nodes")
    return [api.get(name, limit=1000)["items"] for name in names]


def test_nothing_is_changed_and_the_answer_is_what_it_would_be(api: Api) -> None:
    """Create, change, cancel, delete: answered as if done; the next look sees what was there."""
    # The use of the administrator's token is noted once a minute, by whichever call comes first.
    api.get("users/current")
    node = api.node()
    job = api.job(priority=3)
    assignment = node.next_assignment()
    node.sync()
    attempt = api.as_attempt(assignment)
    before = state_of(api)
    path = f"{V1}/jobs/{job['uuid']}"
    made = api.http.post(f"{V1}/jobs", json={"command": ["true"]}, params=REHEARSE)
    changed = api.http.patch(path, json={"priority": 9}, params=REHEARSE)
    cancelled = api.http.post(f"{path}/cancel", json={"reason": "why"}, params=REHEARSE)
    child = attempt.post(f"{V1}/job_tasks", json={}, params=REHEARSE)
    done = attempt.patch(
        f"{V1}/job_tasks/{assignment.task}", json={"success": True}, params=REHEARSE
    )
    body = {"label": "for nobody"}
    token = api.http.post(f"{V1}/api_client_authorizations", json=body, params=REHEARSE)
    assert made.json()["state"] == "Queued"
    assert changed.json()["priority"] == 9
    assert (cancelled.json()["state"], cancelled.json()["log"]) == ("Cancelled", "cancelled: why")
    assert child.json()["created_by_job_task_uuid"] == assignment.task
    assert (done.json()["success"], done.json()["progress"]) == (True, 1.0)
    assert state_of(api) == before
    with api.client(token.json()["api_token"]) as nobody:
        assert nobody.get(f"{V1}/jobs").status_code == 401
    assert api.http.get(f"{V1}/jobs/{made.json()['uuid']}").status_code == 404


def test_a_rehearsed_delete_leaves_the_logs(api: Api) -> None:
    """What lies in files stays as well; a real one takes it away."""
    node = api.node()
    job = api.job()
    assignment = node.next_assignment()
    node.sync()
    node.push_log(assignment.attempt, b"o\0\0\0\2hi", final=True)
    api.as_attempt(assignment).patch(f"{V1}/job_tasks/{assignment.task}", json={"success": True})
    node.end(assignment.attempt)
    path = f"{V1}/jobs/{job['uuid']}"
    log = f"{V1}/job_tasks/{assignment.task}/log"
    assert api.http.delete(path, params=REHEARSE).json()["uuid"] == job["uuid"]
    assert api.http.get(log).text == "hi"
    api.http.delete(path)
    assert api.http.get(log).status_code == 404


@pytest.mark.parametrize(
    ("path", "value", "status"),
    [("jobs/zzzzz-8i9sb-000000000000000", "true", 404), ("jobs/x", "perhaps", 422)],
)
def test_a_rehearsal_is_refused_as_the_call_would_be(
    api: Api, path: str, value: str, status: int
) -> None:
    """The same refusals; a value that is no boolean is refused and not taken for false."""
    answer = api.http.delete(f"{V1}/{path}", params={"dry_run": value})
    assert answer.status_code == status


def test_a_rehearsed_attachment_is_not_kept(api: Api) -> None:
    """Its size is answered."""
    path = f"{V1}/jobs/{api.job()['uuid']}/attachment"
    answer = api.http.put(path, content=b"abc", params=REHEARSE)
    assert answer.json() == {"attachment_bytes": 3}
    assert api.http.get(path).status_code == 404
    assert api.http.post(path.rpartition("/")[0], params=REHEARSE).status_code == 405


def test_a_rehearsal_is_not_taken_for_the_call_itself(api: Api) -> None:
    """The same key afterwards makes the job."""
    headers = {"Idempotency-Key": "rehearsed"}
    body = {"command": ["true"], "description": "after a rehearsal"}
    for _ in range(2):
        assert api.http.post(f"{V1}/jobs", json=body, headers=headers, params=REHEARSE).is_success
    real = api.http.post(f"{V1}/jobs", json=body, headers=headers).json()
    filters = '[["description","=","after a rehearsal"]]'
    assert [job["uuid"] for job in api.get("jobs", filters=filters)["items"]] == [real["uuid"]]
