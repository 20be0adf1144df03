"""Requests as old clients make them, and what Arvados' own tests ask of tokens and addresses."""

from __future__ import annotations

import json
import secrets
import socket
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from tests.system.conftest import wait_until

from .conftest import BASE, NOWHERE, Playing, Record, Site, names_in

TOKENS = f"{BASE}/api_client_authorizations"
CROSS_ORIGIN = "access-control-allow-origin"


def given(answer: httpx.Response) -> Record:
    """Return what a call answered that succeeded; its status is 200, whatever the call."""
    assert answer.status_code == 200, answer.text
    found: Record = answer.json()
    return found


def statuses(client: httpx.Client, *calls: tuple[str, str]) -> list[int]:
    return [client.request(method, BASE + path).status_code for method, path in calls]


@pytest.fixture
def job(http: httpx.Client) -> Any:
    """A queued job that nothing runs."""
    body = {"command": ["true"], "runtime_constraints": NOWHERE}
    made = given(http.post(f"{BASE}/jobs", json=body))
    yield made
    http.delete(f"{BASE}/jobs/{made['uuid']}")


@pytest.mark.rule("R41")
def test_case_9_11_a_list_by_post_with_many_uuids(http: httpx.Client, job: Record) -> None:
    """The clients for Perl and Workbench send every GET so."""
    uuids = [job["uuid"], *(f"zzzzz-8i9sb-{number:015d}" for number in range(199))]
    form = {"_method": "GET", "filters": json.dumps([["uuid", "in", uuids]])}
    assert names_in(given(http.post(f"{BASE}/jobs", data=form))) == [job["uuid"]]


def test_case_9_108_addresses_that_do_not_exist(site: Site) -> None:
    """A JSON error, without a token too."""
    with site.http() as nobody:
        for path in ("/shoes", "/shoes/1", "/jobs/1/shoes", "/collections", "/config"):
            for method in ("GET", "POST", "PUT", "DELETE"):
                answer = nobody.request(method, BASE + path)
                assert answer.status_code == 404, (method, path)
                assert answer.json()["errors"] == ["Path not found"]


