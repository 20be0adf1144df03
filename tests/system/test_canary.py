"""Secrets stand where they must, and nowhere else: a broad day of a server, looked through."""

from __future__ import annotations

import contextlib
import functools
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.canary import found_in, leaks_in, leaks_in_processes, secrets_of

from .conftest import Acted, Api, Play, Served, Start, acting, environment, wait_until

HOOK_SECRET = "signing-" + "s3cr3t" * 5
BASE = "/arvados/v1"


class Receiver(BaseHTTPRequestHandler):
    """Takes what a server tells at a job's end."""

    heard: list[bytes]

    def do_POST(self) -> None:
        """Keep head and body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.heard.append(bytes(self.headers) + body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet."""


@pytest.fixture
def receiver() -> Iterator[tuple[str, list[bytes]]]:
    """An address, and what was sent there."""
    heard: list[bytes] = []
    http = HTTPServer(("127.0.0.1", 0), type("Heard", (Receiver,), {"heard": heard}))
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{http.server_address[1]}/hook", heard
    http.shutdown()
    thread.join()
    http.server_close()


def make_tokens(api: Api) -> dict[bytes, str]:
    """Return tokens of every kind, fresh: of a user, read-only, of an administrator, revoked."""
    user = {"user": {"username": "ada", "email": "ada@example.com"}}
    ada = api.post("/users", user)["uuid"]
    made = {
        "user's": {"owner_uuid": ada},
        "read-only": {"owner_uuid": ada, "scopes": ["GET /"]},
        "administrator's": {"label": "second"},
        "revoked": {},
    }
    found = {}
    for name, body in made.items():
        token = api.post("/api_client_authorizations", {"api_client_authorization": body})
        found[token["api_token"].encode()] = f"{name} token"
        if name == "revoked":
            assert api.status("DELETE", f"/api_client_authorizations/{token['uuid']}") == 200
    return found


def send_mistakes(url: str, token: str, job: str) -> None:
    """Send a token wherever clients put one, with requests that are refused."""
    headers = {"Authorization": f"Bearer {token}"}
    odd = {"Authorization": f"Bearer {token}", "X-Request-Id": "r", "Content-Type": "text/csv"}
    with httpx.Client(base_url=url + BASE, timeout=60) as http:
        for path in ("/jobs", f"/jobs/{job}", "/nothing", "/jobs/none/output", "/job_tasks"):
            http.get(path, params={"api_token": token, "filters": "]["})
            http.post(path, data={"api_token": token, "job": "{", "_method": "GET"})
            http.post(path, content=b"{" + token.encode(), headers=headers)
            http.put(path, json={"job": {"nothing": 1}}, headers=odd)
            http.get(path, headers={"Authorization": f"OAuth2 v2/zzzzz/{token}x"})
            http.post(path, json={}, headers={**headers, "Idempotency-Key": "k" * 200})
        http.get(f"{url}/agent/v1/join?api_token={token}")
        http.post(f"{url}/agent/v1/sync", content=b"\x00" + token.encode(), headers=headers)


