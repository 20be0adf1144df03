"""Among ten real nodes two spoil everything, and a task kills its agents: budgets (R14, R16)."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest

from .conftest import QUICK, SCRIPTS, Acted, Api, Play, Start, environment, wait_until
from .nodes import await_nodes, nodes_of
from .witness import Record

GOOD = 8
TASKS = 12
"""Of each of two jobs: when every good node has one, both have some left."""
STREAK = 3
"""2 + slots."""
LOST_MAX = 4
SETTINGS = {**QUICK, "hold_seconds": 600.0, "attempts_lost_max": LOST_MAX}
CAUSES = ("unable_to_start", "exit")
"""What failures on the two bad nodes are called."""


def failures(jobs: list[Acted]) -> dict[str, list[Record]]:
    """Return the failed attempts of jobs' tasks by cause, in the order in which they ended."""
    found: dict[str, list[Record]] = {cause: [] for cause in CAUSES}
    for job in jobs:
        for task in job.tasks(sequence=1):
            attempts = job.api.attempts(task["uuid"])
            failed = [one for one in attempts[: task["failed_count"]] if one["exit_code"] != 0]
            assert len(failed) == task["failed_count"] == len({one["cause"] for one in failed})
            for attempt in failed:
                found[attempt["cause"]].append(attempt)
    for attempts in found.values():
        attempts.sort(key=lambda one: one["finished_at"])
    return found


def held_nodes(api: Api) -> dict[str, Record]:
    """Return the nodes that are held, by uuid."""
    nodes = api.get("/nodes")["items"]
    return {node["uuid"]: node for node in nodes if node["state"] == "held"}


def are_held(api: Api, count: int) -> bool:
    return len(held_nodes(api)) == count


def gated(api: Api, folder: Path) -> Acted:
    """Submit a job of tasks that wait for a gate, and fail where they cannot."""
    play: Play = [["create_times", TASKS, {"command": ["gated"]}], ["complete"]]
    parameters = {"gate": str(folder / "gate")}
    return Acted(api, folder, play, constraints={"max_attempts": 2}, parameters=parameters)


@pytest.mark.timeout(240)
@pytest.mark.rule("R12", "R14", "R16")
def test_two_bad_nodes_and_a_task_that_kills_agents(start: Start, tmp_path: Path) -> None:
    """Each is held after three failures, which cost nothing; the task has its budget, exactly.

    One has not got the program, on the other it fails. All other tasks complete; none is lost.
    """
    served = start("--no-agent", settings=SETTINGS)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gated").symlink_to(SCRIPTS / "gated.sh")
    plain = environment()["PATH"]
    path = f"{tmp_path / 'bin'}{os.pathsep}{plain}"
    with nodes_of(served, tmp_path) as add, served.api() as api:
        for number in range(GOOD):
            add(f"good-{number}", environ={"PATH": path})
        await_nodes(api, GOOD)
        jobs = [gated(api, tmp_path) for _ in range(2)]
        for job in jobs:
            job.noted("said")
        started = GOOD + len(jobs)
        wait_until("all are busy", lambda: sum(job.witness.count() for job in jobs) == started)
        for number, environ in enumerate(({"PATH": plain}, {"PATH": path, "SPOILT": "1"})):
            add(f"bad-{number}", environ=environ)
            wait_until("it is held", partial(are_held, api, number + 1))
        held, failed = held_nodes(api), failures(jobs)
        are_the_nodes_fault(held, failed)

        killer = Acted(api, tmp_path, [["kill_agent"]])
        (tmp_path / "gate").touch()
        for job in jobs:
            job.final(seconds=100)
            assert all(task["attempts"] == task["failed_count"] + 1 for task in job.tasks())
        has_spent_its_budget(killer)
        assert failures(jobs) == failed
        assert held_nodes(api).keys() == held.keys()


def are_the_nodes_fault(held: dict[str, Record], failed: dict[str, list[Record]]) -> None:
    """Check that nodes are held for their last failures, and that these used no budget."""
    for node in held.values():
        assert node["held_by_user_uuid"] is None
        assert node["held_reason"].startswith(f"{STREAK} attempts in a row failed there")
    for attempts in failed.values():
        faults = [False] * (len(attempts) - STREAK) + [True] * STREAK
        assert [one["node_fault"] for one in attempts] == faults
        assert [one["counted"] for one in attempts] == [not fault for fault in faults]
        for one in attempts[-STREAK:]:
            assert one["reason"].endswith("held against the node, not the task")


def has_spent_its_budget(killer: Acted) -> None:
    """Check that a job's only task was given up after so many lost attempts, with the reason."""
    assert f"{LOST_MAX} of {LOST_MAX} attempts lost" in killer.final("Failed")["log"]
    task = killer.seed
    lost = killer.api.attempts(task["uuid"])
    assert [one["cause"] for one in lost] == ["agent_lost"] * LOST_MAX
    assert (task["state"], task["success"], task["failed_count"]) == ("failed", False, LOST_MAX)
    reason = task["failed_log"].splitlines()[-1]
    assert reason.startswith("[jobtasks] ") and "not tried again" in reason