def test_case_9_110_a_get_with_an_empty_content_type(site: Site, job: Record) -> None:
    """The client for Ruby sends one; over a plain socket, as no library would today."""
    parts = urlsplit(site.served.url)
    head = (
        f"GET //arvados/v1//jobs/{job['uuid']} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Authorization: OAuth2 {site.admin}\r\nContent-Type:\r\nConnection: close\r\n\r\n"
    )
    assert parts.hostname
    with socket.create_connection((parts.hostname, parts.port or 80), timeout=20) as connection:
        connection.sendall(head.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert job["uuid"].encode() in answer


def test_case_9_124_two_changes_have_two_times(http: httpx.Client, job: Record) -> None:
    """However quickly one follows the other."""
    path = f"{BASE}/jobs/{job['uuid']}"
    times = [job["modified_at"]]
    times += [given(http.put(path, json={"priority": n}))["modified_at"] for n in range(5)]
    assert times == sorted(set(times))


def new_user(http: httpx.Client) -> tuple[Record, Record]:
    """Return a new user and a token of his."""
    name = "case" + secrets.token_hex(4)
    user = given(http.post(f"{BASE}/users", json={"user": {"username": name}}))
    token = given(http.post(TOKENS, json={"owner_uuid": user["uuid"]}))
    return user, token


def scoped(http: httpx.Client, site: Site, *scopes: str) -> httpx.Client:
    """Return a client with a token of these scopes."""
    made = given(http.post(TOKENS, json={"scopes": list(scopes)}))
    return site.http(made["api_token"])


def test_case_9_127_a_scope_for_one_list(http: httpx.Client, site: Site) -> None:
    """Exactly that address; a slash at its end is no other."""
    with scoped(http, site, "GET /arvados/v1/users") as token:
        allowed = statuses(token, ("GET", "/users"), ("GET", "/users/"), ("HEAD", "/users"))
        calls = [("GET", "/users/current"), ("POST", "/users"), ("GET", "/jobs")]
        assert (allowed, statuses(token, *calls)) == ([200, 200, 200], [403, 403, 403])


def test_case_9_128_a_scope_for_what_is_below(http: httpx.Client, site: Site, job: Record) -> None:
    """Members, not the list."""
    with scoped(http, site, "GET /arvados/v1/jobs/") as token:
        member = f"/jobs/{job['uuid']}"
        assert statuses(token, ("GET", "/jobs"), ("GET", member)) == [403, 200]
        assert statuses(token, ("PUT", member), ("DELETE", member)) == [403, 403]


def test_case_9_129_several_scopes(http: httpx.Client, site: Site) -> None:
    """Each holds; the method of a request is the one that it asks to be taken for."""
    with scoped(http, site, "GET /arvados/v1/jobs", "POST /arvados/v1/users") as token:
        form = {"_method": "GET", "limit": "0"}
        assert token.post(f"{BASE}/jobs", data=form).status_code == 200
        assert statuses(token, ("GET", "/users"), ("POST", "/jobs")) == [403, 403]
        assert token.post(f"{BASE}/users", json={"user": {}}).status_code == 422


def test_case_9_130_no_scopes_at_all(http: httpx.Client, site: Site) -> None:
    """Nothing is allowed but to look at the token itself, as in later versions."""
    with scoped(http, site) as token:
        assert statuses(token, ("GET", "/jobs"), ("GET", "/users/current")) == [403, 403]
        assert given(token.get(f"{TOKENS}/current"))["scopes"] == []


def test_case_9_134_an_expired_token_is_unknown(http: httpx.Client, site: Site) -> None:
    """401, as if it had never been."""
    end = datetime.now(UTC) + timedelta(seconds=0.5)
    made = given(http.post(TOKENS, json={"expires_at": end.isoformat()}))
    with site.http(made["api_token"]) as token:
        wait_until("it expires", lambda: token.get(TOKENS).status_code == 401)
        assert token.get(TOKENS).json()["errors"] == ["Not logged in"]


def test_case_9_136_the_current_token(http: httpx.Client, site: Site, playing: Playing) -> None:
    """Of a person and of an attempt; 401 without one."""
    for secret in (site.admin, playing.token):
        with site.http(secret) as token:
            current = given(token.get(f"{TOKENS}/current"))
        assert current["kind"] == "arvados#apiClientAuthorization"
        assert secret not in json.dumps(current)
    with site.http() as nobody:
        assert nobody.get(f"{TOKENS}/current").status_code == 401


def test_case_9_138_a_token_for_another_user(http: httpx.Client, site: Site) -> None:
    """An administrator may, another may not."""
    ada, hers = new_user(http)
    grace, _ = new_user(http)
    assert hers["owner_uuid"] == ada["uuid"]
    with site.http(hers["api_token"]) as token:
        assert token.post(TOKENS, json={"owner_uuid": ada["uuid"]}).status_code == 200
        assert token.post(TOKENS, json={"owner_uuid": grace["uuid"]}).status_code == 403


def test_case_9_139_headers_for_pages_of_other_sites(http: httpx.Client, site: Site) -> None:
    """At the discovery document, at calls that succeed or fail, and at OPTIONS without a token."""
    discovery = "/discovery/v1/apis/arvados/v1/rest"
    with site.http() as nobody:
        asked = nobody.options(f"{BASE}/jobs")
        answers = [nobody.get(discovery), http.get(f"{BASE}/jobs"), nobody.get(f"{BASE}/jobs")]
    assert (asked.status_code, asked.text) == (200, "-")
    assert [answer.status_code for answer in answers] == [200, 200, 401]
    for answer in (asked, *answers):
        assert answer.headers[CROSS_ORIGIN] == "*"
        assert "PUT" in answer.headers["access-control-allow-methods"]
        assert "Authorization" in answer.headers["access-control-allow-headers"]


def test_case_9_140_a_session_is_no_token(site: Site) -> None:
    """What a browser sends by itself is never looked at."""
    with site.http() as nobody:
        nobody.cookies.set("_server_session", site.admin)
        nobody.cookies.set("arvados_api_token", site.admin)
        for answer in (nobody.get(f"{BASE}/jobs"), nobody.post(f"{BASE}/jobs", json={})):
            assert answer.status_code == 401
            assert answer.headers[CROSS_ORIGIN] == "*"


@pytest.mark.rule("R41")
@pytest.mark.parametrize("scheme", ["OAuth2", "Bearer"])
@pytest.mark.parametrize("parts", ["{secret}", "v2/{uuid}/{secret}", "v2/{uuid}/{secret}/more"])
def test_every_spelling_of_a_token(site: Site, http: httpx.Client, scheme: str, parts: str) -> None:
    """As clients have written it since 2013; in the address and in forms as well."""
    user, token = new_user(http)
    secret = parts.format(uuid=token["uuid"], secret=token["api_token"])
    with site.http() as nobody:
        headers = {"Authorization": f"{scheme} {secret}"}
        path = f"{BASE}/users/current"
        answers = [
            nobody.get(path, headers=headers),
            nobody.get(path, params={"api_token": secret}),
            nobody.post(path, data={"api_token": secret, "_method": "GET"}),
        ]
    assert [given(answer)["uuid"] for answer in answers] == [user["uuid"]] * 3


def test_case_9_122_uuids_are_given_by_the_server(http: httpx.Client, site: Site) -> None:
    """Nobody else gives one, administrators included."""
    _, token = new_user(http)
    work = {"command": ["true"], "runtime_constraints": NOWHERE}
    with site.http(token["api_token"]) as user:
        for client in (user, http):
            for uuid in ("zzzzz-8i9sb-000000000000001", "zzzzz-tpzed-000000000000001", "mine"):
                answer = client.post(f"{BASE}/jobs", json={"job": {**work, "uuid": uuid}})
                assert answer.status_code == 422, uuid
                assert "uuid" in answer.json()["errors"][0]
