"""Logs of jobs and tasks on the command line: whole, by stream, and as they grow."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import FAST, Api, LiveServer, Node

from jobtasks.cli.client import Client
from jobtasks.cli.log_reading import LogReader
from jobtasks.cli.logs import LinePrinter
from jobtasks.cli.state import Address
from jobtasks.protocol.frames import NOTE, STDERR, STDOUT, TASK, frame
from jobtasks.protocol.messages import Assignment

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server of the module's own."""
    live = LiveServer(tmp_path_factory.mktemp("logs"), FAST)
    yield live
    live.close()


@pytest.fixture
def api(server: LiveServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """A client; the environment names the server for the command line."""
    client = Api(server)
    monkeypatch.setenv("JOBTASKS_URL", server.url)
    monkeypatch.setenv("JOBTASKS_TOKEN", client.http.headers["authorization"].split()[1])
    yield client
    for job in client.get("jobs", filters='[["state","in",["Queued","Running"]]]')["items"]:
        client.http.post(f"/arvados/v1/jobs/{job['uuid']}/cancel")
    client.close()


def push(node: Node, attempt: int, *frames: bytes, offset: int = 0, final: bool = False) -> int:
    """Bring frames to the server; where the next ones belong."""
    data = b"".join(frames)
    node.push_log(attempt, data, offset, final)
    return offset + len(data)


def end(api: Api, node: Node, given: Assignment, log_bytes: int, success: bool = True) -> None:
    """Let an attempt report and end."""
    path = f"/arvados/v1/job_tasks/{given.task}"
    assert api.as_attempt(given).patch(path, json={"success": success}).status_code == 200
    node.end(given.attempt, log_bytes=log_bytes)


@pytest.fixture
def written_job(api: Api) -> str:
    """A seed with two attempts, and two children, the first of which failed."""
    job = str(api.job(runtime_constraints={"on_failure": "continue", "max_attempts": 3})["uuid"])
    node = api.node(slots=1)
    seed = node.next_assignment()
    push(node, seed.attempt, frame(STDERR, b"crash\n"), final=True)
    node.end(seed.attempt, exit_code=1, log_bytes=6)
    seed = node.next_assignment()
    push(node, seed.attempt, frame(STDOUT, b"one\ntw"), frame(STDOUT, b"o\n"), final=True)
    body = {"job_tasks": [{"command": ["x"]}] * 2}
    api.as_attempt(seed).post("/arvados/v1/job_tasks", json=body)
    end(api, node, seed, 8)
    for success in (False, True):
        child = node.next_assignment()
        text = b"child %d" % child.qsequence
        push(node, child.attempt, frame(NOTE, b"[note]\n"), frame(STDOUT, text), final=True)
        end(api, node, child, len(text), success)
    return job


def test_a_jobs_log_has_every_attempt_in_order(jobtasks: Run, written_job: str) -> None:
    """Each line with its task's number and its attempt's; a line without an end gets one."""
    children = [n for n in range(1, 9) if jobtasks("task", "show", f"@last/{n}").code == 0]
    first, second = children
    assert jobtasks("job", "log", written_job).out.splitlines() == [
        "0.1 | crash",
        "0.2 | one",
        "0.2 | two",
        f"{first}.1 | [note]",
        f"{first}.1 | child {first}",
        f"{second}.1 | [note]",
        f"{second}.1 | child {second}",
    ]
    assert jobtasks("logs").out == jobtasks("logs", "@last", "--follow").out
    assert jobtasks("logs", "--stderr").out == "0.1 | crash\n"
    assert f"{second}.1 | child {second}\n" in jobtasks("job", "log", "@last", "--stdout").out
    assert jobtasks("logs", "--failed").out == f"{first}.1 | [note]\n{first}.1 | child {first}\n"
    assert "\x1b[2m0.1 | \x1b[0mcrash" in jobtasks("logs", "--color", "always").out


def test_a_tasks_log_comes_as_it_is(jobtasks: Run, written_job: str) -> None:
    """The newest attempt's, or one that is named; `logs` takes jobs and tasks."""
    assert jobtasks("task", "log", "@last/0").out == "one\ntwo\n"
    assert jobtasks("logs", "@last/0", "--attempt", "1").out == "crash\n"
    assert jobtasks("logs", "@last/0", "--attempt", "1", "--stdout").out == ""
    task = jobtasks("task", "show", "@last/0", "-o", "id").out.strip()
    assert jobtasks("logs", task[-9:], "-f").out == "one\ntwo\n"
    for words in (["@last", "--attempt", "1"], ["@last/0", "--failed"], ["-f", "--failed"]):
        assert jobtasks("logs", *words).code == 2, words
    for words in (["@last/0", "--attempt", "3"], ["@last/0", "--attempt", "3", "-f"], ["zzz9z"]):
        assert jobtasks("logs", *words).code == 3, words


def test_a_log_is_followed_while_it_grows(api: Api) -> None:
    """Line by line, over a failed attempt, until the job has ended and its last bytes have come."""
    job = api.job(runtime_constraints={"max_attempts": 2})["uuid"]
    node = api.node(slots=1)
    seed = node.next_assignment()
    node.sync()
    place = push(node, seed.attempt, frame(STDOUT, b"first\nhalf a "))
    with following("logs", "-f", job) as shown:
        assert shown.readline() == b"0.1 | first\n"
        place = push(node, seed.attempt, frame(STDERR, b"err\n"), offset=place)
        assert shown.readline() == b"0.1 | err\n"
        push(node, seed.attempt, frame(STDOUT, b"line\n"), offset=place, final=True)
        assert shown.readline() == b"0.1 | half a line\n"
        node.end(seed.attempt, exit_code=1, log_bytes=22)
        again = node.next_assignment()
        end(api, node, again, 4)
        # The end is on record before the log has come: it is waited for.
        push(node, again.attempt, frame(STDOUT, b"done"), final=True)
        assert shown.read() == b"0.2 | done\n"


def test_a_task_is_followed_over_its_attempts(api: Api) -> None:
    """Bytes as they are, also of a line that has no end yet; one attempt when it is named."""
    job = api.job(runtime_constraints={"max_attempts": 2})["uuid"]
    node = api.node(slots=1)
    seed = node.next_assignment()
    node.sync()
    place = push(node, seed.attempt, frame(STDOUT, b"50 %"))
    with following("task", "log", "-f", f"{job}/0") as shown:
        assert shown.read(4) == b"50 %"
        push(node, seed.attempt, frame(STDOUT, b"\r99 %"), offset=place, final=True)
        assert shown.read(5) == b"\r99 %"
        node.end(seed.attempt, exit_code=1, log_bytes=9)
        with following("logs", "-f", f"{job}/0", "--attempt", "1") as first:
            assert first.read() == b"50 %\r99 %"
        again = node.next_assignment()
        push(node, again.attempt, frame(STDOUT, b"again"), final=True)
        end(api, node, again, 5)
        assert shown.read() == b"again"


class following:  # noqa: N801 - reads as a word
    """A command that follows, as a process of its own; it must end well by itself."""

    def __init__(self, *words: str) -> None:
        command = [sys.executable, "-m", "jobtasks.cli.main", *words]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ)
        )

    def __enter__(self) -> Any:
        return self._process.stdout

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is not None:
            self._process.kill()
        _, said = self._process.communicate(timeout=30)
        assert kind is not None or self._process.returncode == 0, said


def test_a_broken_answer_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    """What was shown is not asked for again; nothing is shown twice."""
    about = {"qsequence": 3, "attempt": 2, "state": "ended", "log_bytes": 8, "stored_bytes": 8}
    head = frame(TASK, json.dumps({**about, "log_removed_at": None}).encode())
    one, two = frame(STDOUT, b"one\n"), frame(STDOUT, b"two\n")
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.url.params["places"]))
        if len(asked) == 1:
            return httpx.Response(200, content=_cut(head + one + two[:-2]))
        return httpx.Response(200, content=head + two)

    out = io.BytesIO()
    with Client(lambda: Address("http://server", "t"), patience_seconds=5) as client:
        client._http = httpx.Client(transport=httpx.MockTransport(answer))
        reader = LogReader(client, "J", LinePrinter(out, None, True, False))
        reader.read([(3, 2)])
    assert out.getvalue() == b"3.2 | one\n3.2 | two\n"
    assert asked == [[[3, 2, 0]], [[3, 2, len(one)]]]
    assert reader.known[3, 2] == (True, True)


def _cut(content: bytes) -> Iterator[bytes]:
    yield content
    raise httpx.ReadError("cut")
