"""Answers that a client has already: never sent again, and never taken for one that has changed."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import httpx
import pytest
from tests.api.conftest import LIMIT_SECONDS, Api

from jobtasks.api import rendering
from jobtasks.store.records import JobRecord, NodeRecord, TaskRecord, TokenRecord, UserRecord

BASE = "/arvados/v1"


def member(client: httpx.Client, path: str, tag: str = "", **parameters: str) -> httpx.Response:
    headers = {"If-None-Match": tag} if tag else {}
    return client.get(f"{BASE}/{path}", headers=headers, params=parameters)


def members(api: Api) -> list[str]:
    """Return the address of one record of each kind."""
    api.job()
    task = api.node().next_assignment().task
    found = [f"job_tasks/{task}", "users/current", "api_client_authorizations/current"]
    for name in ("jobs", "users", "api_client_authorizations"):
        found.append(f"{name}/{api.get(name, limit=1)['items'][0]['uuid']}")
    return found


@pytest.mark.rule("R41")
def test_what_a_client_has_is_not_sent_again(api: Api) -> None:
    """By GET and HEAD, for every kind of record; a proxy may have weakened the tag."""
    for path in members(api):
        first = member(api.http, path)
        tag = first.headers["etag"]
        assert first.headers["cache-control"] == "private, no-cache"
        for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
            again = member(api.http, path, known)
            assert (again.status_code, again.content) == (304, b""), (path, known)
            assert again.headers["etag"] == tag
        head = api.http.head(f"{BASE}/{path}", headers={"If-None-Match": tag})
        assert (head.status_code, head.headers["etag"]) == (304, tag)
        for other in ('"other"', tag.strip('"'), ""):
            assert member(api.http, path, other).content == first.content


@pytest.mark.rule("R41")
def test_a_part_of_a_record_has_a_tag_of_its_own(api: Api) -> None:
    """What is selected decides, and what did not change in it need not be read again."""
    path = f"jobs/{api.job()['uuid']}"
    state = member(api.http, path, select='["state"]').headers["etag"]
    api.http.patch(f"{BASE}/{path}", json={"description": "new"})
    assert member(api.http, path, state, select='["state"]').status_code == 304
    assert member(api.http, path, state).status_code == 200


def settled(api: Api, path: str, tag: str) -> tuple[httpx.Response, httpx.Response]:
    """Return the answer to one who has `tag`, and the whole one, between which nothing changed."""
    for _ in range(20):
        before, again, after = (member(api.http, path, known) for known in ("", tag, ""))
        if before.content == after.content:
            return again, after
    raise AssertionError(f"it changes all the time: {after.text}")


@pytest.mark.rule("R41")
def test_a_tag_is_never_stale(api: Api) -> None:
    """All along a job's life: 304 if, and only if, the answer is still what it was."""
    job = f"jobs/{api.job(priority=1)['uuid']}"
    node = api.node()
    seed = node.next_assignment()
    task = f"job_tasks/{seed.task}"
    client = api.as_attempt(seed)
    had = {path: member(api.http, path) for path in (job, task)}
    changes: list[tuple[Any, set[str]]] = [
        (lambda: client.get(f"{BASE}/{task}"), set()),
        (lambda: api.http.patch(f"{BASE}/{job}", json={"description": "x"}), {job}),
        (lambda: client.patch(f"{BASE}/{task}", json={"progress": 0.5}), {task}),
        (lambda: client.post(f"{BASE}/job_tasks", json={"command": ["true"]}), {job}),
        (lambda: client.patch(f"{BASE}/{task}", json={"success": True}), {task}),
        (lambda: node.end(seed.attempt, stderr_tail=b"said"), {task, job}),
        (lambda: api.http.post(f"{BASE}/{job}/cancel"), {job}),
    ]
    for change, least in changes:
        change()
        for path, before in list(had.items()):
            again, had[path] = settled(api, path, before.headers["etag"])
            assert (again.status_code == 304) == (had[path].content == before.content)
            assert again.status_code == 200 or path not in least, path


