"""The Python client of Arvados, unchanged, over https: everything it can ask of these resources."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import arvados
import pytest
from arvados.errors import ApiError

from .conftest import NOWHERE, Client, Connect, Playing, Record, Site, names_in, text_of

Sent = list[tuple[str, str, Record]]
WORK = {"command": ["true"], "runtime_constraints": NOWHERE}
UNKNOWN = "zzzzz-8i9sb-000000000000000"


def test_the_client_starts_from_a_host_and_a_token(admin: Client, site: Site) -> None:
    """It finds every resource; of what is not here it is told nothing, and asks for nothing."""
    for name in ("jobs", "job_tasks", "users", "api_client_authorizations", "nodes"):
        assert hasattr(admin, name)
    assert admin._rootDesc["rootUrl"] == site.url + "/"
    assert admin.config() == {}
    assert admin.vocabulary() == {}


def test_the_client_starts_from_its_environment(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As most programs do."""
    monkeypatch.setattr(arvados.config, "_settings", None)
    monkeypatch.setenv("ARVADOS_API_HOST", site.host)
    monkeypatch.setenv("ARVADOS_API_TOKEN", site.admin)
    api = arvados.api("v1")
    assert api.users().current().execute()["is_admin"]
    api.close_connections()


def test_the_document_is_fetched_once_an_hour(
    site: Site, sent: Sent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each task of a job starts a client; all but the first find the document in the cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(3):
        api = arvados.api("v1", host=site.host, token=site.admin)
        assert api.users().current().execute()["is_active"]
        api.close_connections()
    asked = [address.partition("/v1/")[0] for _, address, _ in sent]
    assert asked == ["/discovery", *["/arvados"] * 3]


def test_one_connection_and_one_request_a_call(admin: Client, sent: Sent) -> None:
    """Nothing makes the client repeat a call or dial again."""
    job = admin.jobs().create(body=WORK).execute()
    connections = list(admin._http.connections.values())
    sockets = [connection.sock for connection in connections]
    for priority in range(20):
        admin.jobs().update(uuid=job["uuid"], body={"priority": priority}).execute()
        assert admin.jobs().get(uuid=job["uuid"]).execute()["priority"] == priority
    assert [connection.sock for connection in admin._http.connections.values()] == sockets
    assert [method for method, _, _ in sent] == ["POST", *["PUT", "GET"] * 20]
    names = [headers["x-request-id"] for _, _, headers in sent]
    assert len(set(names)) == len(names)
    admin.jobs().delete(uuid=job["uuid"]).execute()


@pytest.mark.rule("R41")
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_job_is_created_changed_cancelled_and_deleted(admin: Client, wrapped: bool) -> None:
    """Bodies wrapped and flat; success is what the client takes for one."""

    def body(**attributes: Any) -> Record:
        return {"job": attributes} if wrapped else attributes

    work = body(command=["true"], priority=3, runtime_constraints=NOWHERE)
    made = admin.jobs().create(body=work).execute()
    uuid = made["uuid"]
    assert (made["kind"], made["state"], made["priority"]) == ("arvados#job", "Queued", 3)
    assert admin.jobs().get(uuid=uuid).execute() == made
    changed = admin.jobs().update(uuid=uuid, body=body(description="later")).execute()
    assert changed["description"] == "later"
    assert changed["modified_at"] > made["modified_at"]
    cancelled = admin.jobs().cancel(uuid=uuid).execute()
    assert (cancelled["state"], cancelled["success"]) == ("Cancelled", False)
    assert admin.jobs().cancel(uuid=uuid).execute()["state"] == "Cancelled"
    assert admin.jobs().delete(uuid=uuid).execute()["uuid"] == uuid
    with pytest.raises(ApiError) as caught:
        admin.jobs().get(uuid=uuid).execute()
    assert caught.value.resp.status == 404


@pytest.mark.rule("R2", "R7", "R9")
@pytest.mark.parametrize("wrapped", [True, False])
def test_a_running_task_creates_reports_and_deletes(playing: Playing, wrapped: bool) -> None:
    """What scripts of crunch send: flat bodies with the creator's uuid, whole records back."""

    def body(**attributes: Any) -> Record:
        return {"job_task": attributes} if wrapped else attributes

    child = playing.child(
        **body(
            job_uuid=playing.job["uuid"],
            created_by_job_task_uuid=playing.uuid,
            sequence=1,
            parameters={"input": "abc+3", "empty": [], "nulls": [None]},
        )
    )
    assert (child["kind"], child["qsequence"]) == ("arvados#jobTask", 1)
    assert child["parameters"] == {"input": "abc+3", "empty": [], "nulls": [None]}
    assert playing.tasks().get(uuid=child["uuid"]).execute() == child
    assert playing.tasks().delete(uuid=child["uuid"]).execute()["uuid"] == child["uuid"]
    whole = playing.tasks().get(uuid=playing.uuid).execute()
    whole |= {"output": "said", "success": True}
    told = playing.tasks().update(uuid=playing.uuid, body=body(**whole)).execute()
    assert (told["output"], told["success"], told["progress"]) == ("said", True, 1.0)


def test_methods_have_their_old_names_too(playing: Playing) -> None:
    """index, show and destroy, as scripts from 2013 call them."""
    child = playing.child(sequence=1)
    assert playing.tasks().show(uuid=child["uuid"]).execute() == child
    mine = [["job_uuid", "=", playing.job["uuid"]], ["sequence", "=", 1]]
    assert names_in(playing.tasks().index(filters=mine).execute()) == [child["uuid"]]
    assert playing.tasks().destroy(uuid=child["uuid"]).execute() == child


def test_our_own_methods_are_there_as_well(playing: Playing, admin: Client) -> None:
    """Retry, attempts, explain and levels, with their arguments."""
    assert admin.job_tasks().attempts(uuid=playing.uuid).execute()["items"][0]["number"] == 1
    child = playing.child(sequence=1)
    reasons = admin.job_tasks().explain(uuid=child["uuid"]).execute()["reasons"]
    assert "creator" in [reason["code"] for reason in reasons]
    levels = admin.jobs().levels(uuid=playing.job["uuid"]).execute()["items"]
    assert [level["sequence"] for level in levels] == [0, 1]
    job = admin.jobs().create(body=WORK).execute()
    admin.jobs().cancel(uuid=job["uuid"], body={"reason": "a test"}).execute()
    assert "a test" in admin.jobs().get(uuid=job["uuid"]).execute()["log"]
    again = admin.jobs().retry(uuid=job["uuid"], body={"runtime_constraints": NOWHERE}).execute()
    assert again["state"] == "Queued"
    admin.jobs().cancel(uuid=job["uuid"]).execute()


def test_errors_are_the_clients_own(
    connect: Connect, playing: Playing, admin: Client, sent: Sent
) -> None:
    """The class that programs catch, the status, what was said; and no call is repeated."""
    calls = {
        (401, "Not logged in"): connect("u" + "9" * 49).users().current(),
        (403, "administrator"): playing.api.users().create(body={"username": "ada"}),
        (404, "Path not found"): admin.jobs().get(uuid=UNKNOWN),
        (422, "Invalid attribute"): admin.jobs().list(filters=[["nothing", "=", 1]]),
        (422, "sequence must be an integer"): playing.tasks().create(body={"sequence": "first"}),
        (422, "unknown attribute: nothing"): admin.jobs().create(body={"job": {"nothing": 1}}),
    }
    sent.clear()
    for (status, said), call in calls.items():
        with pytest.raises(ApiError) as caught:
            call.execute()
        assert caught.value.resp.status == status
        assert said in text_of(caught.value)
        assert said in str(caught.value)
    assert len(sent) == len(calls)
    with pytest.raises(TypeError):
        admin.jobs().list(nothing=1)


def test_users_come_and_are_listed(admin: Client, connect: Connect) -> None:
    """current, create, list, update; a user's own token sees that user alone."""
    root = admin.users().current().execute()
    assert (root["is_admin"], root["is_active"]) == (True, True)
    body = {"user": {"username": "grace", "email": "grace@example.org", "first_name": "Grace"}}
    grace = admin.users().create(body=body).execute()
    listed = admin.users().list(filters=[["username", "=", "grace"]]).execute()
    assert names_in(listed) == [grace["uuid"]]
    changed = admin.users().update(uuid=grace["uuid"], body={"last_name": "H"}).execute()
    assert changed["full_name"] == "Grace H"
    token = new_token(admin, owner_uuid=grace["uuid"])
    own = connect(token["api_token"])
    assert own.users().current().execute()["uuid"] == grace["uuid"]
    assert names_in(own.users().list().execute()) == [grace["uuid"]]


def new_token(api: Client, **attributes: Any) -> Record:
    body = {"api_client_authorization": attributes}
    found: Record = api.api_client_authorizations().create(body=body).execute()
    return found


def test_tokens_come_and_go(admin: Client, connect: Connect) -> None:
    """create, current, list, delete; in one part and in three; then 401."""
    token = new_token(admin, scopes=["all"], label="a test's")
    three = f"v2/{token['uuid']}/{token['api_token']}"
    for form in (token["api_token"], three):
        current = connect(form).api_client_authorizations().current().execute()
        assert current["uuid"] == token["uuid"]
    mine = admin.api_client_authorizations().list(filters=[["uuid", "=", token["uuid"]]]).execute()
    assert names_in(mine, "api_token") == [None], "a secret is shown once"
    admin.api_client_authorizations().delete(uuid=token["uuid"]).execute()
    with pytest.raises(ApiError) as caught:
        connect(three).users().current().execute()
    assert caught.value.resp.status == 401


def test_threads_share_a_client(admin: Client) -> None:
    """The client keeps a connection a thread; what they make is all there."""
    made: list[str] = []

    def work() -> None:
        for _ in range(5):
            body = {**WORK, "description": "by threads"}
            made.append(admin.jobs().create(body=body).execute()["uuid"])
        admin.close_connections()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = admin.jobs().list(filters=[["description", "=", "by threads"]]).execute()
    assert sorted(names_in(found)) == sorted(made)
    for uuid in made:
        admin.jobs().delete(uuid=uuid).execute()
