"""Several real nodes: how they join, tasks that take more than one, what explain says of them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Acted, Served, Start, acting, end_keeper, environment, wait_until
from .nodes import AddNode, Node, await_nodes, live_nodes, nodes_of
from .witness import Record

HOST = os.uname().nodename
AGENT = [sys.executable, "-m", "jobtasks.cli.main", "agent"]


@pytest.fixture
def served(start: Start) -> Served:
    return start("--no-agent")


@pytest.fixture
def add_node(served: Served, tmp_path: Path) -> Iterator[AddNode]:
    with nodes_of(served, tmp_path) as add:
        yield add


def explained(served: Served, kind: str, uuid: str) -> Record:
    """Return the one reason that the command line gives, as JSON; its text must say the same."""
    found, text = (said(served, kind, "explain", uuid, "-o", form) for form in ("json", "table"))
    (reason,) = json.loads(found)["reasons"]
    assert text.splitlines()[0] == reason["text"]
    return dict(reason)


def said(served: Served, *words: str) -> str:
    """Return what the command line prints."""
    command = [sys.executable, "-m", "jobtasks.cli.main", *words, "--state", str(served.state)]
    return subprocess.run(
        command, capture_output=True, check=True, text=True, env=environment()
    ).stdout


def test_a_node_joins_with_a_token(served: Served, tmp_path: Path) -> None:
    """As a word or on stdin; it is kept for its owner alone, and no list of processes has it."""
    token = (served.state / "agent.token").read_text().strip()
    places = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data")}
    for number, words in enumerate((["--join", token], ["--join", "-"], [])):
        node = subprocess.Popen(
            [*AGENT, "--server", served.url, "--slots", "1", *words],
            stdin=subprocess.PIPE,
            env=environment(**places),
            text=True,
        )
        assert node.stdin is not None
        node.stdin.write(f"{token}\n")
        node.stdin.close()
        with served.api() as api:
            wait_until("the node", lambda: live_nodes(api) == 1)
            assert token not in Path(f"/proc/{node.pid}/cmdline").read_text()
            assert api.final(api.post("/jobs", {"command": ["true"]})["uuid"])["success"]
            node.send_signal(signal.SIGTERM)
            assert node.wait() == 0
            wait_until("its end", lambda: live_nodes(api) == 0)
            assert len(api.get("/nodes")["items"]) == 1, number
    kept = tmp_path / "data" / "jobtasks-node" / "agent.token"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Missing option '--join'"),
        (["--join", "x", "--token-file", "y"], "not both"),
        (["--join", " "], "the token is empty"),
    ],
)
def test_a_token_is_needed(tmp_path: Path, words: list[str], message: str) -> None:
    ended = subprocess.run(
        [*AGENT, "--server", "http://127.0.0.1:9", "--node-dir", str(tmp_path / "node"), *words],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert not (tmp_path / "node").exists()


@pytest.mark.rule("R25", "R31", "R38")
def test_a_task_of_three_nodes(served: Served, add_node: AddNode, tmp_path: Path) -> None:
    """It gathers them, says so, and starts with one slot on each when all have one free."""
    gate = tmp_path / "gate"
    waits = acting(["await_file", str(gate)], ["complete"], sequence=1)
    wide = {
        "command": ["sh", "-c", f"echo $TASK_NODES > {tmp_path}/nodes"],
        "runtime_constraints": {"min_nodes": 3},
        "sequence": 1,
    }
    for name in ("a", "b", "c"):
        add_node(name)
    with served.api() as api:
        await_nodes(api, 3)
        job = Acted(api, tmp_path, [["create", waits, wide], ["complete"]])
        job.noted("start", 2)
        task = wait_until("the task of three nodes", lambda: job.tasks(qsequence=2))[0]["uuid"]
        reason = wait_until(
            "two kept nodes",
            lambda: two_kept(explained(served, "task", task)),
        )
        assert reason["code"] == "gang_gathering"
        other = api.post("/jobs", {"command": ["true"]})["uuid"]
        wait_until("it runs", lambda: api.get(f"/jobs/{other}")["running"])
        codes = {row["code"] for row in api.get(f"/jobs/{other}/explain")["reasons"]}
        assert codes == {"nodes_busy", "nodes_kept"}
        gate.touch()
        assert api.final(job.uuid)["success"]
        assert api.final(other)["success"]
        (attempt,) = api.get(f"/job_tasks/{task}/attempts")["items"]
        assert (attempt["node"], attempt["other_nodes"]) == (HOST, [HOST, HOST])
        (single,) = api.get(f"/jobs/{other}/attempts")["items"]
        assert (single["node"], single["other_nodes"]) == (HOST, [])
        assert f"{HOST}+{HOST}+{HOST}" in said(served, "task", "attempts", task)
    hosts = (tmp_path / "nodes").read_text().split()
    assert hosts == [HOST] * 3


def two_kept(reason: Record) -> Record | None:
    return reason if len(reason["details"].get("nodes", ())) == 2 else None


@pytest.mark.rule("R25")
def test_a_node_of_a_gang_is_lost(served: Served, add_node: AddNode, tmp_path: Path) -> None:
    """The process elsewhere is ended, and the task starts again on nodes that are there."""
    wide = {"runtime_constraints": {"min_nodes": 2}}
    gate = tmp_path / "gate"
    nodes = {name: add_node(name) for name in ("a", "b")}
    with served.api() as api:
        await_nodes(api, 2)
        task = acting(["await_file", str(gate)], ["complete"], **wide)
        task["parameters"]["attempts"] *= 2
        job = Acted(api, tmp_path, [["create", task], ["complete"]])
        job.noted("start", 2)
        (uuid,) = [one["uuid"] for one in job.tasks(sequence=1)]
        first = wait_until("its first node", lambda: first_node(nodes, uuid))
        seat = next(name for name in nodes if name != first)
        end_keeper(nodes[seat].state)
        add_node("c")
        job.noted("start", 3)
        gate.touch()
        job.final()
        one, two = api.attempts(uuid)
        assert (one["cause"], two["cause"]) == ("agent_lost", "exit")
        assert "a node of its gang is gone" in one["reason"]


def first_node(nodes: dict[str, Node], task: str) -> str | None:
    """Return on which node the process of a task runs."""
    for name, node in nodes.items():
        state = node.state
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                text = path.read_bytes()
            except OSError:
                continue
            if f"TASK_UUID={task}".encode() in text and f"TASK_WORK={state}/".encode() in text:
                return name
    return None
