"""Every reason that one local node can give, on a running server, in text and as JSON (R31)."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from jobtasks.cli.main import main

from .conftest import QUICK, Acted, Api, Play, Served, Start, acting, environment, wait_until
from .witness import Record

pytestmark = pytest.mark.rule("R31")

SLOW_RETRY = {**QUICK, "delay_seconds": 600.0, "delay_seconds_max": 600.0}
HUGE = {"min_ram_per_task": 10**12}
Act = Callable[..., Acted]
LEFT = re.compile(r"\(in [^)]*\)")


class Asked(NamedTuple):
    """A server, and its interface."""

    state: Path
    api: Api


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """A server with a node of two slots; whoever fails waits for long."""
    folder = tmp_path_factory.mktemp("explained")
    server = Served(folder / "state", "--slots", "2", stderr=folder / "stderr", settings=SLOW_RETRY)
    with server.api() as api:
        assert api.final(api.post("/jobs", {"command": ["true"]})["uuid"])["success"]
        yield Asked(server.state, api)
    code, _, errors = server.end()
    assert (code, "Traceback" in errors) == (0, False), errors


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """Tasks wait for this file; it is there at the latest when the test is over."""
    path = tmp_path / "gate"
    yield path
    path.touch()


@pytest.fixture
def act(served: Asked, tmp_path: Path, gate: Path) -> Iterator[Act]:
    """Submit jobs of actors; what still runs at the end is cancelled, and waited for."""
    made: list[Acted] = []

    def submit(*plays: Play, **constraints: Any) -> Acted:
        made.append(Acted(served.api, tmp_path, *plays, constraints=constraints))
        return made[-1]

    yield submit
    gate.touch()
    for job in made:
        if job.record["state"] in ("Queued", "Running"):
            served.api.stop(job.uuid)
    for job in made:
        wait_until("no process", functools.partial(is_quiet, served, job.uuid))


@pytest.fixture
def node(served: Asked) -> Iterator[Record]:
    """The server's node; whatever was done to it, it takes work again."""
    (found,) = served.api.get("/nodes")["items"]
    yield found
    served.api.post(f"/nodes/{found['uuid']}/release")


def is_quiet(served: Asked, job: str) -> bool:
    """Whether a job has no process left."""
    (reason,) = served.api.get(f"/jobs/{job}/explain")["reasons"]
    return bool(reason["details"].get("processes") == 0)


def command(served: Asked, *words: str) -> str:
    """Return what the command line prints: in this process, as a hundred others take a minute."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.MonkeyPatch.context() as patch:
        for name in os.environ.keys() - environment().keys():
            patch.delenv(name)
        with pytest.raises(SystemExit) as ended:
            main([*words, "--state", str(served.state)])
    assert not ended.value.code, words
    return printed.getvalue()


def explained(served: Asked, kind: str, uuid: str) -> dict[str, Record]:
    """Return the reasons by code, as the command gives them; its text must say the same."""
    reasons = json.loads(command(served, kind, "explain", uuid, "-o", "json"))["reasons"]
    lines: list[str] = []
    for reason in reasons:
        lines.append(reason["text"])
        lines += [f"  lift: {reason['lift']}"] if reason["lift"] else []
    printed = command(served, kind, "explain", uuid).splitlines()
    assert [LEFT.sub("", line) for line in printed] == [LEFT.sub("", line) for line in lines]
    return {reason["code"]: reason for reason in reasons}


def codes(served: Asked, job: str) -> list[str]:
    """Return the codes of a job's reasons."""
    return [reason["code"] for reason in served.api.get(f"/jobs/{job}/explain")["reasons"]]


def test_no_node(start: Start) -> None:
    """A server without an agent."""
    server = start("--no-agent")
    with server.api() as api:
        alone = Asked(server.state, api)
        job = api.post("/jobs", {"command": ["true"]})["uuid"]
        assert explained(alone, "job", job)["no_node"]["text"] == "No node has joined yet."


@pytest.mark.rule("R30")
def test_no_node_is_large_enough(served: Asked, act: Act) -> None:
    """Said by the first answer after the submission; `job show` says it in a line."""
    job = act([["complete"]], **HUGE, colour="blue")
    first = served.api.get(f"/jobs/{job.uuid}/explain")["reasons"][0]
    found = explained(served, "job", job.uuid)
    assert list(found) == ["too_large", "unknown_constraints"]
    assert found["too_large"] == first
    (constraint,) = first["details"]["constraints"]
    assert (constraint["constraint"], constraint["asked"]) == ("min_ram_per_task", 10**12)
    assert f"({constraint['node']}) has {constraint['largest']}." in first["text"]
    why = [line for line in command(served, "job", "show", job.uuid).splitlines() if "why" in line]
    assert [line.split(maxsplit=1)[1] for line in why] == [first["text"]]
    assert "why" not in json.loads(command(served, "job", "show", job.uuid, "-o", "json"))
    served.api.post(f"/jobs/{job.uuid}/cancel")
    assert "job_cancelled" in explained(served, "job", job.uuid)


