"""A tree of tasks that fail and die by themselves, while server, agent and keeper are killed."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.rounds import LIMIT_SECONDS, rounds

from .conftest import Act, Acted, Play, Served, Start, Step, acting
from .killing import SEED, Killer, moments
from .witness import Record

CHILDREN = 20
GRANDCHILDREN = 3
KILLS = ("server", "server", "agent", "agent", "keeper", "everything")
TIMEOUT_SECONDS = 240 + 2 * LIMIT_SECONDS
CREATORS = 20
"""In one job."""
OFFSPRING = 50
NOTED = "start $TASK_UUID $TASK_ATTEMPT $$ 0 ${EPOCHREALTIME/[.,]/} $TASK_SEQUENCE"
BORN: Record = {"command": ["/bin/bash", "-c", f'echo "{NOTED}" >>"$JOB_PARAMETER_WITNESS"']}
"""A child: there are so many of them that each may do next to nothing."""
DEATH_MICROSECONDS = 5000
"""The last moments of a creator: two or three calls long."""
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


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R1", "R2", "R3", "R4", "R5", "R6", "R12", "R36", "R37")
def test_a_tree_is_whole_whoever_is_killed(start: Start, tmp_path: Path) -> None:
    """Six kills: the exact number of tasks, each accepted once, none of a dead attempt's."""
    print(f"KILL_SEED={SEED}")
    chance = random.Random(f"{SEED} everything")
    served = start("--slots", "4")
    left: list[tuple[int, str]] = []
    for _ in rounds("kills of everything", len(KILLS), 10 * len(KILLS)):
        if not left:
            job = tree(served, tmp_path)
            whom = chance.sample(KILLS, len(KILLS))
            left = list(zip(moments(chance, len(KILLS), TASKS), whom, strict=True))
            killer = Killer(start, served, job.witness)
        killer.kill_when(*left.pop(0))
        served = killer.served
        if not left:
            is_whole(served, job)
    if left:
        is_whole(served, job)


def tree(served: Served, folder: Path) -> Acted:
    """Submit a job."""
    last = acting(["complete"], sequence=4)
    plays: Play = [["create", *map(child, range(CHILDREN)), last], ["complete"]]
    with served.api() as api:
        return Acted(api, folder, plays)


def is_whole(served: Served, job: Acted) -> None:
    """Wait for a tree's end, and check that nothing is missing and nothing too much."""
    with served.api() as api:
        job.api = api
        job.final(seconds=100)
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


def creator(chance: random.Random) -> Record:
    """Creates one by one or at once, dies at a random point of it; then it creates all at once."""
    before = chance.randrange(OFFSPRING)
    dies: Step = ["die_in", chance.randrange(DEATH_MICROSECONDS)]
    ends: Step = ["wait_for_the_end"]
    one_by_one = [
        ["create_slowly", before, BORN],
        dies,
        ["create_slowly", OFFSPRING - before, BORN],
    ]
    first = chance.choice([one_by_one, one_by_one, [dies, ["create_times", OFFSPRING, BORN]]])
    again: Play = [["create_times", OFFSPRING, BORN], ["complete"]]
    return {"parameters": {"attempts": [[*first, ends], again]}}


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R2", "R4", "R6")
def test_children_are_there_all_or_none(act: Act) -> None:
    """Creators that die at a random point while they create 50: in the end there are 50 of each."""
    print(f"KILL_SEED={SEED}")
    chance = random.Random(f"{SEED} creators")
    left: list[tuple[int, int]] = []
    for _ in rounds("creators killed", 20, 1000):
        left = left or created(act, chance)
        assert left.pop() == (2, OFFSPRING)


def created(act: Act, chance: random.Random) -> list[tuple[int, int]]:
    """Run a job of creators; return how many attempts and children each has."""
    play: Play = [["create", *(creator(chance) for _ in range(CREATORS))], ["complete"]]
    job = act(play)
    job.final(seconds=200)
    tasks = job.tasks()
    assert len(tasks) == 1 + CREATORS * (1 + OFFSPRING)
    children = Counter(task["created_by_job_task_uuid"] for task in tasks)
    return [(task["attempts"], children[task["uuid"]]) for task in tasks if task["sequence"] == 1]
