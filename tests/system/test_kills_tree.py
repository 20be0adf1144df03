"""A tree of tasks that fail and die by themselves, while server, agent and keeper are killed."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path
from typing import Any

import pytest

from .conftest import Act, Acted, Play, Start, Step, acting, wait_until
from .killing import ROUNDS, SEED, Killer, moments
from .witness import Record

CHILDREN = 20
GRANDCHILDREN = 3
KILLS = ("server", "server", "agent", "agent", "keeper", "everything")
TASKS = 1 + CHILDREN * (1 + GRANDCHILDREN)


def grandchild(number: int) -> Record:
    """Every fifth fails once, every seventh is killed once; all complete."""
    fails: Play = [["end", 1]] if number % 5 == 0 else [["complete"]]
    dies: Play = [["kill", 9]] if number % 7 == 0 else fails
    return {"parameters": {"attempts": [dies, fails, [["complete"]]]}}


def child(number: int) -> Record:
    """Creates three of two sequences; every third dies by kill -9 after that, and does it again."""
    new: list[Any] = [grandchild(number * GRANDCHILDREN + place) for place in range(GRANDCHILDREN)]
    new[0]["sequence"] = 3
    one_by_one: Play = [["create", task] for task in new]
    dies: Play = [*one_by_one, ["kill", 9]]
    lives: Play = [["create", *new], ["complete"]]
    return {"parameters": {"attempts": [dies if number % 3 == 0 else lives, lives]}}


@pytest.mark.timeout(200)
@pytest.mark.rule("R1", "R2", "R3", "R4", "R5", "R6", "R12", "R36", "R37")
@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_tree_is_whole_whoever_is_killed(start: Start, tmp_path: Path, number: int) -> None:
    """Six kills: the exact number of tasks, each accepted once, none of a dead attempt's."""
    print(f"KILL_SEED={SEED}")
    chance = random.Random(f"{SEED} {number}")
    served = start("--slots", "4")
    with served.api() as api:
        last = acting(["complete"], sequence=4)
        plays: Play = [["create", *map(child, range(CHILDREN)), last], ["complete"]]
        job = Acted(api, tmp_path, plays)
    killer = Killer(start, served, job.witness)
    whom = chance.sample(KILLS, len(KILLS))
    for starts, name in zip(moments(chance, len(KILLS), TASKS), whom, strict=True):
        killer.kill_when(starts, name)
    with killer.served.api() as api:
        job.api = api
        wait_until("the end", lambda: not job.record["running"], 100)
        job.final()
        tasks = job.tasks()
        assert len(tasks) == TASKS + 1
        assert {task["state"] for task in tasks} == {"complete"}
        assert [task["output"] for task in tasks] == [
            f"{task['uuid']} {task['attempts']}" for task in tasks
        ]
        assert job.record["tasks_summary"] == {
            "todo": 0,
            "running": 0,
            "done": TASKS + 1,
            "failed": 0,
        }
        print(f"{job.witness.count()} processes for {len(tasks)} tasks")


@pytest.mark.rule("R2", "R4", "R6")
@pytest.mark.parametrize("number", range(3 * ROUNDS))
def test_children_are_there_all_or_none(act: Act, tmp_path: Path, number: int) -> None:
    """A parent killed at a random moment while it creates 30: in the end there are 30."""
    print(f"KILL_SEED={SEED}")
    creates: Step = ["create_slowly", 30, acting(["complete"])]
    job = act([creates, ["await_file", str(tmp_path / "never")]], [creates, ["complete"]])
    when = random.Random(f"{SEED} {number}").randint(1, 30)
    line = job.noted("created", when)[-1]
    os.kill(line.pid, signal.SIGKILL)
    job.final()
    assert (job.seed["attempts"], len(job.tasks())) == (2, 31)
    assert job.witness.count() == 32
