"""Every refusal has one shape, its status code, and nothing stored."""

from __future__ import annotations

import re
import socket
from typing import Any

import httpx
import pytest
from tests.api.conftest import ADMIN, AGENT, Api

from jobtasks.core.errors import error_codes

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"
TOKENS = "/arvados/v1/api_client_authorizations"
NOBODY = "zzzzz-8i9sb-000000000000000"


def message_of(answer: httpx.Response, status: int) -> str:
    """Check the shape of an error and return its sentences."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"errors", "code", "error_token"}
    assert error_codes()[body["code"]] == status
    assert re.fullmatch(r"\d+\+[0-9a-f]{8}", body["error_token"])
    assert body["errors"]
    assert all(isinstance(sentence, str) and sentence for sentence in body["errors"])
    return "; ".join(body["errors"])


@pytest.mark.rule("R41")
@pytest.mark.parametrize("path", ["/", "/arvados/v1/nothing", "/arvados/v1/jobs/x/y", "/agent/v1"])
def test_unknown_addresses(api: Api, path: str) -> None:
    """404 with the shape of every error, also without a token."""
    with api.client(None) as nobody:
        for client in (api.http, nobody):
            assert message_of(client.get(path), 404) == "Path not found"


@pytest.mark.rule("R41")
def test_methods_that_an_address_does_not_take(api: Api) -> None:
    """405, and what it does take."""
    answer = api.http.delete(JOBS)
    message_of(answer, 405)
    assert "GET" in answer.headers["allow"]
    message_of(api.http.post(f"{JOBS}/{NOBODY}"), 405)


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer nonsense", "Basic abc", "OAuth2 " + "a" * 50, ADMIN],
)
@pytest.mark.parametrize(("method", "path"), [("GET", JOBS), ("POST", JOBS), ("GET", TASKS)])
def test_without_a_valid_token(api: Api, header: str | None, method: str, path: str) -> None:
    """401 Not logged in."""
    headers = {} if header is None else {"Authorization": header}
    answer = httpx.request(method, api.server.url + path, headers=headers)
    assert message_of(answer, 401) == "Not logged in"


@pytest.mark.rule("R41")
@pytest.mark.parametrize("header", [f"Bearer {ADMIN}", f"OAuth2 {ADMIN}", f"x OAuth2 {ADMIN}"])
def test_spellings_of_a_token(api: Api, header: str) -> None:
    """Old and new clients."""
    with api.client(None) as nobody:
        answer = nobody.get(JOBS, headers={"Authorization": header})
    assert answer.status_code == 200


@pytest.mark.rule("R32", "R41")
def test_a_token_in_parts_names_its_own_uuid(api: Api) -> None:
    """Of a person, an agent and an attempt; with another's UUID, or a part of it, it is unknown."""
    api.job()
    attempt = api.node().next_assignment().token
    uuids = {}
    for secret in (ADMIN, AGENT, attempt):
        with api.client(secret) as client:
            uuids[secret] = client.get(f"{TOKENS}/current").json()["uuid"]
    for secret, uuid in uuids.items():
        others = {*uuids.values(), "", "zzzzz-gj3su-0", uuid[:-1], uuid.upper()} - {uuid}
        for given, status in ((uuid, 200), *((other, 401) for other in others)):
            for spelled in (f"v2/{given}/{secret}", f"v2/{given}/{secret}/more"):
                with api.client(spelled) as client:
                    answer = client.get(f"{TOKENS}/current")
                assert answer.status_code == status, spelled
                assert status == 200 or message_of(answer, 401) == "Not logged in"


@pytest.mark.rule("R32")
def test_an_agents_token_is_no_persons(api: Api) -> None:
    """Default deny: an agent creates no job and sees none."""
    job = api.job()
    with api.client(AGENT) as client:
        message_of(client.post(JOBS, json={"command": ["true"]}), 403)
        message_of(client.get(f"{JOBS}/{job['uuid']}"), 404)
        assert client.get(JOBS).json()["items"] == []


@pytest.mark.rule("R32")
@pytest.mark.parametrize("path", ["join", "sync", "logs"])
def test_a_persons_token_is_no_agents(api: Api, path: str) -> None:
    """An administrator does not speak for an agent either; what cannot be read is 400."""
    import msgspec

    body = {
        "join": {
            "version": 1,
            "node": "n",
            "hostname": "h",
            "incarnation": "i",
            "slots": 1,
            "memory_kib": 1,
            "cores": 1,
            "scratch_mb": 1,
        },
        "sync": {"agent": 1, "number": 1},
        "logs": {"agent": 1, "chunks": []},
    }[path]
    address = f"/agent/v1/{path}"
    message_of(api.http.post(address, content=msgspec.msgpack.encode(body)), 403)
    for content in (b"\xff\xff", msgspec.msgpack.encode({"agent": "x"})):
        message_of(api.http.post(address, content=content), 403)
        with api.client(AGENT) as agent:
            message_of(agent.post(address, content=content), 400)


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"command=ls",
        b'{"command":["true"],"priority":NaN}',
        b'{"command":["true"],"priority":Infinity}',
        b'{"command":["true"],"priority":1e999}',
        b'{"command":["true"]} x',
        b"\xff",
        b'{"command":["\xff"]}',
        b'{"job":"{"}',
    ],
)
def test_bodies_that_are_not_json(api: Api, body: bytes) -> None:
    """400, and nothing is stored."""
    before = api.get("jobs", limit=0)["items_available"]
    assert "not valid JSON" in message_of(api.http.post(JOBS, content=body), 400)
    assert api.get("jobs", limit=0)["items_available"] == before