def test_a_job_that_wants_more_nodes(served: Asked, act: Act) -> None:
    """There is one."""
    job = act([["complete"]], min_nodes=2)
    reason = explained(served, "job", job.uuid)["min_nodes"]
    assert (reason["details"]["min_nodes"], reason["details"]["large_enough"]) == (2, 1)


def test_creator_and_sequence(served: Asked, act: Act, gate: Path) -> None:
    """A task that runs; its child; a task of a higher sequence; a child that needs two nodes."""
    child, last = acting(["complete"], sequence=0), acting(["complete"], sequence=5)
    gang = acting(["complete"], sequence=0, runtime_constraints={"min_nodes": 2})
    job = act([["create", child, last, gang], ["await_file", str(gate)], ["complete"]])
    job.noted("created")
    seed, child, last, gang = job.tasks()
    assert list(explained(served, "task", seed["uuid"])) == ["running"]
    assert explained(served, "task", child["uuid"])["creator"]["details"]["creator"] == seed["uuid"]
    found = explained(served, "task", last["uuid"])
    assert list(found) == ["creator", "lower_sequence"]
    holders = {row["task"]: row["state"] for row in found["lower_sequence"]["details"]["tasks"]}
    assert holders == {seed["uuid"]: "running", child["uuid"]: "child", gang["uuid"]: "child"}
    assert list(explained(served, "task", gang["uuid"])) == ["creator", "too_few_nodes"]
    assert list(explained(served, "job", job.uuid)) == ["running", "creator", "lower_sequence"]


def test_a_delay(served: Asked, act: Act) -> None:
    """Until when, and why the attempt failed."""
    job = act([["end", 3]])
    wait_until("the failure", lambda: job.seed["failed_count"])
    reason = explained(served, "task", job.seed["uuid"])["delay"]
    assert "exit code 3 and no verdict" in reason["text"]
    assert 300 < reason["details"]["seconds"] < 800
    assert explained(served, "job", job.uuid)["delay"]["details"]["tasks"] == 1


def test_all_slots_are_taken(served: Asked, act: Act, gate: Path) -> None:
    """By tasks of its own job and of others."""
    waits = acting(["await_file", str(gate)], ["complete"])
    job = act([["create", *[waits] * 5], ["complete"]])
    wait_until("two run", lambda: len(job.tasks(state="running", sequence=1)) == 2)
    (last,) = job.tasks(qsequence=5)
    reason = explained(served, "task", last["uuid"])["nodes_busy"]
    assert "(2 of 2 slots taken)" in reason["text"]
    assert reason["details"]["nodes"][0]["tasks_of_this_job"] == 2
    assert explained(served, "job", job.uuid)["nodes_busy"]["details"]["tasks"] == 3
    other = act([["complete"]])
    assert "nodes_busy" in wait_until("started", lambda: started(served, other))
    assert explained(served, "job", other.uuid)["nodes_busy"]["details"]["tasks"] == 1


def started(served: Asked, job: Acted) -> list[str]:
    """Return why a job's tasks wait, once it has started."""
    return codes(served, job.uuid) if job.record["state"] == "Running" else []


def test_a_draining_node(served: Asked, act: Act, gate: Path, node: Record) -> None:
    """What runs goes on, its child and a new job wait until the node is released."""
    job = act([["create", acting(["complete"])], ["await_file", str(gate)], ["complete"]])
    job.noted("created")
    served.api.post(f"/nodes/{node['uuid']}/drain", {"reason": "new disk"})
    gate.touch()
    wait_until("the seed completes", lambda: job.seed["state"] == "complete")
    (child,) = job.tasks(qsequence=1)
    queued = act([["complete"]])
    for kind, uuid in (("task", child["uuid"]), ("job", job.uuid), ("job", queued.uuid)):
        (reason,) = explained(served, kind, uuid).values()
        assert (reason["code"], reason["details"]["nodes"][0]["reason"]) == (
            *("nodes_draining",),
            "new disk",
        )
        assert f"{node['hostname']}: new disk." in reason["text"]
    assert served.api.get(f"/nodes/{node['uuid']}")["state"] == "drained"
    served.api.post(f"/nodes/{node['uuid']}/hold", {"reason": "noise"})
    assert "nodes_draining" in explained(served, "job", queued.uuid)
    served.api.post(f"/nodes/{node['uuid']}/release")
    job.final()
    queued.final()