@pytest.mark.rule("R32", "R41")
def test_a_tag_opens_nothing(api: Api) -> None:
    """Whoever may not read a record is not told that it is the same."""
    path = f"jobs/{api.job()['uuid']}"
    user = api.http.post(f"{BASE}/users", json={"user": {"username": "tagged"}}).json()
    token = api.http.post(
        f"{BASE}/api_client_authorizations", json={"owner_uuid": user["uuid"]}
    ).json()["api_token"]
    for secret, status in ((None, 401), ("nonsense", 401), (token, 404)):
        with api.client(secret) as client:
            assert member(client, path, "*").status_code == status


def test_a_change_is_made_whatever_the_client_has(api: Api) -> None:
    """As in Arvados, tags are for reading only."""
    path = f"{BASE}/jobs/{api.job()['uuid']}"
    tag = api.http.get(path).headers["etag"]
    for known in (tag, "*"):
        changed = api.http.patch(path, json={"priority": 5}, headers={"If-None-Match": known})
        assert (changed.status_code, changed.json()["priority"]) == (200, 5)


@pytest.mark.rule("R17", "R41")
def test_a_wait_may_end_with_what_the_client_has(api: Api) -> None:
    """304 when the time is over and nothing has happened; the end is told as ever."""
    path = f"jobs/{api.job(runtime_constraints={'min_ram_per_node': 10**12})['uuid']}"
    tag = member(api.http, path).headers["etag"]
    assert member(api.http, path, tag, wait="0.1").status_code == 304
    api.http.post(f"{BASE}/{path}/cancel")
    ended = member(api.http, path, tag, wait=str(LIMIT_SECONDS))
    assert ended.json()["state"] == "Cancelled"


def other(field: str, value: Any, kind: Any) -> Any:
    """Return another value that a record's field may have."""
    if field == "state" and isinstance(value, str):
        return "Failed"
    if isinstance(value, int | float):
        return 1 - value
    return '{"other": 1}' if str in (kind, *getattr(kind, "__args__", ())) else 7


def record(shape: Any) -> Any:
    """Return a record without anything in it."""
    empty = {int: 0, float: 0.0, str: "{}"}
    values = [empty.get(kind) for kind in get_type_hints(shape).values()]
    words = {"state": "Queued"} if shape is JobRecord else {}
    words |= {"crunch_worker_state": "idle"} if shape is NodeRecord else {}
    return shape(*values)._replace(**words)


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("shape", "render"),
    [
        (JobRecord, rendering.render_job),
        (TaskRecord, rendering.render_task),
        (UserRecord, rendering.render_user),
        (TokenRecord, rendering.render_token),
        (NodeRecord, rendering.render_node),
    ],
)
def test_the_attribute_etag_changes_with_whatever_a_record_shows(shape: Any, render: Any) -> None:
    """Field by field; but the secret of a token, which is shown once and is none of its changes."""
    assert list(inspect.signature(render).parameters) == [inspect.getfullargspec(render).args[0]]
    base = record(shape)
    before = render(base)
    shown = 0
    for field, kind in get_type_hints(shape).items():
        if field in ("api_token", "crunch_worker_state"):
            continue
        after = render(base._replace(**{field: other(field, getattr(base, field), kind)}))
        differs = {name for name in after if after[name] != before[name]} - {"etag"}
        shown += bool(differs)
        assert not differs or after["etag"] != before["etag"], field
    assert shown > len(get_type_hints(shape)) / 2


@pytest.mark.rule("R41")
def test_the_answer_to_a_change_has_the_etag_that_is_read_next(api: Api) -> None:
    """A client that has just changed a record need not read it again to know it."""
    path = f"{BASE}/jobs/{api.job(runtime_constraints={'min_ram_per_node': 10**12})['uuid']}"
    changed = api.http.patch(path, json={"description": "again"}).json()
    assert changed == api.http.get(path).json()