@pytest.mark.rule("R8")
@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        1,
        {"job": [1]},
        {"job": "[]"},
        {"job": {"paramaters": {}}},
        {"job": {"command": "ls"}},
        {"job": {"command": ["true"], "priority": "high"}},
        {"job": {"command": ["true"], "script_parameters": []}},
        {"job": {"command": ["true"], "runtime_constraints": {"max_nodes": "x"}}},
        {"job": {"command": ["tr\0ue"]}},
        {"select": ["nothing"], "command": ["true"]},
    ],
)
def test_values_that_a_job_refuses(api: Api, body: Any) -> None:
    """422, and nothing is stored."""
    before = api.get("jobs", limit=0)["items_available"]
    message_of(api.http.post(JOBS, json=body), 422)
    assert api.get("jobs", limit=0)["items_available"] == before


@pytest.mark.rule("R40")
def test_a_body_that_is_too_large(small: Api) -> None:
    """413, whether its size is announced or not, and nothing is stored."""
    body = b'{"command":["true"],"description":"' + b"x" * 3000 + b'"}'
    assert "2000 bytes" in message_of(small.http.post(JOBS, content=body), 413)
    pieces = (body[at : at + 100] for at in range(0, len(body), 100))
    message_of(small.http.post(JOBS, content=pieces), 413)
    assert small.get("jobs")["items"] == []


@pytest.mark.rule("R40")
def test_a_huge_body_is_refused_and_its_sender_reads_why(small: Api) -> None:
    """Thirty megabytes are read and dropped, not kept, and the answer arrives."""
    pieces = (b"x" * 65536 for _ in range(500))
    message_of(small.http.post(JOBS, content=pieces), 413)


@pytest.mark.rule("R40")
@pytest.mark.parametrize("opening", [b'{"a":', b"["])
@pytest.mark.parametrize("levels", [9, 300])
def test_a_body_that_is_nested_too_deep(small: Api, opening: bytes, levels: int) -> None:
    """413, by whatever it is nested."""
    closing = b"}" if opening.startswith(b"{") else b"]"
    inner = opening * (levels - 1) + b"1" + closing * (levels - 1)
    body = b'{"script_parameters":' + inner + b"}"
    assert "8 levels" in message_of(small.http.post(JOBS, content=body), 413)


@pytest.mark.rule("R40")
def test_nesting_that_no_parser_survives(api: Api) -> None:
    """A million brackets are an error like any other."""
    message_of(api.http.post(JOBS, content=b"[" * 1_000_000), 413)


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"limit": "-1"}, "Invalid value for limit parameter"),
        ({"filters": '[["x","=","y"]]'}, "Invalid attribute 'x' in filter"),
        ({"select": '["x"]'}, "Invalid attribute(s)"),
        ({"count": "x"}, "count parameter"),
    ],
)
@pytest.mark.parametrize("path", [JOBS, TASKS])
def test_lists_refuse_what_they_do_not_understand(
    api: Api, path: str, parameters: dict[str, str], message: str
) -> None:
    """422 with Arvados' sentence."""
    assert message in message_of(api.http.get(path, params=parameters), 422)


@pytest.mark.parametrize("value", ["soon", "-1", "nan", "inf"])
def test_a_wait_that_is_no_number(api: Api, value: str) -> None:
    """422."""
    job = api.job()
    message_of(api.http.get(f"{JOBS}/{job['uuid']}", params={"wait": value}), 422)


@pytest.mark.rule("R41")
@pytest.mark.parametrize("path", ["jobs", "job_tasks"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_members_that_do_not_exist(api: Api, path: str, method: str) -> None:
    """404; a HEAD has no body."""
    for uuid in (NOBODY, "1", "x" * 5000, "%00"):
        answer = api.http.request(method, f"/arvados/v1/{path}/{uuid}")
        assert answer.status_code == 404
        if method == "HEAD":
            assert answer.content == b""
        else:
            message_of(answer, 404)


@pytest.mark.rule("R41")
@pytest.mark.parametrize(("method", "path"), [("GET", JOBS), ("POST", "/agent/v1/sync")])
def test_an_unexpected_error_is_answered_in_the_same_shape(
    api: Api, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    """500 with a plain sentence that names the request; no traceback leaves the server."""

    def broken(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.server.store, "read", broken)
    answer = api.http.request(method, path, headers={"X-Request-Id": "req-mine"})
    message = message_of(answer, 500)
    assert "req-mine" in message
    assert "secret detail" not in answer.text
    monkeypatch.undo()
    assert api.http.get(JOBS).status_code == 200


def test_requests_that_are_no_http(api: Api) -> None:
    """A line of rubbish ends that connection and no other."""
    host, port = api.server.listener.getsockname()
    with socket.create_connection((host, port)) as connection:
        connection.sendall(b"rubbish\r\n\r\n")
        assert connection.recv(1000).startswith(b"HTTP/1.1 400")
    assert api.http.get("/healthz").json() == {"health": "OK"}
