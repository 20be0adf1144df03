"""How records are named: whole, in part, by place, by @last; against a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import FAST, Api, LiveServer

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of the module's own, with a node that is played."""
    live = LiveServer(tmp_path_factory.mktemp("selectors"), FAST)
    client = Api(live)
    yield client
    client.close()
    live.close()


@pytest.fixture
def at(api: Api, tmp_path: Path) -> tuple[str, str]:
    """The option that names the server."""
    (tmp_path / "url").write_text(api.server.url)
    (tmp_path / "admin.token").write_text(api.http.headers["authorization"].split()[1])
    return ("--state", str(tmp_path))


def shown(jobtasks: Run, *words: object) -> str:
    """The uuid of the record that a command shows."""
    ended = jobtasks(*words, "-o", "id")
    assert ended.code == 0, ended.err
    return str(ended.out.strip())


def test_a_job_by_its_end_its_beginning_and_last(api: Api, jobtasks: Run, at: Any) -> None:
    """What no other job has names one; the newest of the caller is @last."""
    old, new = api.job(description="one")["uuid"], api.job()["uuid"]
    assert shown(jobtasks, "job", "show", "@last", *at) == new
    for uuid in (old, new):
        last_part = uuid.rpartition("-")[2]
        for part in (uuid, uuid[:-1], last_part, last_part[:-1], uuid[-5:]):
            if part in (uuid, last_part) or not (old.endswith(part) and new.endswith(part)):
                assert shown(jobtasks, "job", "show", part, *at) == uuid, part


def test_what_could_be_more_than_one_is_refused(api: Api, jobtasks: Run, at: Any) -> None:
    """Nothing is guessed: some of those it could be are named, with their state."""
    uuids = [api.job()["uuid"] for _ in range(2)]
    ended = jobtasks("job", "cancel", "zzzzz-8i9sb-", *at)
    assert (ended.code, ended.out) == (2, "")
    message, hint = ended.err.splitlines()
    assert message == "jobtasks: zzzzz-8i9sb- could be more than one job"
    assert f"{uuids[1]} (Queued)" in hint and f"{uuids[0]} (Queued)" in hint
    states = {jobtasks("job", "show", uuid, *at, "-o", "json").out for uuid in uuids}
    assert {json.loads(state)["state"] for state in states} == {"Queued"}


@pytest.mark.parametrize("word", ["zzz9z", "No Job!", "%", "a_b", "zzzzz-8i9sb-zzzzzzz", "ü", ""])
def test_what_names_nothing(api: Api, jobtasks: Run, at: Any, word: str) -> None:
    """Exit code 3 and how to find out; a pattern's signs mean nothing."""
    ended = jobtasks("job", "show", word, *at)
    assert ended.code == 3
    assert ended.err.splitlines()[1] == "hint: `jobtasks job list` shows what there is"


def test_a_task_by_its_place_its_end_and_last(api: Api, jobtasks: Run, at: Any) -> None:
    """JOB/NUMBER counts from the seed; @last is the one that started last in the newest job."""
    job = api.job()["uuid"]
    ended = jobtasks("task", "show", "@last", *at)
    assert (ended.code, "has started" in ended.err) == (3, True)
    node = api.node(slots=20)
    assignment = next(given for given in iter(node.next_assignment, None) if given.job == job)
    attempt = api.as_attempt(assignment)
    made = attempt.post("/arvados/v1/job_tasks", json={"job_tasks": [{}, {}]}).json()["uuids"]
    node.sync()
    for word in ("@last", "@last/0", f"{job}/0", f"{job[-9:]}/0"):
        assert shown(jobtasks, "task", "show", word, *at) == assignment.task
    assert shown(jobtasks, "task", "show", "@last/2", *at) == made[1]
    assert shown(jobtasks, "task", "show", made[0][-8:], *at) == made[0]
    assert jobtasks("task", "show", "@last/3", *at).code == 3
    assert jobtasks("task", "show", "@last/x", *at).code == 2


def test_a_uuid_of_another_kind_is_told_for_what_it_is(api: Api, jobtasks: Run, at: Any) -> None:
    """A task's uuid is no job; users have no @last."""
    ended = jobtasks("job", "show", "zzzzz-ot0gb-000000000000000", *at)
    assert (ended.code, ended.err) == (
        2,
        "jobtasks: zzzzz-ot0gb-000000000000000 is a task, not a job\n",
    )
    assert jobtasks("user", "change", "@last", "--admin", *at).code == 2


def test_last_is_the_callers_own(api: Api, jobtasks: Run, at: Any, tmp_path: Path) -> None:
    """Also of an administrator, who sees everybody's; of a token that may not ask who it is."""
    mine = api.job()["uuid"]
    user = api.http.post("/arvados/v1/users", json={"user": {"username": "grace"}}).json()
    body = {"owner_uuid": user["uuid"]}
    token = api.http.post("/arvados/v1/api_client_authorizations", json=body).json()["api_token"]
    with api.client(token) as grace:
        hers = grace.post("/arvados/v1/jobs", json={"command": ["true"]}).json()["uuid"]
    assert shown(jobtasks, "job", "show", "@last", *at) == mine
    assert jobtasks("user", "list", *at, "-o", "id").out.split()[0] == user["uuid"]
    body = {"owner_uuid": user["uuid"], "scopes": ["GET /arvados/v1/jobs", "GET /arvados/v1/jobs/"]}
    scoped = api.http.post("/arvados/v1/api_client_authorizations", json=body).json()["api_token"]
    (tmp_path / "admin.token").write_text(scoped)
    assert shown(jobtasks, "job", "show", "@last", *at) == hers
    assert shown(jobtasks, "job", "show", hers.rpartition("-")[2][:-1], *at) == hers
