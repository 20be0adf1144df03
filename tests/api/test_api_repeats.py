"""A POST that comes again with its X-Request-Id after a cut connection makes one thing (R22)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tests.api.conftest import Api

ID = "req-0123456789abcdefghij"
OTHER_ID = "req-9876543210abcdefghij"
TASKS = "/arvados/v1/job_tasks"
JOBS = "/arvados/v1/jobs"


def sent_anew(
    client: httpx.Client, path: str, body: Any, request_id: str = ID, **headers: str
) -> httpx.Response:
    """Send on a connection of its own: whether the answer arrived, the server cannot know."""
    authorization = client.headers["Authorization"]
    every = {"X-Request-Id": request_id, "Authorization": authorization, **headers}
    with httpx.Client(base_url=client.base_url, timeout=60) as apart:
        return apart.post(path, json=body, headers=every)


def sent(client: httpx.Client, path: str, body: Any, request_id: str = ID) -> httpx.Response:
    """Send on the client's own connection, which it keeps."""
    return client.post(path, json=body, headers={"X-Request-Id": request_id})


@pytest.fixture
def attempt(api: Api) -> httpx.Client:
    """A running attempt's own client."""
    api.job()
    return api.as_attempt(api.node().next_assignment())


@pytest.fixture
def admin(api: Api) -> Iterator[httpx.Client]:
    """An administrator whose token no other test has taught the server to distrust."""
    made = api.http.post("/arvados/v1/api_client_authorizations", json={"label": "fresh"}).json()
    with api.client(made["api_token"]) as client:
        yield client


def count_of(client: httpx.Client, path: str) -> int:
    found: int = client.get(path, params={"limit": 0}).json()["items_available"]
    return found


@pytest.mark.rule("R22")
def test_a_task_is_made_once(attempt: httpx.Client) -> None:
    """The repeat brings the record as it is now; another id is another task."""
    first = sent_anew(attempt, TASKS, {"sequence": 4}).json()
    again = sent_anew(attempt, TASKS, {"sequence": 4}).json()
    assert again == first
    assert sent_anew(attempt, TASKS, {"sequence": 4}, OTHER_ID).json()["uuid"] != first["uuid"]
    assert count_of(attempt, TASKS) == 3


@pytest.mark.rule("R22")
def test_many_tasks_are_made_once(attempt: httpx.Client) -> None:
    """A bulk create too, with the same uuids in the answer."""
    body = {"job_tasks": [{"parameters": {"n": n}} for n in range(20)]}
    first = sent_anew(attempt, TASKS, body).json()
    assert sent_anew(attempt, TASKS, body).json() == first
    assert count_of(attempt, TASKS) == 21


@pytest.mark.rule("R22")
@pytest.mark.parametrize(
    ("path", "body"), [(JOBS, {"command": ["true"]}), ("/arvados/v1/users", {"username": "once"})]
)
def test_jobs_and_users_are_made_once(admin: httpx.Client, path: str, body: Any) -> None:
    """Every create that a client may repeat."""
    first = sent_anew(admin, path, body).json()
    assert sent_anew(admin, path, body).json()["uuid"] == first["uuid"]


