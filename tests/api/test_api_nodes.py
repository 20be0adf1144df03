"""Nodes over HTTP: as Arvados' clients read them, and as administrators steer them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from jobtasks.core.resources import RESOURCES
from jobtasks.service.context import Context

BASE = "/arvados/v1/nodes"
LIMIT_SECONDS = 30.0
NEVER = threading.Event()


def own(api: Any, slots: int) -> tuple[Any, str]:
    """Return a new node and its uuid; no other of this server has so many slots."""
    node = api.node(slots)
    (record,) = api.get("nodes", filters=f'[["slots","=",{slots}]]')["items"]
    return node, record["uuid"]


def post(api: Any, path: str, body: Any = None, status: int = 200) -> Any:
    answer = api.http.post(f"{BASE}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def seen(what: str, look: Callable[[], Any]) -> Any:
    """Return the first true value that `look` gives, within a limit."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while not (found := look()):
        assert time.monotonic() < deadline, f"{what}; last seen: {found!r}"
        NEVER.wait(0.01)
    return found


@pytest.mark.rule("R41")
def test_a_node_has_the_attributes_of_the_table(lasting: Any) -> None:
    """In its order; those of Arvados, as its clients read them."""
    node, uuid = own(lasting, 3)
    record = lasting.get(f"nodes/{uuid}")
    assert list(record) == list(RESOURCES["nodes"].attributes)
    assert (record["kind"], record["href"]) == ("arvados#node", f"/nodes/{uuid}")
    assert uuid[6:11] == "7ekkf"
    assert record["properties"] == {
        "total_cpu_cores": 2,
        "total_ram_mb": 976,
        "total_scratch_mb": 1000,
    }
    assert (record["status"], record["crunch_worker_state"]) == ("running", "idle")
    assert record["info"] == {"slurm_state": "idle"}
    assert record["last_ping_at"] >= record["first_ping_at"]
    node.sync()
    assert lasting.get(f"nodes/{uuid}")["last_ping_at"] > record["last_ping_at"]
    page = lasting.get("nodes", filters='[["crunch_worker_state","=","idle"],["slots","=",3]]')
    assert page["kind"] == "arvados#nodeList"
    assert [item["uuid"] for item in page["items"]] == [uuid]
    assert lasting.get(f"nodes/{uuid}", select='["state"]') == {
        "kind": "arvados#node",
        "state": "live",
    }


def test_hold_and_release_over_http(lasting: Any) -> None:
    """JSON and forms; the answer is the node; a sync that waits gets work at the release."""
    node, uuid = own(lasting, 5)
    wish = {"runtime_constraints": {"max_tasks_per_node": 1}}
    held = post(lasting, f"{uuid}/hold", {"seconds": 3600, "reason": "noise"})
    assert (held["state"], held["held_reason"]) == ("held", "noise")
    assert held["held_until"] > held["modified_at"]
    answer = lasting.http.post(f"{BASE}/{uuid}/hold", data={"reason": "again"})
    assert (answer.json()["held_reason"], answer.json()["held_until"]) == ("again", None)
    others = [one for one in lasting.get("nodes")["items"] if one["uuid"] != uuid]
    for other in others:
        post(lasting, f"{other['uuid']}/drain")
    job = lasting.job(**wish)["uuid"]
    (reason,) = lasting.get(f"jobs/{job}/explain")["reasons"][:1]
    assert reason["code"] == "nodes_held"
    assert "until it is released: again" in reason["text"]
    waiting = threading.Thread(target=lambda: node.sync(wait_seconds=60))
    waiting.start()
    seats = lasting.server.edge.hub.seats
    seen("the sync waits", lambda: seats.waits(node.joined.agent, node.number))
    assert post(lasting, f"{uuid}/release")["state"] == "live"
    waiting.join(LIMIT_SECONDS)
    taken = list(node.running.values())
    assert [one.job for one in taken] == [job]
    (running,) = lasting.get(f"nodes/{uuid}/attempts")["items"]
    assert (running["job_uuid"], running["job_task_uuid"]) == (job, taken[0].task)
    assert (running["slot"], running["number"], running["sequence"]) == (taken[0].slot, 1, 0)
    node.end(taken[0].attempt)
    assert lasting.get(f"nodes/{uuid}/attempts")["items"] == []
    for other in others:
        post(lasting, f"{other['uuid']}/release")


