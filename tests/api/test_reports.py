"""Reports that come whole go a short way (api/reports.py); nobody can tell by the answers."""

from __future__ import annotations

import dataclasses
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.api.conftest import ADMIN, AGENT, FAST, LIMIT_SECONDS, Api, LiveServer

from jobtasks.api import reports
from jobtasks.api.connection import bounded_by
from jobtasks.core.settings import Settings

pytestmark = pytest.mark.rule("R7", "R8", "R40", "R41")

UUID = "zzzzz-ot0gb-000000000000000"
HALF = b'{"job_task":{"progress":0.5}}'
LONG_WAY = b"Accept-Language: *"
"""A header that says nothing to the server, and is of no known form."""


def request(
    body: bytes = HALF,
    *more: bytes,
    token: str | None = "a1",
    method: bytes = b"PATCH",
    uuid: str = UUID,
    length: int | None = None,
) -> bytes:
    """Return a report as the SDK sends it, with further lines of the head."""
    lines = [
        method + b" /arvados/v1/job_tasks/" + uuid.encode() + b" HTTP/1.1",
        b"Host: 127.0.0.1:1",
        b"Accept: application/json",
        b"Content-Type: application/json",
        b"Content-Length: %d" % (len(body) if length is None else length),
        *more,
    ]
    if token is not None:
        lines.insert(2, b"Authorization: Bearer " + token.encode())
    return b"\r\n".join((*lines, b"", body))


def test_what_the_sdk_sends_is_read() -> None:
    """All that it says."""
    found = reports.read(request())
    assert found == ("PATCH", f"/arvados/v1/job_tasks/{UUID}", UUID, "Bearer a1", HALF)
    plain = (b"User-Agent: x", b"Accept-Encoding: identity")
    assert reports.read(request(HALF, *plain, method=b"PUT", token=None)) is not None


@pytest.mark.parametrize(
    "data",
    [
        request(length=3),
        request(length=50),
        request()[:-1],
        request()[:60],
        request() + request(),
        request(b"x" * reports.BODY_BYTES_MAX),
        request(HALF, b"Transfer-Encoding: chunked"),
        request(HALF, b"Connection: close"),
        request(HALF, b"Expect: 100-continue"),
        request(HALF, b"Content-Type: application/json"),
        request(HALF, b"Content-Encoding: gzip"),
        request(HALF, b"X-Request-Id: mine"),
        request(HALF, b"If-None-Match: *"),
        request(HALF, b"X-HTTP-Method-Override: PUT"),
        request(HALF, b"User-Agent: \xff"),
        request(token="a\n5"),
        request(token="a" * 2000),
        request(method=b"POST"),
        request(method=b"DELETE"),
        request(uuid=UUID + ".json"),
        request(uuid=UUID + "?select=x"),
        request(uuid=UUID[:-1]),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"/job_tasks/", b"/jobs/"),
        request().replace(b"application/json", b"application/x-www-form-urlencoded"),
        b"",
    ],
)
def test_all_else_goes_the_long_way(data: bytes) -> None:
    """There it is judged."""
    assert reports.read(data) is None


@pytest.mark.parametrize("name", ["head_bytes_max", "headers_max", "body_bytes_max"])
def test_limits_below_the_form_close_the_short_way(name: str) -> None:
    """What it does not look at is never past a limit."""

    async def nobody(*_: Any) -> Any:
        raise AssertionError

    small = dataclasses.replace(Settings(), **{name: 7})
    assert bounded_by(Settings(), nobody, nobody).report is not None
    assert bounded_by(small, nobody, nobody).report is None


class Task:
    """A task that runs, and a connection on which requests about it go either way."""

    def __init__(self, api: Api) -> None:
        self.api = api
        api.job()
        given = api.node().next_assignment()
        self.uuid, self.token = given.task, given.token
        self.connect()

    def connect(self) -> None:
        """Have a connection."""
        self.socket = socket.create_connection(self.api.server.listener.getsockname())
        self.socket.settimeout(LIMIT_SECONDS)

    def receive(self) -> bytes:
        """Return what came; there is something."""
        data = self.socket.recv(1 << 16)
        assert data, "the connection was closed"
        return data

    def ask(self, body: bytes, *more: bytes, **how: Any) -> tuple[bytes, list[bytes], bytes]:
        """Return first line, headers in their order, and body of an answer."""
        self.socket.sendall(request(body, *more, **{"token": self.token, "uuid": self.uuid, **how}))
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.receive()
        head, _, content = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        length = next(int(line[16:]) for line in lines if line.startswith(b"content-length: "))
        while len(content) < length:
            content += self.receive()
        if b"connection: close" in lines:
            assert self.socket.recv(1) == b""
            self.socket.close()
            self.connect()
        return first, lines, content


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Task]:
    """A task of a server of this module's own: it runs all the time."""
    settings = dataclasses.replace(FAST, lease_seconds=600.0)
    server = LiveServer(tmp_path_factory.mktemp("reports"), settings)
    api = Api(server)
    found = Task(api)
    yield found
    found.socket.close()
    api.close()
    server.close()


DRAWN = (
    (re.compile(rb"(date|x-request-id): .*"), rb"\1"),
    (re.compile(rb'"(error_token|etag|modified_at)":"[^"]*"'), rb'"\1"'),
)
"""What is another in every answer."""


def shown(answer: tuple[bytes, list[bytes], bytes]) -> list[bytes]:
    """Return an answer without what is drawn anew, or a time."""
    first, lines, content = answer
    found = [first, *lines, content]
    for pattern, name in DRAWN:
        found = [pattern.sub(name, line) for line in found]
    return found


def spoken(**values: Any) -> bytes:
    return json.dumps(values).encode()


