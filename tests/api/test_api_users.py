"""Users and tokens over HTTP: Arvados' names and shapes, secrets shown once, use noted."""

from __future__ import annotations

import secrets
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.resources import RESOURCES

BASE = "/arvados/v1"
TOKENS = f"{BASE}/api_client_authorizations"
NEVER = threading.Event()


def new_user(api: Any) -> Any:
    name = "u" + secrets.token_hex(6)
    answer = api.http.post(f"{BASE}/users", json={"user": {"username": name, "first_name": "A"}})
    assert answer.status_code == 200, answer.text
    return answer.json()


def new_token(api: Any, **attributes: Any) -> Any:
    answer = api.http.post(TOKENS, json={"api_client_authorization": attributes})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.rule("R41")
def test_records_have_the_attributes_of_the_table(api: Any) -> None:
    """In its order; a user's full name is made of the two."""
    user = new_user(api)
    assert list(user) == list(RESOURCES["users"].attributes)
    assert (user["kind"], user["full_name"]) == ("arvados#user", "A")
    token = new_token(api, owner_uuid=user["uuid"])
    assert list(token) == list(RESOURCES["api_client_authorizations"].attributes)
    assert token["kind"] == "arvados#apiClientAuthorization"
    assert (token["scopes"], token["role"]) == (["all"], "user")
    page = api.get("api_client_authorizations", filters=f'[["uuid","=","{token["uuid"]}"]]')
    assert page["kind"] == "arvados#apiClientAuthorizationList"
    assert page["items"] == [{**token, "api_token": None}]


@pytest.mark.rule("R32")
def test_a_secret_is_shown_once_and_not_to_be_cached(api: Any) -> None:
    """In the answer to the create; the tag of the record does not depend on it."""
    answer = api.http.post(TOKENS, json={"scopes": ["GET /"]})
    token = answer.json()
    assert len(token["api_token"]) == 50
    assert answer.headers["cache-control"] == "no-store"
    shown = api.get(f"api_client_authorizations/{token['uuid']}")
    assert shown == {**token, "api_token": None}
    assert api.http.delete(f"{TOKENS}/{token['uuid']}").json() == shown


@pytest.mark.rule("R32", "R41")
def test_both_forms_of_a_token_are_taken(api: Any) -> None:
    """The secret alone, and as newer clients write it."""
    token = new_token(api)
    for form in (token["api_token"], f"v2/{token['uuid']}/{token['api_token']}"):
        with api.client(form) as client:
            found = client.get(f"{TOKENS}/current").json()
            assert (found["uuid"], found["api_token"]) == (token["uuid"], None)


@pytest.mark.rule("R32")
@pytest.mark.parametrize(
    "path",
    [
        "/arvados/v1/jobs?x",
        "/arvados/v1//jobs",
        "/arvados/v1/jobs/",
        "/arvados/v1/jobs.json",
        "/arvados/v1/%6aobs",
    ],
)
def test_spellings_of_an_address_are_one_call(api: Any, path: str) -> None:
    """A scope is compared with the tidy path, without its query."""
    exact = new_token(api, scopes=["GET /arvados/v1/jobs"])["api_token"]
    below = new_token(api, scopes=["GET /arvados/v1/jobs/"])["api_token"]
    for secret, status in ((exact, 200), (below, 403)):
        with api.client(secret) as client:
            assert client.get(path).status_code == status


@pytest.mark.rule("R32")
def test_a_question_mark_in_a_name_does_not_shorten_the_call(api: Any) -> None:
    """What is compared with scopes is what finds the route."""
    secret = new_token(api, scopes=["GET /arvados/v1/jobs/x"])["api_token"]
    with api.client(secret) as client:
        assert client.get("/arvados/v1/jobs/x%3Fy").status_code == 403
        assert client.get("/arvados/v1/jobs/x%23y").status_code == 403
        assert client.get("/arvados/v1/jobs/x").status_code == 404


@pytest.mark.rule("R32")
def test_the_method_in_effect_is_what_scopes_judge(api: Any) -> None:
    """A POST that stands for a DELETE is a DELETE, one that stands for a GET is a GET."""
    job = api.job()
    secret = new_token(api, scopes=[f"POST {BASE}/jobs/{job['uuid']}", "GET /"])["api_token"]
    with api.client(secret) as client:
        path = f"{BASE}/jobs/{job['uuid']}"
        override = {"X-HTTP-Method-Override": "DELETE"}
        assert client.post(path, headers=override).status_code == 403
        assert client.post(path, data={"_method": "DELETE"}).status_code == 403
        assert client.post(path, data={"_method": "GET"}).status_code == 200
    assert api.get(f"jobs/{job['uuid']}")["uuid"] == job["uuid"]


@pytest.mark.rule("R32")
def test_who_may_not_create_jobs_learns_nothing_of_files(api: Any, tmp_path: Path) -> None:
    """The answer is the same whether a script exists."""
    (tmp_path / "there").write_text("#!/bin/sh\n")
    (tmp_path / "there").chmod(0o755)
    reader = new_token(api, scopes=["GET /"])["api_token"]
    for secret, status in ((reader, 403), ("u" + "0" * 49, 401)):
        with api.client(secret) as client:
            answers = [
                client.post(
                    f"{BASE}/jobs", json={"script": name, "script_version": str(tmp_path)}
                ).json()["errors"]
                for name in ("there", "missing")
            ]
            assert answers[0] == answers[1], status


def test_use_is_noted_soon_and_once_a_minute(api: Any) -> None:
    """Reads and writes note it after the answer; more of them within a minute change nothing."""
    token = new_token(api)
    where = f"api_client_authorizations/{token['uuid']}"
    seen = []
    with api.client(token["api_token"]) as client:
        for _ in range(3):
            assert client.get(f"{BASE}/jobs?limit=0").status_code == 200
            deadline = time.monotonic() + 10
            while (noted := api.get(where)["last_used_at"]) is None:
                assert time.monotonic() < deadline, "the use of the token was not noted"
                NEVER.wait(0.01)
            seen.append(noted)
    assert len(set(seen)) == 1


def test_names_are_taken_once(api: Any) -> None:
    """The second user of a name is refused, and the sentence says so."""
    user = new_user(api)
    answer = api.http.post(f"{BASE}/users", json={"username": user["username"]})
    assert (answer.status_code, "taken" in answer.text) == (422, True)


def test_users_and_tokens_are_not_deleted_or_changed(api: Any) -> None:
    """A user has jobs, so it stays; a token is as it was made until it is revoked."""
    user, token = new_user(api), new_token(api)
    assert api.http.delete(f"{BASE}/users/{user['uuid']}").status_code == 405
    for method in ("PUT", "PATCH"):
        assert api.http.request(method, f"{TOKENS}/{token['uuid']}", json={}).status_code == 405


def test_a_submit_id_is_its_users_own(api: Any) -> None:
    """Another user's job of the same submit_id is neither returned nor in the way."""
    name = secrets.token_hex(8)
    made = []
    for _ in range(2):
        secret = new_token(api, owner_uuid=new_user(api)["uuid"])["api_token"]
        with api.client(secret) as client:
            body = {"command": ["true"], "submit_id": name}
            answer = client.post(f"{BASE}/jobs", json=body)
            assert answer.status_code == 200, answer.text
            made.append(answer.json()["uuid"])
    assert made[0] != made[1]
