"""``jobtasks node``: what is sent, what is printed; draining a real server's node."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]
PATH = "/nodes/zzzzz-7ekkf-000000000000abc"
NODE = {
    "uuid": PATH.removeprefix("/nodes/"),
    "hostname": "n1",
    "state": "live",
    "slots": 4,
    "free_slots": 3,
    "memory_kib": 4 * 1024**2,
    "free_memory_kib": 1024**2,
    "cores": 8,
    "attempts_live": 1,
    "last_ping_at": None,
    "draining": False,
    "draining_reason": None,
    "on_trial": False,
    "held_until": None,
    "held_reason": None,
    "kept_for": None,
}
SECONDS_MAX = 40.0
NEVER = threading.Event()


@pytest.fixture
def named(written: Any) -> Any:
    """A server that knows the node by its name."""
    written.says("GET", "/nodes", (200, {"items": [NODE], "limit": 100, "items_available": 1}))
    return written


def test_a_list_of_nodes(jobtasks: Run, named: Any) -> None:
    """By name: what is free of what; why it takes nothing; filters and order as of all lists."""
    held = {"held_until": "2030-01-01T00:00:00.500000000Z", "held_reason": "noise"}
    draining = {**NODE, "hostname": "n2", "state": "draining", "draining_reason": "disk", **held}
    tried = {**NODE, "hostname": "n3", "on_trial": True, "held_reason": "4 failed"}
    kept = {**NODE, "hostname": "n4", "kept_for": "job"}
    items = [NODE, draining, tried, kept]
    named.says("GET", "/nodes", (200, {"items": items, "limit": 100, "items_available": 4}))
    ended = jobtasks("node", "list", "--filter", "state!=gone", "--order", "slots desc")
    first, second, third, fourth = (line.split("  ") for line in ended.out.splitlines()[1:])
    assert [cell.strip() for cell in first if cell][:5] == [
        *("n1", "live", "3/4", "1.0/4.0", "8"),
    ]
    assert second[-1].strip() == "disk; until 2030-01-01 00:00:00 UTC: noise"
    assert third[-1].strip() == "on trial: 4 failed"
    assert fourth[-1].strip() == "kept for a job that waits for several nodes"
    query = named.calls[-1].query
    assert json.loads(query["filters"]) == [["state", "!=", "gone"]]
    assert json.loads(query["order"]) == ["slots desc"]
    assert jobtasks("node", "list", "-o", "id").out == 4 * f"{NODE['uuid']}\n"
    assert json.loads(named.calls[-1].query["order"]) == ["hostname", "uuid"]


def test_a_hold(jobtasks: Run, named: Any) -> None:
    """For a while, of several nodes; each is looked up before the first is held."""
    until = "2030-01-01T00:00:00.500000000Z"
    held = {**NODE, "state": "held", "held_until": until, "held_reason": "noise"}
    named.says("POST", f"{PATH}/hold", (200, held))
    ended = jobtasks("node", "hold", "n1", "--for", "2h", "--reason", "noise")
    assert ended.out == "n1 held (until 2030-01-01 00:00:00 UTC: noise); 1 attempt still running\n"
    assert named.calls[-1].body == {"seconds": 7200.0, "reason": "noise"}
    assert json.loads(jobtasks("node", "hold", "n1", "-o", "json").out) == [held]
    assert named.calls[-1].body == {"seconds": None, "reason": None}
    named.calls.clear()
    named.says("GET", "/nodes", (200, {"items": [NODE]}), (200, {"items": []}))
    assert jobtasks("node", "hold", "n1", "n9").code == 3
    assert {call.method for call in named.calls} == {"GET"}


def test_drain_release_and_delete(jobtasks: Run, named: Any) -> None:
    """One line each says what the node is now."""
    named.says("POST", f"{PATH}/drain", (200, {**NODE, "state": "draining"}))
    assert jobtasks("node", "drain", "n1").out == "n1 draining; 1 attempt still running\n"
    named.says("POST", f"{PATH}/release", (200, {**NODE, "attempts_live": 0}))
    assert jobtasks("node", "release", "n1").out == "n1 live\n"
    named.says("DELETE", PATH, (200, {**NODE, "state": "gone"}))
    assert jobtasks("node", "delete", "n1").out == "n1 deleted\n"
    named.says("DELETE", PATH, (422, {"errors": ["n1 is there"]}))
    ended = jobtasks("node", "delete", "n1")
    assert (ended.code, "n1 is there" in ended.err) == (2, True)


def test_what_would_happen(jobtasks: Run, named: Any) -> None:
    """--dry-run asks the server, says it, and waits for nothing."""
    named.says("POST", f"{PATH}/drain", (200, {**NODE, "state": "draining"}))
    ended = jobtasks("node", "drain", "n1", "--dry-run", "--wait")
    assert ended.out == "n1 would be draining; 1 attempt still running\n"
    assert named.calls[-1].query == {"dry_run": "true"}
    named.says("DELETE", PATH, (200, NODE))
    assert jobtasks("node", "delete", "n1", "--dry-run").out == "n1 would be deleted\n"
    assert named.calls[-1].query == {"dry_run": "true"}


def test_a_drain_that_waits(jobtasks: Run, named: Any) -> None:
    """Says what still runs whenever that has changed; ends when nothing does."""
    draining = {**NODE, "state": "draining"}
    named.says("POST", f"{PATH}/drain", (200, {**draining, "attempts_live": 2}))
    named.says(
        *("GET", PATH),
        (200, {**draining, "attempts_live": 2}),
        (200, draining),
        (200, {**draining, "state": "drained", "attempts_live": 0}),
    )
    ended = jobtasks("node", "drain", "n1", "--wait")
    assert (ended.code, ended.out) == (0, "n1 drained\n")
    assert ended.err.splitlines() == ["n1: 2 attempts still running", "n1: 1 attempt still running"]


def test_a_drain_that_waits_no_longer(jobtasks: Run, named: Any) -> None:
    """124, and the node goes on draining."""
    named.says("POST", f"{PATH}/drain", (200, {**NODE, "state": "draining"}))
    named.says("GET", PATH, (200, {**NODE, "state": "draining"}))
    ended = jobtasks("node", "drain", "n1", "--wait", "--timeout", "0.2")
    assert (ended.code, ended.out) == (124, "n1 draining; 1 attempt still running\n")


def test_what_runs_on_a_node(jobtasks: Run, named: Any) -> None:
    """With the name that `task` commands take."""
    job = "zzzzz-8i9sb-0000000000abcde"
    row = {"slot": 2, "state": "running", "job_uuid": job, "qsequence": 7, "number": 1}
    named.says("GET", f"{PATH}/attempts", (200, {"items": [{**row, "owner_uuid": "u"}]}))
    assert "abcde/7" in jobtasks("node", "attempts", "n1").out


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A server with a node of two slots; the environment names it."""
    state = tmp_path / "state"
    words = [sys.executable, "-m", "jobtasks.cli.main", "serve", "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(
        [*words, "--state", state, "--slots", "2", "--setting", "grace_seconds=0.2"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready, url = process.stdout.readline().split()[:2]
    assert ready == "ready"
    monkeypatch.setenv("JOBTASKS_URL", url)
    monkeypatch.setenv("JOBTASKS_TOKEN", (state / "admin.token").read_text().strip())
    yield
    process.terminate()
    process.communicate(timeout=SECONDS_MAX)


@pytest.mark.usefixtures("server")
def test_a_real_node_is_drained_and_released(jobtasks: Run, tmp_path: Path) -> None:
    """The drain waits for what runs there; what came meanwhile runs when it is released."""

    def run(*words: object) -> Any:
        ended = jobtasks(*words)
        assert ended.code == 0, ended
        return ended

    def nodes() -> Any:
        return json.loads(run("node", "list", "-o", "json").out)

    seen: Any = None
    deadline = time.monotonic() + SECONDS_MAX
    while not (seen := nodes()):
        assert time.monotonic() < deadline, seen
        NEVER.wait(0.05)
    name = seen[0]["hostname"]
    gate = tmp_path / "gate"
    wait = f"while ! test -e {gate}; do sleep 0.02; done"
    first = run("submit", "--", "sh", "-c", wait).out.strip()
    while not (seen := nodes()[0])["attempts_live"]:
        assert time.monotonic() < deadline, seen
        NEVER.wait(0.05)
    (running,) = json.loads(run("node", "attempts", name, "-o", "json").out)
    assert running["job_uuid"] == first
    threading.Timer(0.3, gate.touch).start()
    drained = run("node", "drain", name, "--reason", "new disk", "--wait")
    assert drained.out == f"{name} drained (new disk)\n"
    assert gate.exists()
    second = run("submit", "--", "true").out.strip()
    assert "new disk" in run("job", "explain", second).out
    assert run("node", "release", name).out == f"{name} live\n"
    assert run("wait", second).out == "Complete\n"
