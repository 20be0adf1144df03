"""Jobs leave and come over HTTP: files and all, whole or not at all, by administrators alone."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from tests.api.conftest import ADMIN, FAST, Api, LiveServer

from jobtasks.api import importing
from jobtasks.core.job_stream import (
    AttemptLine,
    EndLine,
    JobLine,
    Line,
    Splitter,
    Tail,
    TaskLine,
    encoded,
)
from jobtasks.protocol.frames import STDOUT, frame
from jobtasks.service import exports

V1 = "/arvados/v1"
LOG = frame(STDOUT, b"said\n" * 1000)
ATTACHMENT = b"lines\n" * 50
MANY = 50_000
LIMIT_SECONDS = 20.0


class Moved:
    """An export of a job with an attachment, three tasks, and the log of one attempt."""

    def __init__(self, api: Api) -> None:
        job = api.job(description="moved")
        self.uuid = job["uuid"]
        put = api.http.put(f"{V1}/jobs/{self.uuid}/attachment", content=ATTACHMENT)
        assert put.status_code == 200
        node = api.node(slots=1)
        seed = node.next_assignment()
        node.sync()
        http = api.as_attempt(seed)
        tasks = [{"parameters": {"n": n, "text": "ü" * 50}} for n in range(2)]
        assert http.post(f"{V1}/job_tasks", json={"job_tasks": tasks}).status_code == 200
        http.patch(f"{V1}/job_tasks/{seed.task}", json={"success": True, "output": "one"})
        node.push_log(seed.attempt, LOG, final=True)
        node.end(seed.attempt, log_bytes=5000)
        child = node.next_assignment()
        node.sync()
        api.http.post(f"{V1}/jobs/{self.uuid}/cancel")
        node.end(child.attempt)
        answer = api.http.get(f"{V1}/jobs/{self.uuid}/export")
        assert answer.status_code == 200, answer.text
        self.data = answer.content
        self.seed = seed.task

    def items(self) -> list[Line | bytes]:
        return list(Splitter(1_000_000).feed(self.data))


class Target:
    """A server that jobs come to."""

    def __init__(self, directory: Path) -> None:
        self.server = LiveServer(directory, dataclasses.replace(FAST, record_bytes_max=100_000))
        self.api = Api(self.server)

    def send(self, data: bytes, **query: str) -> httpx.Response:
        return self.api.http.post(f"{V1}/jobs/import", content=data, params=query)

    def rows(self, statement: str) -> Any:
        return self.server.store.read(lambda tx: tx.text(statement, {}))[0][0]

    def wait_until_empty(self) -> None:
        """Wait until nothing is left of what did not come whole; nothing was ever seen of it."""
        assert self.api.get("jobs")["items"] == []
        left = "SELECT (SELECT count(*) FROM task) + (SELECT count(*) FROM arrival)"
        until = time.monotonic() + LIMIT_SECONDS
        while (seen := (self.rows(left), self.files())) != (0, []):
            assert time.monotonic() < until, seen
            time.sleep(0.01)

    def files(self) -> list[str]:
        """Return what is in folders of jobs, which may go while they are looked at."""
        return [name for _, _, names in os.walk(self.server.log_dir) for name in names]

    def close(self) -> None:
        self.api.close()
        self.server.close()


@pytest.fixture(scope="module")
def moved(lasting: Api) -> Moved:
    return Moved(lasting)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    found = Target(tmp_path_factory.mktemp("target"))
    yield found
    found.close()


@pytest.fixture
def clean(target: Target) -> Iterator[Target]:
    """A target without jobs, before and after."""
    yield target
    for job in target.api.get("jobs")["items"]:
        target.api.http.delete(f"{V1}/jobs/{job['uuid']}")
    target.wait_until_empty()


def test_all_of_it_comes(moved: Moved, clean: Target) -> None:
    """Records, the attachment, logs; the same stream once more is answered, another is refused."""
    assert clean.send(moved.data, dry_run="true").json()["tasks"] == 3
    clean.wait_until_empty()
    made = clean.send(moved.data)
    assert made.status_code == 200, made.text
    counts = {"tasks": 3, "attempts": 2, "logs": 1, "logs_incomplete": 0}
    assert made.json().items() >= {**counts, "state": "Cancelled", "owner": "uuid"}.items()
    http = clean.api.http
    assert http.get(f"{V1}/jobs/{moved.uuid}/attachment").content == ATTACHMENT
    assert http.get(f"{V1}/job_tasks/{moved.seed}/log").text == "said\n" * 1000
    assert http.get(f"{V1}/jobs/{moved.uuid}/export").content == moved.data
    assert clean.send(moved.data).json() == made.json()
    items = [each for each in moved.items() if isinstance(each, JobLine | TaskLine)]
    other = clean.send(whole(items))
    assert (other.status_code, other.json()["code"]) == (422, "conflict")
    assert http.get(f"{V1}/job_tasks/{moved.seed}/log").text == "said\n" * 1000
    resumed = http.post(f"{V1}/jobs/{moved.uuid}/retry")
    assert resumed.json()["state"] == "Queued"
    assert http.get(f"{V1}/jobs/{moved.uuid}/export").status_code == 422


def test_a_resumed_job_runs(moved: Moved, clean: Target) -> None:
    """At once, and only what was not complete."""
    made = clean.send(moved.data, resume="true")
    assert made.json().items() >= {"state": "Queued", "resumed": True}.items()
    node = clean.api.node(slots=2)
    given = [node.next_assignment() for _ in range(2)]
    assert moved.seed not in {each.task for each in given}
    clean.api.http.post(f"{V1}/jobs/{moved.uuid}/cancel")
    for each in given:
        node.end(each.attempt)


def whole(items: list[Line | bytes] | list[JobLine | TaskLine]) -> bytes:
    """Return a stream of these, with its end."""
    tail, data = Tail(), b""
    for item in items:
        if isinstance(item, EndLine):
            break
        piece = item + b"\n" if isinstance(item, bytes) else encoded(item)
        if not isinstance(item, bytes):
            tail.count(item)
        tail.add(piece)
        data += piece
    return data + encoded(tail.end())


def test_a_cut_or_changed_stream_leaves_nothing(moved: Moved, clean: Target) -> None:
    """Cut within each part, and flipped there; each is a refusal in words."""
    data = moved.data
    ends = [place for place in range(len(data)) if data[place] == 10]
    log_at = data.index(LOG)
    places = [0, 10, ends[0], ends[0] + 1, ends[1] - 3, ends[-2] + 1, log_at, log_at + 2000]
    for place in [*places, len(data) - 20, len(data) - 1]:
        answer = clean.send(data[:place])
        assert answer.status_code == 422, (place, answer.text)
    for place in [*places[:2], ends[0] + 5, log_at + 7, data.index(b"seeded"), len(data) - 30]:
        flipped = bytearray(data)
        flipped[place] ^= 1
        answer = clean.send(bytes(flipped))
        assert 400 <= answer.status_code < 500, (place, answer.text)
    assert clean.send(data + b"{}\n").status_code == 422
    clean.wait_until_empty()


def test_a_client_that_goes_away_leaves_nothing(moved: Moved, clean: Target) -> None:
    """In the middle of a file."""
    part = moved.data[: moved.data.index(LOG) + 100]
    head = (
        f"POST {V1}/jobs/import HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
        f"Content-Length: {len(moved.data)}\r\n\r\n"
    )
    with socket.create_connection(clean.server.listener.getsockname()) as connection:
        connection.sendall(head.encode() + part)
        until = time.monotonic() + LIMIT_SECONDS
        while not clean.rows("SELECT count(*) FROM arrival"):
            assert time.monotonic() < until
            time.sleep(0.005)
    clean.wait_until_empty()


@pytest.mark.rule("R8", "R40")
def test_hostile_streams_are_refused(moved: Moved, clean: Target) -> None:
    """Lengths, names and values that no server writes: 4xx, and no file anywhere."""
    items = moved.items()
    job: Any = items[0]
    attempt: Any = next(each for each in items if isinstance(each, AttemptLine))
    task: Any = next(each for each in items if isinstance(each, TaskLine))
    raw = json.loads(encoded(attempt))
    begin = encoded(job) + encoded(task)
    huge = {**raw, "file_bytes": 2**62}
    lines = [
        {**raw, "job_task_uuid": "../../../../tmp/evil"},
        {**raw, "job_task_uuid": task.uuid + "\n"},
        {**raw, "number": "1/../../x"},
        {**raw, "number": -1},
        {**raw, "number": 2**40},
        huge,
        {**raw, "file_bytes": -1},
        {**raw, "node": {"uuid": "x", "hostname": "h"}},
        {**raw, "what": 1},
        {"record": "task", "uuid": task.uuid, "qsequence": -1, "sequence": 0},
        {"record": "attachment", "file_bytes": 2**40},
        {"record": "nothing"},
        [],
        json.loads(encoded(job)),
        "x" * 200,
    ]
    for line in lines:
        answer = clean.send(begin + json.dumps(line).encode() + b"\n")
        assert 400 <= answer.status_code < 500, (line, answer.text)
    others = [b"", b"\n", b"\0" * 5000, b"[" * 100_000, b'{"record":"job"}\n', encoded(attempt)]
    newer = encoded(msgspec.structs.replace(job, format=2))
    elsewhere = encoded(msgspec.structs.replace(job, uuid="zzzzz-8i9sb-../../../../xxx"))
    for body in [*others, newer, elsewhere, b"x" * (5 * 2**20)]:
        answer = clean.send(body)
        assert 400 <= answer.status_code < 500, (body[:50], answer.text)
    clean.wait_until_empty()
    assert not Path("/tmp/evil.1.log").exists()


def test_only_administrators_move_jobs(moved: Moved, lasting: Api, clean: Target) -> None:
    """Not even its owner: a stream says whose a job is, and how it went."""
    user = lasting.http.post(f"{V1}/users", json={"username": "carrier"}).json()["uuid"]
    given = lasting.http.post(f"{V1}/api_client_authorizations", json={"owner_uuid": user}).json()
    with lasting.client(given["api_token"]) as http:
        mine = http.post(f"{V1}/jobs", json={"command": ["true"]}).json()["uuid"]
        for answer in (
            http.get(f"{V1}/jobs/{mine}/export"),
            http.post(f"{V1}/jobs/import", content=moved.data),
        ):
            assert answer.status_code == 403
        http.delete(f"{V1}/jobs/{mine}")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = clean.api.http.post(f"{V1}/jobs/import", content="a=b", headers=form)
    assert answer.status_code == 422


def large(job: JobLine) -> Iterator[bytes]:
    """Yield the stream of a job with many tasks, in pieces."""
    tail = Tail()

    def told(line: Line) -> bytes:
        data = encoded(line)
        tail.count(line)
        tail.add(data)
        return data

    yield told(msgspec.structs.replace(job, tasks=MANY, next_qsequence=MANY))
    for first in range(0, MANY, 500):
        pieces = []
        for number in range(first, first + 500):
            task = TaskLine(
                uuid=f"zzzzz-ot0gb-{number:015}",
                qsequence=number,
                sequence=number // 1000,
                state="waiting",
                created_at=1,
                modified_at=1,
                parameters={"n": number},
            )
            pieces.append(told(task))
        yield b"".join(pieces)
    yield encoded(tail.end())


@pytest.mark.rule("R40")
def test_a_large_job_is_held_a_slice_at_a_time(
    moved: Moved, clean: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred thousand tasks, in and out; no slice keeps others from writing for long."""
    slices: list[int] = []
    pages: list[int] = []
    write, read = importing.Receiver._write_alike, exports.tasks_after

    async def counted(self: Any, arriving: Any, kind: type, lines: list[Any]) -> None:
        slices.append(len(lines))
        await write(self, arriving, kind, lines)

    def paged(*arguments: Any) -> Any:
        found = read(*arguments)
        pages.append(len(found[0]))
        return found

    monkeypatch.setattr(importing.Receiver, "_write_alike", counted)
    monkeypatch.setattr(exports, "tasks_after", paged)
    job: Any = moved.items()[0]
    made = clean.api.http.post(f"{V1}/jobs/import", content=large(job))
    assert made.status_code == 200, made.text
    assert sum(slices) == MANY
    assert max(slices) <= importing.SLICE_LINES
    summary = clean.api.get(f"jobs/{moved.uuid}")["tasks_summary"]
    assert summary["todo"] == MANY
    size = 0
    with clean.api.http.stream("GET", f"{V1}/jobs/{moved.uuid}/export") as answer:
        splitter = Splitter(1_000_000)
        for piece in answer.iter_raw():
            size = max(size, len(piece))
            for _ in splitter.feed(piece):
                pass
    assert splitter.close().tasks == MANY
    assert sum(pages) == MANY
    assert max(pages) <= exports.PAGE_ROWS