@pytest.mark.parametrize(
    ("body", "how"),
    [
        (HALF, {}),
        (HALF, {"method": b"PUT"}),
        (spoken(progress=0.25), {}),
        (spoken(success=True, output="é\n"), {}),
        (spoken(success=0, progress=None), {}),
        (spoken(jobTask={"success": "1", "output": None}), {}),
        (spoken(job_task='{"progress": 1}'), {}),
        (spoken(select=["progress", "uuid"], job_task={"progress": 0.5}), {}),
        (spoken(select=["nothing"], job_task={}), {}),
        (spoken(dry_run=True, progress=0.75), {}),
        (b"", {}),
        (b"{}", {}),
        (b"[]", {}),
        (b"{", {}),
        (b'{"progress": NaN}', {}),
        (b'{"output": "\\ud800"}', {}),
        (b'{"a":' * 200 + b"1" + b"}" * 200, {}),
        (spoken(job_task={"nothing": 1}), {}),
        (spoken(job_task=[1]), {}),
        (spoken(progress=1.5), {}),
        (spoken(progress=True), {}),
        (spoken(success="perhaps"), {}),
        (spoken(sequence=7), {}),
        (spoken(sequence=7), {"method": b"PUT"}),
        (spoken(sequence=0, state="todo", failed_count=3), {"method": b"PUT"}),
        (HALF, {"token": None}),
        (HALF, {"token": "a1"}),
        (HALF, {"token": "u1"}),
        (HALF, {"token": ADMIN}),
        (HALF, {"token": AGENT}),
        (HALF, {"token": f"a{7:011x}{7:038x}"}),
        (HALF, {"token": f"v2/{UUID}/{ADMIN}"}),
        (HALF, {"uuid": UUID}),
    ],
)
def test_answers_are_those_of_the_long_way(task: Task, body: bytes, how: dict[str, Any]) -> None:
    """Status, headers in their order, and content; and each is counted under its address."""
    assert reports.read(request(body, **how)) is not None
    requests = task.api.server.edge.meters.requests
    before = sum(count for key, count in requests.items() if key[1] == reports.ROUTE)
    short = task.ask(body, **how)
    long = task.ask(body, LONG_WAY, **how)
    assert shown(short) == shown(long)
    after = sum(count for key, count in requests.items() if key[1] == reports.ROUTE)
    assert after == before + 2
    assert task.api.server.edge.bodies.held_bytes == 0


def test_an_answer_is_the_record_as_it_is_then(task: Task) -> None:
    """It is not read again for that, and yet says what a reader is told."""
    for values in ({"progress": 0.5}, {"success": True, "progress": None}, {"output": "ö"}, {}):
        _, _, content = task.ask(spoken(job_task=values))
        assert json.loads(content) == task.api.get(f"job_tasks/{task.uuid}")


def test_several_reports_on_one_connection(task: Task) -> None:
    """Sent at once, they are answered in their order."""
    fields = {"token": task.token, "uuid": task.uuid}
    parts = [request(spoken(progress=n / 4), **fields) for n in range(4)]  # type: ignore[arg-type]
    task.socket.sendall(parts[0])
    task.socket.sendall(b"".join(parts[1:]))
    data = b""
    while data.count(b'"log":null}') < len(parts):
        data += task.receive()
    assert re.findall(rb'"progress":([0-9.]+)', data) == [b"0.0", b"0.25", b"0.5", b"0.75"]


@pytest.mark.parametrize("more", [(), (LONG_WAY,)])
def test_too_many_requests_and_bodies_are_refused(
    task: Task, monkeypatch: pytest.MonkeyPatch, more: tuple[bytes, ...]
) -> None:
    """Before anything is done."""
    edge = task.api.server.edge
    monkeypatch.setattr(edge.meters, "requests_open", edge.world.settings.requests_open_max)
    assert task.ask(HALF, *more)[0].startswith(b"HTTP/1.1 429")
    monkeypatch.setattr(edge.meters, "requests_open", 0)
    monkeypatch.setattr(edge.bodies, "held_bytes", edge.world.settings.bodies_bytes_max)
    assert task.ask(HALF, *more)[0].startswith(b"HTTP/1.1 429")


@pytest.mark.parametrize("more", [(), (LONG_WAY,)])
def test_our_mistakes_are_answered(
    task: Task, monkeypatch: pytest.MonkeyPatch, more: tuple[bytes, ...]
) -> None:
    """With the name that the log has."""

    def broken(*_: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("jobtasks.service.tasks.report", broken)
    first, lines, content = task.ask(HALF, *more)
    name = next(line[14:] for line in lines if line.startswith(b"x-request-id: "))
    assert first == b"HTTP/1.1 500 Internal Server Error"
    assert name in content and json.loads(content)["code"] == "internal"


def test_a_report_takes_three_statements(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends it, what the task is, and what is new; it is not read again for the answer."""
    seen: list[str] = []
    tx = task.api.server.store._writer._tx  # type: ignore[attr-defined]
    names = {tx.statements[name]: name for name in ("attempt_token", "task_by_uuid", "task_report")}
    execute = tx._execute

    def noted(statement: str, values: Any) -> Any:
        # The manager writes, too.
        seen.extend(filter(None, [names.get(statement)]))
        return execute(statement, values)

    monkeypatch.setattr(tx, "_execute", noted)
    assert task.ask(HALF)[0] == b"HTTP/1.1 200 OK"
    assert seen == list(names.values())


def test_the_process_ends_after_what_is_under_way(tmp_path: Path) -> None:
    """A report that was taken is answered, and its connection closed."""
    server = LiveServer(tmp_path, FAST)
    api = Api(server)
    found = Task(api)
    assert found.ask(HALF)[0] == b"HTTP/1.1 200 OK"
    api.close()
    server.close()
    assert found.socket.recv(1) == b""
    found.socket.close()
