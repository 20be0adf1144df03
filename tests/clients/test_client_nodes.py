"""Nodes through the client of Arvados: as its tools read them, and our methods beside."""

from __future__ import annotations

from typing import Any

import pytest
from arvados.errors import ApiError
from tests.api.conftest import Node

from .conftest import Connect, Playing, names_in

pytestmark = pytest.mark.rule("R41")
Client = Any


def test_nodes_as_arvados_tools_read_them(admin: Client, playing: Playing, node: Node) -> None:
    """What a scheduler looks at: state, size, when it was heard; filters on them."""
    busy = [["crunch_worker_state", "=", "busy"], ["status", "=", "running"]]
    (found,) = admin.nodes().list(filters=busy, order="last_ping_at desc").execute()["items"]
    assert found["kind"] == "arvados#node"
    assert found["info"]["slurm_state"] == "alloc"
    assert found["properties"]["total_cpu_cores"] == 2
    assert found["last_ping_at"] >= found["first_ping_at"]
    shown = admin.nodes().get(uuid=found["uuid"]).execute()
    assert (shown["uuid"], shown["slots"]) == (found["uuid"], node.slots)
    assert "ping_secret" not in str(shown)
    assert admin.jobs().get(uuid=playing.job["uuid"]).execute()["node_uuids"] == [found["uuid"]]


def test_nodes_are_steered_through_the_client(
    admin: Client, connect: Connect, playing: Playing
) -> None:
    """hold, drain, release, attempts; a user reads, and is refused to steer."""
    (node,) = admin.nodes().list(filters=[["attempts_live", ">", 0]]).execute()["items"]
    uuid = node["uuid"]
    (running,) = admin.nodes().attempts(uuid=uuid).execute()["items"]
    assert running["job_task_uuid"] == playing.uuid
    held = admin.nodes().hold(uuid=uuid, body={"seconds": 60, "reason": "noise"}).execute()
    assert (held["state"], held["held_reason"]) == ("held", "noise")
    assert admin.nodes().drain(uuid=uuid, body={}).execute()["state"] == "draining"
    assert admin.nodes().release(uuid=uuid).execute()["held"] is False
    user = admin.users().create(body={"user": {"username": "nodes-reader"}}).execute()
    body = {"owner_uuid": user["uuid"]}
    token = admin.api_client_authorizations().create(body=body).execute()["api_token"]
    reader = connect(token)
    assert uuid in names_in(reader.nodes().list().execute())
    with pytest.raises(ApiError) as refused:
        reader.nodes().hold(uuid=uuid, body={}).execute()
    assert refused.value.resp.status == 403
    with pytest.raises(ApiError) as refused:
        admin.nodes().delete(uuid=uuid).execute()
    assert refused.value.resp.status == 422
