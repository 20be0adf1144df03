"""Why a task waits where there are several nodes: avoided and held ones, in text and JSON (R31)."""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path

import pytest

from .conftest import QUICK, Acted, Api, Play, Start, wait_until
from .nodes import await_nodes, nodes_of
from .test_explain_for_real import Asked, explained
from .witness import Record

CORES = os.sched_getaffinity(0)
SETTINGS = {**QUICK, "hold_seconds": 600.0}


def waits_for(api: Api, task: str, *codes: str) -> bool:
    """Whether these are the reasons why a task waits."""
    reasons = api.get(f"/job_tasks/{task}/explain")["reasons"]
    return tuple(reason["code"] for reason in reasons) == codes


def states(api: Api) -> list[str]:
    """Return the states of the nodes, that of the largest first."""
    nodes = sorted(api.get("/nodes")["items"], key=lambda node: -int(node["cores"]))
    return [node["state"] for node in nodes]


def node_with(api: Api, task: str) -> str | None:
    """Return the uuid of the node on which a task runs."""
    for node in api.get("/nodes")["items"]:
        items = api.get(f"/nodes/{node['uuid']}/attempts")["items"]
        if any(item["job_task_uuid"] == task for item in items):
            return str(node["uuid"])
    return None


def only_node(reason: Record) -> Record:
    """Return the one node that a reason tells of."""
    assert reason["details"]["nodes_total"] == 1
    (node,) = reason["details"]["nodes"]
    return dict(node)


@pytest.mark.rule("R12", "R31")
def test_a_node_on_which_the_task_failed(start: Start, tmp_path: Path) -> None:
    """It is free, and avoided until a time; the other is busy; a third one takes the task."""
    served = start("--no-agent", settings=SETTINGS)
    gate = tmp_path / "gate"
    with nodes_of(served, tmp_path) as add, served.api() as api:
        asked = Asked(served.state, api)
        add("one")
        add("two")
        await_nodes(api, 2)
        blocker = Acted(api, tmp_path, [["await_file", str(gate)], ["complete"]])
        blocker.noted("start")
        busy = node_with(api, blocker.seed["uuid"])
        job = Acted(api, tmp_path, [["end", 1]], [["complete"]])
        task = job.seed["uuid"]
        wait_until(
            "its delay is over", partial(waits_for, api, task, "nodes_busy", "nodes_avoided")
        )
        found = explained(asked, "task", task)
        assert only_node(found["nodes_busy"])["uuid"] == busy
        avoided = only_node(found["nodes_avoided"])
        assert avoided["uuid"] in {node["uuid"] for node in api.get("/nodes")["items"]} - {busy}
        assert re.search(
            r"Avoided for it, as an attempt failed there: \S+ until \S+ \S+ UTC \(in \d+ s\)\.",
            found["nodes_avoided"]["text"],
        )
        assert "another node joins" in found["nodes_avoided"]["lift"]
        of_job = explained(asked, "job", job.uuid)
        assert only_node(of_job["nodes_avoided"]) == avoided
        add("three")
        job.final()
        gate.touch()
        blocker.final()


@pytest.mark.rule("R16", "R31")
@pytest.mark.skipif(len(CORES) < 2, reason="nodes of different size need two cores")
def test_the_only_node_that_fits_is_held(start: Start, tmp_path: Path) -> None:
    """By itself, after failures: until when and why; its release starts what waits for it."""
    served = start("--no-agent", settings=SETTINGS)
    mended = tmp_path / "mended"
    with nodes_of(served, tmp_path) as add, served.api() as api:
        asked = Asked(served.state, api)
        add("large")
        await_nodes(api, 1)
        (large,) = api.get("/nodes")["items"]
        add("small", before=("taskset", "--cpu-list", str(min(CORES))))
        await_nodes(api, 2)
        play: Play = [["run_if", str(mended)], ["complete"]]
        limits = {"min_cores_per_node": len(CORES), "max_attempts": 1000}
        jobs = [Acted(api, tmp_path, play, constraints=limits) for _ in range(2)]
        wait_until("the large one is held", lambda: states(api) == ["held", "live"])
        for job in jobs:
            wait_until("its delay is over", partial(waits_for, api, job.seed["uuid"], "nodes_held"))
            reason = explained(asked, "task", job.seed["uuid"])["nodes_held"]
            node = only_node(reason)
            assert node["uuid"] == large["uuid"]
            assert re.search(
                r" until \S+ \S+ UTC \(in \d+ s\): 3 attempts in a row", reason["text"]
            )
            assert node["reason"] in reason["text"] and "exit code 1" in node["reason"]
            assert explained(asked, "job", job.uuid)["nodes_held"]["details"]["nodes"] == [node]
        mended.touch()
        api.post(f"/nodes/{large['uuid']}/release")
        for job in jobs:
            job.final()