def test_a_hold_without_and_with_an_end(served: Asked, act: Act, node: Record) -> None:
    """Each says until when; the work starts by itself when a short one has passed."""
    served.api.post(f"/nodes/{node['uuid']}/hold", {"reason": "noise"})
    job = act([["complete"]])
    reason = explained(served, "job", job.uuid)["nodes_held"]
    assert f"{node['hostname']} until it is released: noise." in reason["text"]
    assert reason["details"]["nodes"][0]["until"] is None
    served.api.post(f"/nodes/{node['uuid']}/hold", {"seconds": 3600})
    reason = explained(served, "job", job.uuid)["nodes_held"]
    assert re.search(r"until \S+ \S+ UTC \(in 3\d\d\d s\)\.", reason["text"])
    assert job.record["state"] == "Queued"
    served.api.post(f"/nodes/{node['uuid']}/hold", {"seconds": 0.2})
    job.final()
    assert served.api.get(f"/nodes/{node['uuid']}")["state"] == "live"


def test_the_jobs_own_limit(served: Asked, act: Act, gate: Path) -> None:
    """One slot is free, and max_tasks_per_node keeps the job off it."""
    waits = acting(["await_file", str(gate)], ["complete"])
    job = act([["create", waits, waits], ["complete"]], max_tasks_per_node=1)
    wait_until("one runs", lambda: job.tasks(state="running", sequence=1))
    (last,) = job.tasks(qsequence=2)
    reason = explained(served, "task", last["uuid"])["max_tasks_per_node"]
    assert "the job runs 1 there, at most 1" in reason["text"]
    assert list(explained(served, "job", job.uuid)) == ["running", "max_tasks_per_node"]


def test_a_job_that_failed(served: Asked, act: Act, gate: Path) -> None:
    """While the rest runs, when it is over, and queued again with more than a node has."""
    children = [acting(["fail", "no"]), acting(["await_file", str(gate)], ["complete"])]
    job = act([["create", *children, acting(["complete"], sequence=2)], ["complete"]])
    wait_until("the failure", lambda: job.tasks(state="failed"))
    _, failed, goes_on, last = job.tasks()
    wait_until("the other runs", lambda: job.tasks(state="running"))
    reason = explained(served, "task", last["uuid"])["job_halted"]
    assert failed["uuid"] in reason["text"]
    assert list(explained(served, "job", job.uuid)) == ["job_halted"]
    gate.touch()
    served.api.final(job.uuid)
    assert list(explained(served, "task", goes_on["uuid"])) == ["complete"]
    assert list(explained(served, "task", failed["uuid"])) == ["failed"]
    assert list(explained(served, "task", last["uuid"])) == ["job_failed"]
    assert list(explained(served, "job", job.uuid)) == ["job_failed"]
    served.api.post(f"/jobs/{job.uuid}/retry", {"runtime_constraints": HUGE})
    assert list(explained(served, "task", last["uuid"])) == ["job_queued", "too_large"]


def test_a_failure_that_the_job_survives(served: Asked, act: Act, gate: Path) -> None:
    """on_failure: continue."""
    children = [acting(["fail", "no"]), acting(["await_file", str(gate)], ["complete"])]
    job = act(
        [["create", *children, acting(["complete"], sequence=2)], ["complete"]],
        on_failure="continue",
    )
    wait_until("the failure", lambda: job.tasks(state="failed"))
    wait_until("the other runs", lambda: job.tasks(state="running"))
    assert list(explained(served, "job", job.uuid)) == ["running", "tasks_failed", "lower_sequence"]
    (last,) = job.tasks(qsequence=3)
    lift = explained(served, "task", last["uuid"])["lower_sequence"]["lift"]
    assert lift.startswith("Nothing in this run")


def test_complete(served: Asked, act: Act) -> None:
    """Nothing is to be lifted."""
    job = act([["complete"]])
    job.final()
    assert explained(served, "job", job.uuid)["job_complete"]["lift"] is None


def test_what_does_not_exist(served: Asked) -> None:
    """404, as for every method."""
    for path in ("jobs/zzzzz-8i9sb", "job_tasks/zzzzz-ot0gb"):
        assert served.api.status("GET", f"/{path}-000000000000000/explain") == 404