@pytest.mark.rule("R22")
def test_a_token_is_made_once_and_its_repeat_brings_a_secret_that_works(
    admin: httpx.Client,
) -> None:
    """The first secret was lost with its answer and is kept nowhere: a new one takes its place."""
    path = "/arvados/v1/api_client_authorizations"
    first = sent_anew(admin, path, {"label": "once"}).json()
    second = sent_anew(admin, path, {"label": "once"}).json()
    assert second["uuid"] == first["uuid"]
    assert second["api_token"] not in (None, first["api_token"])
    answers = [
        admin.get(
            "/arvados/v1/users/current", headers={"Authorization": f"Bearer {it['api_token']}"}
        )
        for it in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [401, 200]


@pytest.mark.rule("R22", "R23")
def test_a_repeated_retry_queues_a_job_once(admin: httpx.Client) -> None:
    """Without its id the second one is refused: the job is Queued by then."""
    job = admin.post(JOBS, json={"command": ["true"]}).json()
    admin.post(f"{JOBS}/{job['uuid']}/cancel")
    path = f"{JOBS}/{job['uuid']}/retry"
    first = sent_anew(admin, path, {})
    again = sent_anew(admin, path, {})
    assert [first.status_code, again.status_code] == [200, 200]
    assert again.json()["uuid"] == job["uuid"]
    assert sent_anew(admin, path, {}, "").status_code == 422


@pytest.mark.rule("R22")
def test_an_answer_that_arrived_is_not_repeated(attempt: httpx.Client) -> None:
    """A further request on the connection says that the first answer was read: another wish then,
    and an id of this token tells nothing any more.
    """
    first = sent(attempt, TASKS, {"sequence": 4}).json()
    second = sent(attempt, TASKS, {"sequence": 4}).json()
    assert second["uuid"] != first["uuid"]
    third, fourth = (sent_anew(attempt, TASKS, {}, OTHER_ID).json() for _ in range(2))
    assert third["uuid"] != fourth["uuid"]


@pytest.mark.rule("R22")
def test_a_read_on_the_connection_says_so_too(attempt: httpx.Client) -> None:
    """Whatever comes after it on the connection, the answer has been read."""
    first = sent(attempt, TASKS, {"sequence": 4}).json()
    attempt.get(TASKS, params={"limit": 0})
    assert sent_anew(attempt, TASKS, {"sequence": 4}).json()["uuid"] != first["uuid"]


@pytest.mark.rule("R22")
def test_one_id_with_two_bodies_is_believed_no_more(attempt: httpx.Client) -> None:
    """Both are made, and so is what comes later under any id of this token."""
    sent_anew(attempt, TASKS, {"sequence": 4})
    assert sent_anew(attempt, TASKS, {"sequence": 5}).json()["sequence"] == 5
    sent_anew(attempt, TASKS, {"sequence": 5})
    assert count_of(attempt, TASKS) == 4


@pytest.mark.rule("R22")
def test_a_refusal_that_arrived_leaves_the_id_free(attempt: httpx.Client) -> None:
    """Clients repeat on the same connection what was answered by a passing error."""
    assert sent(attempt, TASKS, {"sequence": -1}).status_code == 422
    first = sent(attempt, TASKS, {"sequence": 4}).json()
    assert sent_anew(attempt, TASKS, {"sequence": 4}).json()["uuid"] == first["uuid"]


@pytest.mark.rule("R22")
def test_a_key_or_a_submit_id_decides_alone(admin: httpx.Client) -> None:
    """With either, the request's id has no say: two keys are two jobs, one submit_id is one."""
    body = {"command": ["true"]}
    one, two = (sent_anew(admin, JOBS, body, **{"Idempotency-Key": key}).json() for key in "ab")
    assert one["uuid"] != two["uuid"]
    named = [sent(admin, JOBS, {**body, "submit_id": "s"}).json()["uuid"] for _ in range(2)]
    assert named[0] == named[1]
    other = sent_anew(admin, JOBS, {**body, "submit_id": "s", "priority": 9})
    assert other.status_code == 422, "one submit_id for two jobs"


@pytest.mark.rule("R22", "R32")
def test_an_id_belongs_to_its_token(api: Api) -> None:
    """Two attempts that send the same id make a task each."""
    api.job()
    api.job()
    node = api.node()
    clients = [api.as_attempt(node.next_assignment()) for _ in range(2)]
    made = {sent_anew(client, TASKS, {"sequence": 4}).json()["uuid"] for client in clients}
    assert len(made) == 2


@pytest.mark.rule("R22")
def test_a_constant_that_looks_like_no_id_marks_nothing(attempt: httpx.Client) -> None:
    """Only ids of the clients' own form are believed."""
    made = {sent_anew(attempt, TASKS, {}, "my-script").json()["uuid"] for _ in range(2)}
    assert len(made) == 2