def pages(url: str, admin: str) -> Iterator[tuple[str, bytes]]:
    """Yield every page that can be read, about whatever there is, as an administrator sees it."""
    headers = {"Authorization": f"Bearer {admin}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        for path, item in http.get("/openapi.json").json()["paths"].items():
            if "get" not in item or path.startswith("/agent/"):
                continue
            collection, _, rest = path.partition("/{uuid}")
            items = http.get(collection).json().get("items", []) if "/{uuid}" in path else [{}]
            for record in items:
                place = f"{collection}/{record['uuid']}{rest}" if record else path
                # A stream tells what it has, and ends.
                answer = http.get(place, params={"wait": 0, "cursor": 0})
                assert answer.status_code in (200, 404, 422), (place, answer.text)
                yield place, bytes(str(answer.headers), "utf-8") + answer.content


def said(served: Served, *words: str) -> bytes:
    """Return what a command printed."""
    command = [sys.executable, "-m", "jobtasks.cli.main", *words, "--state", str(served.state)]
    done = subprocess.run(command, capture_output=True, env=environment(), timeout=60, check=False)
    return done.stdout + done.stderr


@contextlib.contextmanager
def own_agent(served: Served, folder: Path) -> Iterator[None]:
    """Run a second node, by the file with the agents' token."""
    words = [sys.executable, "-m", "jobtasks.cli.main", "agent", "--server", served.url]
    words += ["--token-file", str(served.state / "agent.token"), "--slots", "1"]
    with (folder / "agent.stderr").open("wb") as log:
        process = subprocess.Popen(
            [*words, "--node-dir", str(folder / "node")], stderr=log, env=environment()
        )
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(30) == 0


Look = Callable[[bytes], list[str]]


@pytest.mark.rule("R32", "R38")
def test_no_secret_is_anywhere_else(
    start: Start, tmp_path: Path, receiver: tuple[str, list[bytes]]
) -> None:
    """In no log, database, page, notice, answer, command line or environment of others."""
    (tmp_path / "hook.secret").write_text(HOOK_SECRET)
    options = ["--slots", "2", "--notify-url", receiver[0], "--listen-tls", "127.0.0.1:0"]
    served = start(*options, "--notify-secret-file", str(tmp_path / "hook.secret"))
    gate = str(tmp_path / "gate")
    with served.api() as api, own_agent(served, tmp_path):
        made = make_tokens(api)
        failing: Play = [["create", acting(["say", "alas"], ["end", 1])], ["complete"]]
        Acted(api, tmp_path, failing, constraints={"max_attempts": 2}).final("Failed")
        api.final(api.post("/jobs", {"command": ["/no/such/program"]})["uuid"])
        cancelled = api.post("/jobs", {"command": ["sleep", "60"]})["uuid"]
        api.post(f"/jobs/{cancelled}/cancel", {"reason": "enough"})
        job = Acted(api, tmp_path, [["await_file", gate], ["complete"]])
        job.noted("start")
        secrets = {**secrets_of(served.state), **made, HOOK_SECRET.encode(): "webhook's secret"}
        assert len([name for name in secrets.values() if name.startswith("token of")]) >= 5
        admin = (served.state / "admin.token").read_text().strip()
        for token in (admin, *(token.decode() for token in made)):
            send_mistakes(served.url, token, job.uuid)
        assert leaks_in_processes(secrets) == []
        look = functools.partial(found_in, secrets=secrets)
        assert [(place, look(page)) for place, page in pages(served.url, admin) if look(page)] == []
        check_commands(served, job, look)
        Path(gate).touch()
        job.final()
        wait_until("notices", lambda: len(receiver[1]) >= 4)
    assert look(b"".join(receiver[1])) == []
    assert served.end()[0] == 0
    (tmp_path / "hook.secret").unlink()
    logs = [path for path in tmp_path.rglob("*") if served.state not in path.parents]
    assert leaks_in(served.state, {**secrets, **secrets_of(served.state)}, logs) == []


def check_commands(served: Served, job: Acted, look: Look) -> None:
    """Look through what commands print, debug traces included."""
    task = job.seed["uuid"]
    for words in (
        *(("job", "list"), ("job", "show", job.uuid), ("job", "explain", job.uuid)),
        *(("job", "tasks", job.uuid), ("task", "show", task), ("task", "explain", task)),
        *(("token", "list"), ("user", "list"), ("node", "list"), ("job", "show", "none")),
    ):
        printed = said(served, *words)
        assert printed
        assert look(printed) == [], words


@pytest.mark.parametrize("where", ["file", "database", "process"])
def test_the_search_finds_what_is_there(start: Start, tmp_path: Path, where: str) -> None:
    """A token that a task writes down, keeps as its output, or gives to another's command line."""
    served = start("--slots", "1")
    with served.api() as api:
        child = tmp_path / "child"
        program = {
            "file": "printenv ARVADOS_API_TOKEN",
            "database": "printenv ARVADOS_API_TOKEN >&2; exit 1",
            "process": f"env -i sh -c 'sleep 60' $ARVADOS_API_TOKEN & wait; touch {child}",
        }[where]
        job = api.post("/jobs", {"command": ["sh", "-c", program]})["uuid"]
        if where == "process":
            wait_until("a leak", lambda: leaks_in_processes(secrets_of(served.state)))
            api.post(f"/jobs/{job}/cancel")
        else:
            api.final(job)
            secrets = secrets_of(served.state)
            suffix = {"file": ".log: token of attempt 1", "database": ": token of attempt 1"}
            leaks = wait_until("a leak", lambda: leaks_in(served.state, secrets))
            assert any(leak.endswith(suffix[where]) for leak in leaks)
            assert any(("jobtasks.db" in leak) == (where == "database") for leak in leaks)
        assert served.end()[0] == 0
    # What is spilt here would be found at the end of every test.
    shutil.rmtree(served.state)