def test_a_hold_that_passes_wakes_the_nodes(lasting: Any) -> None:
    """A sync that waits gets the work at that time, and not when it is sent again."""
    node, uuid = own(lasting, 6)
    others = [one["uuid"] for one in lasting.get("nodes")["items"] if one["uuid"] != uuid]
    for other in others:
        post(lasting, f"{other}/drain")
    begun = time.monotonic()
    post(lasting, f"{uuid}/hold", {"seconds": 0.5})
    job = lasting.job()["uuid"]
    orders = node.sync(wait_seconds=60)
    assert 0.4 < time.monotonic() - begun < 30
    assert [one.job for one in orders.start] == [job]
    assert lasting.get(f"nodes/{uuid}")["held_until"] is None
    node.end(orders.start[0].attempt)
    for other in others:
        post(lasting, f"{other}/release")


def test_a_node_is_deleted(lasting: Any) -> None:
    """When its agent has left; 422 before, 404 after."""
    node, uuid = own(lasting, 7)
    refused = lasting.http.delete(f"{BASE}/{uuid}")
    assert refused.status_code == 422
    assert "only a node whose agent is gone" in refused.json()["errors"][0]
    node.sync(leaving=True)
    assert lasting.http.delete(f"{BASE}/{uuid}").json()["state"] == "gone"
    for call in (f"nodes/{uuid}", f"nodes/{uuid}/attempts"):
        assert lasting.http.get(f"/arvados/v1/{call}").status_code == 404
    assert lasting.get("nodes", filters=f'[["uuid","=","{uuid}"]]')["items"] == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("hold", {"seconds": 0}),
        ("hold", {"seconds": "soon"}),
        ("hold", {"reason": 5}),
        ("drain", {"reason": ["x"]}),
    ],
)
def test_what_makes_no_sense_is_refused(lasting: Any, path: str, body: Any) -> None:
    """422 with a sentence, and the node as it was."""
    uuid = lasting.get("nodes")["items"][0]["uuid"]
    before = lasting.get(f"nodes/{uuid}")
    assert post(lasting, f"{uuid}/{path}", body, 422)["errors"]
    assert lasting.get(f"nodes/{uuid}") == before


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("PUT", "/x"), ("PATCH", "/x"), ("GET", "/x/hold")]
)
def test_nobody_makes_or_changes_nodes_by_hand(lasting: Any, method: str, path: str) -> None:
    """They join; what can be changed has a method of its own."""
    assert lasting.http.request(method, BASE + path, json={}).status_code in (404, 405)


def test_usage_over_http(lasting: Any) -> None:
    """The manager has noted it within its first tick; what is taken follows, a minute later."""
    _, uuid = own(lasting, 7)

    def noted() -> Any:
        return lasting.get(f"nodes/{uuid}/usage")["items"]

    lasting.server.run(lasting.server.edge.commit(forget_when))
    seen("the manager notes it", lambda: bool(noted()))
    (item,) = noted()
    assert item.keys() == {"at", "slots", "slots_taken", "memory_kib", "memory_taken_kib"}
    assert (item["slots"], item["slots_taken"], item["memory_taken_kib"]) == (7, 0, 0)
    assert item["memory_kib"] == lasting.get(f"nodes/{uuid}")["memory_kib"]


def forget_when(ctx: Context) -> None:
    """Let it be time to note how much of each node is taken."""
    ctx.tx.run("history_due", now=0, before=2**62)
