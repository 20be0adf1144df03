"""Log entries through the Python client of Arvados, and its way of waiting for events."""

from __future__ import annotations

import gc
import threading
from typing import Any

import arvados.events
import pytest
from arvados.errors import ApiError

from .conftest import NOWHERE, Client, Connect, Record, names_in

EVENT_SECONDS = 60.0


def job_of(admin: Client) -> Record:
    """Return a new job that nothing runs."""
    body = {"command": ["true"], "runtime_constraints": NOWHERE}
    made: Record = admin.jobs().create(body=body).execute()
    return made


def test_entries_are_written_and_found(admin: Client) -> None:
    """By object, by type, in order; the time is the writer's when he gives one."""
    job = job_of(admin)
    given = {"event_type": "note", "object_uuid": job["uuid"], "properties": {"text": "hello"}}
    made = admin.logs().create(body={"log": given}).execute()
    assert made["object_kind"] == "arvados#job"
    assert made["properties"] == {"text": "hello"}
    about = ["object_uuid", "=", job["uuid"]]
    found = admin.logs().list(filters=[about], order=["id"]).execute()
    assert names_in(found, "event_type") == ["create", "note"]
    assert found["items"][1] == made == admin.logs().get(uuid=made["uuid"]).execute()
    notes = admin.logs().list(filters=[about, ["event_type", "=", "note"]]).execute()
    assert names_in(notes) == [made["uuid"]]


def test_case_9_147_logs_are_not_changed_or_deleted(admin: Client, http: Any) -> None:
    """By nobody, an administrator included: the methods are not there."""
    made = admin.logs().create(body={"summary": "stays"}).execute()
    assert not hasattr(admin.logs(), "update")
    for method in ("put", "patch", "delete"):
        assert getattr(http, method)(f"/arvados/v1/logs/{made['uuid']}").status_code == 405
    assert admin.logs().get(uuid=made["uuid"]).execute() == made


def test_case_9_150_logs_are_found_by_the_kind_of_object(admin: Client) -> None:
    """A filter on object_kind asks what the object's uuid is."""
    job = job_of(admin)
    filters = [["object_kind", "=", "arvados#job"], ["object_uuid", "=", job["uuid"]]]
    assert len(admin.logs().list(filters=filters).execute()["items"]) == 1
    filters[0][2] = "arvados#node"
    assert admin.logs().list(filters=filters).execute()["items"] == []


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_clients_own_way_of_waiting_hears_everything(admin: Client) -> None:
    """Without a websocket it asks for what came after the last id it saw."""
    heard: list[Record] = []
    ended = threading.Event()

    def take(event: Record) -> None:
        heard.append(event)
        if event.get("event_type") == "note":
            ended.set()

    job_of(admin)
    last = admin.logs().list(order="id desc", limit=1).execute()["items"][0]["id"]
    events = arvados.events.subscribe(admin, [], take, poll_fallback=0.1, last_log_id=last)
    try:
        jobs = [job_of(admin) for _ in range(3)]
        admin.logs().create(body={"event_type": "note"}).execute()
        assert ended.wait(EVENT_SECONDS), heard
    finally:
        events.close()
        events.join(EVENT_SECONDS)
        # Its thread leaves a connection to the collector, which is told of here and not later.
        del events
        gc.collect()
    created = [event["object_uuid"] for event in heard if event.get("event_type") == "create"]
    assert created == [job["uuid"] for job in jobs]


@pytest.mark.rule("R32")
def test_entries_of_others_are_not_found(admin: Client, connect: Connect) -> None:
    """As with everything that is not yours."""
    made = admin.logs().create(body={"summary": "mine"}).execute()
    user = admin.users().create(body={"username": "loglistener"}).execute()
    token = admin.api_client_authorizations().create(body={"owner_uuid": user["uuid"]}).execute()
    other = connect(token["api_token"])
    with pytest.raises(ApiError, match="404"):
        other.logs().get(uuid=made["uuid"]).execute()
    assert made["uuid"] not in names_in(other.logs().list().execute())
