"""Telling others of ends, for real: POSTs to a receiver on loopback, commands as processes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import shlex
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from jobtasks.api.delivery import WORDS_BYTES_MAX, Courier
from jobtasks.core.notifying import COMMAND, SERVER, Notifying
from jobtasks.service.notices import Notice

SECRET = b"between us"
FACTS = {
    "delivery": "d-1",
    "uuid": "j-1",
    "state": "Failed",
    "owner_uuid": "u-1",
    "description": None,
    "href": "http://here/j-1",
    "log": "é" * 100,
}


class Post(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """Answers with the status of each path, `/200`, after `wait` is set when the path says so."""

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.wait = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.posts.append(Post(self.path, dict(self.headers), body))
                if self.path == "/hang":
                    receiver.wait.wait(30)
                    return
                self.send_response(int(self.path.split("/")[1]))
                self.send_header("Location", "/200/elsewhere")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep stderr for the tests."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self.wait.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""
    found = Receiver()
    yield found
    found.close()


def deliver(plan: Notifying, target: str, seconds: float = 20.0, **facts: Any) -> str | None:
    """Try once, as the server does; return what went wrong."""
    body = json.dumps({**FACTS, **facts}, ensure_ascii=False)
    notice = Notice(1, "d-1", "j-1", target, body, 0, 1)

    async def run() -> str | None:
        courier = Courier(plan, SECRET, seconds)
        try:
            return await courier.deliver(notice)
        finally:
            await courier.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(run())


def run(command: str, seconds: float = 20.0, **facts: Any) -> str | None:
    return deliver(Notifying(tuple(shlex.split(command))), COMMAND, seconds, **facts)


def test_a_post_proves_who_sent_it(receiver: Receiver) -> None:
    """JSON, its name in a header, and the signature of just these bytes."""
    assert deliver(Notifying(url=receiver.url + "/200"), SERVER) is None
    (post,) = receiver.posts
    assert json.loads(post.body) == FACTS
    assert post.headers["Content-Type"] == "application/json"
    assert post.headers["X-JobTasks-Delivery"] == "d-1"
    expected = hmac.new(SECRET, post.body, hashlib.sha256).hexdigest()
    assert post.headers["X-JobTasks-Signature"] == f"sha256={expected}"


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500])
def test_only_a_success_counts(receiver: Receiver, status: int) -> None:
    """A redirection is not followed: it could lead anywhere."""
    problem = deliver(Notifying(url=f"{receiver.url}/{status}"), SERVER)
    assert problem == f"answered {status}"
    assert [post.path for post in receiver.posts] == [f"/{status}"]


def test_addresses_that_are_not_allowed_are_not_called(receiver: Receiver) -> None:
    """Though an earlier server took them: what the administrator says now counts."""
    plan = Notifying(url="", allowed=(receiver.url + "/200",))
    assert deliver(plan, receiver.url + "/200/mine") is None
    assert "may call" in str(deliver(plan, receiver.url + "/404"))
    assert "any more" in str(deliver(plan, SERVER))
    assert "any more" in str(deliver(plan, COMMAND))
    assert [post.path for post in receiver.posts] == ["/200/mine"]


def test_nobody_there_and_nobody_answering(receiver: Receiver) -> None:
    """Both end in time, with a sentence."""
    assert deliver(Notifying(url=receiver.url + "/hang"), SERVER, 0.3) == "not done within 0.3 s"
    closed = Receiver()
    closed.close()
    assert "Connect" in str(deliver(Notifying(url=closed.url), SERVER))


def test_a_proxy_of_the_environment_is_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor its passwords."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert deliver(Notifying(url=receiver.url + "/200"), SERVER) is None


def test_a_command_gets_the_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As JSON on stdin and in its environment; words are words, and no secret of ours is there."""
    monkeypatch.setenv("JOBTASKS_TOKEN", "secret")
    monkeypatch.setenv("PLAIN", "kept")
    out = tmp_path / "out $HOME;"
    script = tmp_path / "script"
    script.write_text('#!/bin/sh\ncat > "$1"\nenv > "$1.env"\n')
    script.chmod(0o755)
    assert run(f"{script} {shlex.quote(str(out))}", description="a; b") is None
    assert json.loads(out.read_text())["log"] == FACTS["log"]
    found = dict(
        line.split("=", 1) for line in Path(f"{out}.env").read_text().splitlines() if "=" in line
    )
    ours = {name: text for name, text in found.items() if name.startswith("JOBTASKS")}
    assert ours == {
        "JOBTASKS_DELIVERY": "d-1",
        "JOBTASKS_JOB_UUID": "j-1",
        "JOBTASKS_JOB_STATE": "Failed",
        "JOBTASKS_JOB_OWNER_UUID": "u-1",
        "JOBTASKS_JOB_DESCRIPTION": "a; b",
        "JOBTASKS_JOB_HREF": "http://here/j-1",
    }
    assert found["PLAIN"] == "kept"


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("true", None),
        ("sh -c 'exit 3'", "exit code 3"),
        ("sh -c 'echo no such room >&2; exit 1'", "exit code 1: no such room"),
        ("sh -c 'kill -9 $$'", "signal 9"),
        ("/no/such/program", "No such file"),
        ("sh -c 'sleep 60 & exit 0'", None),
    ],
)
def test_how_a_command_ends(command: str, problem: str | None) -> None:
    """0 is delivered, also when it did not read its stdin; anything else is said with its words."""
    found = run(command, log="x" * 300_000)
    assert (found is None) == (problem is None), found
    assert (problem or "") in (found or "")


def state_of(pid: str) -> str:
    """Return the letter of a process's state, "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def test_a_command_has_a_limit_of_time(tmp_path: Path) -> None:
    """It is killed then with its children; what it says without end is not kept."""
    pids = tmp_path / "pids"
    command = f"sh -c 'sleep 60 & echo $! $$ > {pids}; yes >&2'"
    assert run(command, seconds=0.5) == "not done within 0.5 s"
    for pid in pids.read_text().split():
        deadline = time.monotonic() + 10
        while (state := state_of(pid)) not in ("", "Z", "X"):
            assert time.monotonic() < deadline, f"{pid} is {state}"
            time.sleep(0.01)
    said = run("sh -c 'head -c 1000000 /dev/zero | tr \"\\0\" x >&2; exit 1'")
    assert said is not None
    assert len(said) <= WORDS_BYTES_MAX + 20


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """However a try ends."""
    run("true")
    before = len(os.listdir("/proc/self/fd"))
    for command in ("true", "sh -c 'exit 1'", "/no/such/program", "sh -c 'sleep 9 & exit 0'"):
        run(command)
    run("sleep 60", seconds=0.1)
    assert len(os.listdir("/proc/self/fd")) == before
