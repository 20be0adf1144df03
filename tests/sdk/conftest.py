"""A scripted HTTP server, and this process made to look like a task of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from jobtasks_sdk import _connection, _records

JOB_UUID = "zzzzz-8i9sb-000000000000000"
TASK_UUID = "zzzzz-ot0gb-000000000000000"


@dataclass
class Request:
    """What the server was asked; `connection` tells kept connections apart."""

    method: str
    target: str
    fields: dict[str, str]
    body: Any
    connection: tuple[str, int]


@dataclass
class Reply:
    """What it says; `cut` closes the connection instead, `chunked` and `last` vary the framing."""

    body: Any = None
    status: int = 200
    fields: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    chunked: bool = False
    last: bool = False


class ScriptedServer:
    """Answers with the next reply of its script, or else with what `answer` makes of a request."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.script: list[Reply] = []
        self.answer: Callable[[Request], Reply] = lambda request: Reply({})
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.port: int = self._http.server_address[1]
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def reply(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.script.pop(0) if self.script else self.answer(request)

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _handler(server: ScriptedServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = server.reply(
                Request(
                    self.command,
                    self.path,
                    dict(self.headers),
                    json.loads(content) if content else None,
                    self.client_address,
                )
            )
            if reply.cut:
                self.close_connection = True
                return
            self.send(reply)

        def send(self, reply: Reply) -> None:
            body = json.dumps(reply.body).encode()
            self.send_response(reply.status)
            for name, value in reply.fields.items():
                self.send_header(name, value)
            if reply.chunked:
                self.send_header("Transfer-Encoding", "chunked")
                body = b"%x;x=y\r\n%b\r\n0\r\nTrailer: 1\r\n\r\n" % (len(body), body)
            else:
                self.send_header("Content-Length", str(len(body)))
            if reply.last:
                self.close_connection = True
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PATCH = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Keep stderr for the tests."""

    return Handler


@pytest.fixture
def scripted() -> Iterator[ScriptedServer]:
    """A server that says what the test wants it to say."""
    server = ScriptedServer()
    yield server
    if _connection._server is not None:
        _connection._server._connection.close()
    server.close()


@pytest.fixture(autouse=True)
def no_long_delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The delays that were asked for; none is waited."""
    delays: list[float] = []
    monkeypatch.setattr("time.sleep", delays.append)
    return delays


@pytest.fixture
def in_a_task(scripted: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> ScriptedServer:
    """The environment of a task of the scripted server."""
    _forget(monkeypatch)
    for name, value in {
        "JOBTASKS_URL": f"http://127.0.0.1:{scripted.port}",
        "ARVADOS_API_TOKEN": "attempt-token",
        "JOB_UUID": JOB_UUID,
        "TASK_UUID": TASK_UUID,
        "TASK_SEQUENCE": "0",
        "TASK_QSEQUENCE": "7",
    }.items():
        monkeypatch.setenv(name, value)
    return scripted


@pytest.fixture
def outside_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without any of a task's variables."""
    _forget(monkeypatch)
    for name in ("JOBTASKS_URL", "ARVADOS_API_TOKEN", "JOB_UUID", "TASK_UUID"):
        monkeypatch.delenv(name, raising=False)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_connection, "_server", None)
    monkeypatch.setattr(_records, "_job", None)
    monkeypatch.setattr(_records, "_task", None)


@pytest.fixture
def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
