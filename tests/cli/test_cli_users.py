"""``jobtasks user`` and ``jobtasks token``: what is sent, what is printed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobtasks.core.timestamps import parse_time

Run = Callable[..., Any]
ADA = {"uuid": "zzzzz-tpzed-000000000000abc", "username": "ada", "is_active": True}
TOKEN = {
    "uuid": "zzzzz-gj3su-000000000000abc",
    "owner_uuid": ADA["uuid"],
    "api_token": "the-secret",
    "scopes": ["GET /"],
    "role": "user",
    "label": None,
}


def test_the_secret_is_alone_on_stdout(jobtasks: Run, written: Any) -> None:
    """So that TOKEN=$(jobtasks token create) works; what people read is on stderr."""
    written.says("POST", "/api_client_authorizations", (200, TOKEN))
    ended = jobtasks("token", "create", "--read-only", "--label", "for the dashboard")
    assert (ended.code, ended.out) == (0, "the-secret\n")
    assert TOKEN["uuid"] in ended.err
    assert "the-secret" not in ended.err
    assert written.calls[-1].body == {
        "api_client_authorization": {
            "scopes": ["GET /"],
            "expires_at": None,
            "label": "for the dashboard",
        }
    }
    assert json.loads(jobtasks("token", "create", "-o", "json").out) == TOKEN
    assert written.calls[-1].body["api_client_authorization"]["scopes"] is None


def test_a_token_for_somebody_by_name(jobtasks: Run, written: Any) -> None:
    """The name is looked up; nobody of that name is an exit code of its own."""
    written.says("GET", "/users", (200, {"items": [ADA]}))
    written.says("POST", "/api_client_authorizations", (200, TOKEN))
    scope = "GET /arvados/v1/jobs/"
    assert jobtasks("token", "create", "--user", "ada", "--scope", scope).code == 0
    body = written.calls[-1].body["api_client_authorization"]
    assert (body["owner_uuid"], body["scopes"]) == (ADA["uuid"], [scope])
    written.says("GET", "/users", (200, {"items": []}))
    ended = jobtasks("token", "list", "--user", "bob")
    assert ended.code == 3
    assert "bob" in ended.err


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("2030-01-01", "2030-01-01T00:00:00Z"),
        ("2030-01-01T12:00:00+02:00", "2030-01-01T10:00:00Z"),
        ("2030-01-01T12:00:00Z", "2030-01-01T12:00:00Z"),
    ],
)
def test_when_a_token_ends(jobtasks: Run, written: Any, when: str, expected: str) -> None:
    """A time, UTC unless it names an offset."""
    written.says("POST", "/api_client_authorizations", (200, TOKEN))
    assert jobtasks("token", "create", "--expires", when).code == 0
    assert written.calls[-1].body["api_client_authorization"]["expires_at"] == expected


def test_how_long_a_token_lasts(jobtasks: Run, written: Any) -> None:
    """From now on; what is neither a time nor a duration is a usage error, and nothing is sent."""
    written.says("POST", "/api_client_authorizations", (200, TOKEN))
    ends = []
    for when in ("90s", "30m", "12h", "30d"):
        assert jobtasks("token", "create", "--expires", when).code == 0
        ends.append(parse_time(written.calls[-1].body["api_client_authorization"]["expires_at"]))
    lengths = [(end - ends[0]) / 1e6 + 90 for end in ends]
    assert lengths == pytest.approx([90, 1800, 43200, 2592000], abs=30)
    calls = len(written.calls)
    for when in ("soon", "3w", "-1d", "9" * 20 + "d", ""):
        assert jobtasks("token", "create", "--expires", when).code == 2
    assert len(written.calls) == calls


def test_lists_and_revocation(jobtasks: Run, written: Any) -> None:
    """Tables without secrets; revoke takes several."""
    listed = {**TOKEN, "api_token": None}
    written.says("GET", "/api_client_authorizations", (200, {"items": [listed]}))
    table = jobtasks("token", "list").out
    assert "GET /" in table
    assert "secret" not in table
    uuids = [TOKEN["uuid"], "zzzzz-gj3su-000000000000abd"]
    for uuid in uuids:
        written.says("DELETE", f"/api_client_authorizations/{uuid}", (200, {"uuid": uuid}))
    ended = jobtasks("token", "revoke", *uuids)
    assert (ended.code, ended.out) == (0, "".join(f"{uuid} revoked\n" for uuid in uuids))
    assert jobtasks("token", "revoke", "T3").code == 3
    assert jobtasks("token", "revoke").code == 2


def test_users_are_made_and_changed(jobtasks: Run, written: Any) -> None:
    """Only what the options say is sent."""
    written.says("POST", "/users", (200, ADA))
    ended = jobtasks("user", "create", "ada", "--email", "a@b", "--last-name", "L", "--admin")
    assert (ended.code, ended.out) == (0, f"{ADA['uuid']}\n")
    assert written.calls[-1].body == {
        "user": {"username": "ada", "email": "a@b", "last_name": "L", "is_admin": True}
    }
    written.says("PATCH", f"/users/{ADA['uuid']}", (200, ADA))
    written.says("GET", "/users", (200, {"items": [ADA]}))
    assert jobtasks("user", "change", "ada", "--inactive").code == 0
    assert written.calls[-1].body == {"user": {"is_active": False}}
    assert ADA["uuid"] in jobtasks("user", "list").out


def test_people_on_a_real_server(
    jobtasks: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made, let in, kept to reading, shut out; what the how-to tells people to do."""
    state = tmp_path / "state"
    assert jobtasks("run", "--state", state, "--", "true").code == 0
    job = jobtasks("job", "list", "--state", state, "-o", "json")
    assert jobtasks("user", "create", "ada", "--state", state).code == 0
    made = jobtasks("token", "create", "--user", "ada", "--read-only", "--state", state)
    secret = made.out.strip()
    token = json.loads(jobtasks("token", "list", "--state", state, "-o", "json").out)[0]
    assert (token["scopes"], token["api_token"]) == (["GET /"], None)
    (state / "admin.token").write_text(secret + "\n")
    # The next server knows the secret as ada's, whatever file it stands in.
    assert json.loads(jobtasks("job", "list", "--state", state, "-o", "json").out) == []
    refused = jobtasks("token", "revoke", token["uuid"], "--state", state)
    assert (refused.code, "scopes" in refused.err) == (2, True)
    assert json.loads(job.out)[0]["state"] == "Complete"
