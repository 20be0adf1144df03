"""A job's attachment, and the logs of many of its tasks in one answer."""

from __future__ import annotations

import io
import json
import os
from typing import Any

import httpx
import pytest
from tests.api.conftest import Api

from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, frame, read_frames

BASE = "/arvados/v1"


def attach(api: Api, job: str, content: Any) -> httpx.Response:
    return api.http.put(f"{BASE}/jobs/{job}/attachment", content=content)


@pytest.mark.rule("R32")
def test_an_attachment_is_kept_as_it_is(api: Api) -> None:
    """Owner and attempts read the bytes that came; a later one replaces it; HEAD tells its size."""
    job = api.job()["uuid"]
    seed = api.as_attempt(api.node().next_assignment())
    place = f"{BASE}/jobs/{job}/attachment"
    assert seed.get(place).status_code == 404
    content = bytes(range(256)) * 10_000
    assert attach(api, job, iter([content, b"end"])).json() == {"attachment_bytes": 2_560_003}
    assert seed.get(place).content == api.http.get(place).content == content + b"end"
    assert api.http.head(place).headers["content-length"] == "2560003"
    assert seed.put(place, content=b"x").status_code == 403
    assert attach(api, job, b"").json() == {"attachment_bytes": 0}
    assert seed.get(place).content == b""


def test_what_is_no_attachment(small: Api) -> None:
    """Past the limit 413, announced or not; a form 422; of a job that is over 422."""
    job = small.job()["uuid"]
    folder = small.server.log_dir / job
    assert attach(small, job, b"x" * 3000).status_code == 413
    assert attach(small, job, iter([b"x" * 1500] * 2)).status_code == 413
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    place = f"{BASE}/jobs/{job}/attachment"
    assert small.http.put(place, content=b"a=b", headers=form).status_code == 422
    assert not folder.exists() or list(folder.iterdir()) == []
    assert attach(small, job, b"x" * 2000).status_code == 200
    small.http.post(f"{BASE}/jobs/{job}/cancel")
    assert attach(small, job, b"y").status_code == 422
    assert small.http.get(place).content == b"x" * 2000
    assert small.http.delete(f"{BASE}/jobs/{job}").status_code == 200
    assert not folder.exists(), "it goes with the job"


