"""Run the command line in this process, and a server whose answers the test writes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import pytest

from jobtasks.cli.main import main

JOB = "zzzzz-8i9sb-00000000000000j"
TASK = "zzzzz-ot0gb-00000000000000t"


class Ended(NamedTuple):
    """How a command ended."""

    code: int
    out: str
    err: str


class Call(NamedTuple):
    """What the server was asked."""

    method: str
    path: str
    query: dict[str, str]
    token: str
    body: Any


Answer = tuple[int, Any]


class WrittenServer:
    """Answers each (method, path) with the next of its answers; the last one is repeated."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def says(self, method: str, path: str, *answers: Answer) -> None:
        self.answers[method, path] = list(answers)

    def answer(self, call: Call) -> Answer:
        self.calls.append(call)
        answers = self.answers.get((call.method, call.path))
        if not answers:
            return 404, {"errors": ["Path not found"]}
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def close(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


def _handler(server: WrittenServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def handle_any(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            status, body = server.answer(
                Call(
                    self.command,
                    parts.path.removeprefix("/arvados/v1"),
                    dict(parse_qsl(parts.query)),
                    self.headers.get("Authorization", ""),
                    json.loads(content) if content else None,
                )
            )
            encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Keep stderr for the tests."""

    return Handler


@pytest.fixture(autouse=True)
def nobody_elses_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test may touch the state or the server of the person who runs it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    for name in ("JOBTASKS_URL", "JOBTASKS_TOKEN", "JOBTASKS_DEBUG", "ARVADOS_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def jobtasks(capfdbinary: pytest.CaptureFixture[bytes]) -> Callable[..., Ended]:
    """The command line as a function of its words."""

    def run(*words: object) -> Ended:
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else -1, out.decode(), err.decode())

    return run


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[WrittenServer]:
    """A server that says what the test wrote; the environment names it."""
    server = WrittenServer()
    monkeypatch.setenv("JOBTASKS_URL", server.url)
    monkeypatch.setenv("JOBTASKS_TOKEN", "a-token")
    yield server
    server.close()


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """An executable file."""
    path = tmp_path / "a script.sh"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path