@pytest.mark.rule("R40")
def test_a_full_disk_is_a_pause(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """503, so that the sender comes again; nothing half is left, what was there stays."""
    job = api.job(runtime_constraints={"min_ram_per_node": 2**40})["uuid"]
    attach(api, job, b"first")

    def full(fd: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        refused = attach(api, job, b"second")
    assert (refused.status_code, "No space left" in refused.text) == (503, True)
    assert [path.name for path in (api.server.log_dir / job).iterdir()] == ["attachment"]
    assert api.http.get(f"{BASE}/jobs/{job}/attachment").content == b"first"


def logs_of(api: Api, job: str, **parameters: str) -> list[tuple[bytes, Any]]:
    answer = api.http.get(f"{BASE}/jobs/{job}/logs", params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/octet-stream"
    found = list(read_frames(io.BytesIO(answer.content)))
    return [(mark, json.loads(data) if mark == b"t" else data) for mark, data in found]


@pytest.mark.rule("R38")
def test_logs_of_many_tasks(api: Api) -> None:
    """Newest attempts only, in the order asked for; tasks that never started are left out."""
    job = api.job(runtime_constraints={"max_attempts": 2})["uuid"]
    node = api.node(slots=1)
    seed = node.next_assignment()
    children = {"job_tasks": [{"command": ["x"]}] * 2}
    assert api.as_attempt(seed).post(f"{BASE}/job_tasks", json=children).status_code == 200
    node.push_log(seed.attempt, frame(STDOUT, b"old"), final=True)
    node.end(seed.attempt, exit_code=1, log_bytes=3)
    again = node.next_assignment()
    assert (again.task, again.number) == (seed.task, 2)
    assert api.as_attempt(again).post(f"{BASE}/job_tasks", json=children).status_code == 200
    node.end(again.attempt)
    child = node.next_assignment()
    node.sync()
    whole = frame(STDOUT, b"\xff\0") + frame(NOTE, b"[1 byte]\n") + frame(STDERR, b"e")
    node.push_log(child.attempt, whole + frame(STDOUT, b"cut off")[:-1])
    asked = json.dumps([child.qsequence, child.qsequence + 1, 99, 0])
    frames = logs_of(api, job, qsequences=asked)
    assert frames[1:4] == [(STDOUT, b"\xff\0"), (NOTE, b"[1 byte]\n"), (STDERR, b"e")]
    (_, about), (_, about_seed) = frames[0], frames[4]
    assert (about["job_task_uuid"], about["qsequence"]) == (child.task, child.qsequence)
    assert (about["state"], about["log_bytes"], about["stored_bytes"]) == ("running", 0, 3)
    assert (about_seed["attempt"], about_seed["stored_bytes"], len(frames)) == (2, 0, 5)
    everything = [data["qsequence"] for mark, data in logs_of(api, job) if mark == b"t"]
    assert everything == [0, child.qsequence]


@pytest.mark.parametrize("text", ["x", "[-1]", "[1.5]", '["1"]', "{}", "[4294967296]", "1"])
def test_bad_numbers_of_tasks(api: Api, text: str) -> None:
    """422 that says what is expected."""
    job = api.job()["uuid"]
    answer = api.http.get(f"{BASE}/jobs/{job}/logs", params={"qsequences": text})
    assert (answer.status_code, "qsequences" in answer.text) == (422, True)


@pytest.mark.parametrize(
    "places", ["x", "[[1,1]]", "[[0,1,-0.5]]", '[["0",1,2]]', "[[-1,1,0]]", "[[4294967296,1,0]]"]
)
def test_bad_places(api: Api, places: str) -> None:
    """422 that says what is expected."""
    job = api.job()["uuid"]
    answer = api.http.get(f"{BASE}/jobs/{job}/logs", params={"places": places})
    assert (answer.status_code, "places" in answer.text) == (422, True)
    answer = api.http.get(f"{BASE}/jobs/{job}/logs", params={"attempts": "some"})
    assert (answer.status_code, "newest or all" in answer.text) == (422, True)


@pytest.mark.rule("R13")
def test_every_attempt_of_a_job_in_the_order_of_their_beginnings(api: Api) -> None:
    """Page by page; what began since is asked for with the last answer's `after`."""
    job = api.job(runtime_constraints={"max_attempts": 3})["uuid"]
    node = api.node(slots=1)
    path = f"jobs/{job}/attempts"
    assert api.get(path) == {"items": [], "after": 0}
    for number in (1, 2):
        seed = node.next_assignment()
        node.push_log(seed.attempt, frame(STDERR, b"try %d" % number), final=True)
        node.end(seed.attempt, exit_code=number, log_bytes=5)
    first = api.get(path, limit=1)
    assert [item["number"] for item in first["items"]] == [1]
    rest = api.get(path, after=first["after"])
    assert [(item["number"], item["exit_code"]) for item in rest["items"]] == [(2, 2)]
    assert rest["items"][0]["job_task_uuid"] == seed.task
    assert api.get(path, after=rest["after"]) == {"items": [], "after": rest["after"]}
    for parameters in ({"after": "x"}, {"after": "-1"}, {"limit": "y"}, {"after": "1" * 20}):
        assert api.http.get(f"{BASE}/{path}", params=parameters).status_code == 422, parameters
    frames = logs_of(api, job, attempts="all")
    assert [data for mark, data in frames if mark != b"t"] == [b"try 1", b"try 2"]


@pytest.mark.rule("R38")
def test_a_log_that_grows_is_read_on(api: Api) -> None:
    """From where an earlier answer ended; a frame that is not whole waits for its rest."""
    job = api.job()["uuid"]
    node = api.node()
    seed = node.next_assignment()
    node.sync()
    one, two = frame(STDOUT, b"one"), frame(STDERR, b"two")
    node.push_log(seed.attempt, one + two[:-1])
    ((_, about), *frames) = logs_of(api, job, places="[[0,1,0]]")
    assert (about["file_bytes"], frames) == (len(one), [(STDOUT, b"one")])
    node.push_log(seed.attempt, two[-1:], offset=len(one + two) - 1)
    ((_, about), *frames) = logs_of(api, job, places=f"[[0,1,{about['file_bytes']}],[7,1,0]]")
    assert (about["file_bytes"], frames) == (len(one + two), [(STDERR, b"two")])
    assert len(logs_of(api, job, places=f"[[0,1,{len(one + two) + 9}]]")) == 1
    assert logs_of(api, job, places="[[0,2,0]]") == []
