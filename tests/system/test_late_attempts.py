"""Attempts that go on when their task has long been given to another node: all is refused (R32)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, rounds

from .conftest import QUICK, SCRIPTS, Acted, Api, Play, Start, process_identity, wait_until
from .nodes import AddNode, Node, await_nodes, nodes_of
from .witness import Line, Record

TASKS = 50 if IS_TORTURE else 10
"""They move from node to node together."""
CALLS = 7
"""Each late attempt makes: see scripts/late.py."""
SETTINGS = {**QUICK, "lease_seconds": 3.0, "renew_seconds": 0.3, "attempts_lost_max": 10_000}


class Late(NamedTuple):
    """An attempt that lost its task and then tried everything."""

    task: str
    attempt: int
    answers: tuple[str, ...]


class Moves:
    """A job of tasks that wait on one of two nodes, until its agent is paused."""

    def __init__(self, api: Api, add: AddNode, folder: Path) -> None:
        self.places = folder / "places"
        self.places.mkdir()
        self._api = api
        self._nodes: dict[str, Node] = {}
        for name in ("left", "right"):
            node = add(name, slots=TASKS)
            await_nodes(api, len(self._nodes) + 1)
            uuids = {found["uuid"] for found in api.get("/nodes")["items"]}
            (new,) = uuids - set(self._nodes)
            self._nodes[new] = node
        play: Play = [["create_times", TASKS, {}], ["complete"]]
        places = {"places": str(self.places)}
        self.job = Acted(api, folder, play, script=SCRIPTS / "late.py", parameters=places)
        self.job.noted("ready", TASKS)

    def next(self) -> list[Late]:
        """Move what the fuller node has; return what became of the attempts there."""
        held = wait_until("all are at work", self._all_held)
        uuid = max(held, key=lambda uuid: len(held[uuid]))
        old = held[uuid]
        self._nodes[uuid].pause()
        wait_until("others have begun", partial(self._are_taken, old), 100)
        for task, attempt in old.items():
            (self.places / f"{task}-{attempt}").touch()
        lines = wait_until("all were late", partial(self._late, old))
        identities = {line.pid: process_identity(line.pid) for line in lines}
        self._nodes[uuid].come_back()
        await_nodes(self._api, 2)
        for pid, identity in identities.items():
            if identity is not None:
                wait_until("they are gone", partial(is_gone, pid, identity))
        return [Late(line.task, line.attempt, line.more) for line in lines]

    def end(self) -> None:
        """Let all tasks succeed."""
        (self.places / "end").touch()
        self.job.final()

    def _all_held(self) -> dict[str, dict[str, int]] | None:
        held = {uuid: self._held(uuid) for uuid in self._nodes}
        return held if sum(map(len, held.values())) == TASKS else None

    def _held(self, node: str) -> dict[str, int]:
        """Which attempt of which task has begun on a node, and goes on."""
        items = self._api.get(f"/nodes/{node}/attempts")["items"]
        newest = {task: line.attempt for task, line in self.newest().items()}
        found = {item["job_task_uuid"]: item["number"] for item in items}
        return dict(found.items() & newest.items())

    def newest(self) -> dict[str, Line]:
        """The newest attempt of each task that has begun, by what it noted then."""
        found: dict[str, Line] = {}
        for line in self.job.witness.lines("ready"):
            if line.task not in found or found[line.task].attempt < line.attempt:
                found[line.task] = line
        return found

    def _are_taken(self, old: dict[str, int]) -> bool:
        newest = self.newest()
        return all(newest[task].attempt > attempt for task, attempt in old.items())

    def _late(self, old: dict[str, int]) -> list[Line] | None:
        lines = self.job.witness.lines("late")
        found = [line for line in lines if old.get(line.task) == line.attempt]
        return found if len(found) == len(old) else None


def is_gone(pid: int, identity: str) -> bool:
    return process_identity(pid) != identity


def leaves_no_trace(api: Api, moves: Moves, late: Late) -> None:
    """Check that its calls were refused, and that the record is the newest attempt's alone."""
    assert late.answers == ("403",) * CALLS
    newest, task = wait_until("its own progress", partial(at_work, api, moves, late.task))
    assert newest.attempt > late.attempt
    assert (task["success"], task["output"]) == (None, None)
    assert "late words" not in f"{task['log']} {task['failed_log']}"
    children = api.tasks(moves.job.uuid, created_by_job_task_uuid=late.task)
    assert [child["uuid"] for child in children] == list(newest.more)
    own = f"words of attempt {newest.attempt}\n"
    log = wait_until("its own words", partial(log_with, api, late.task, own))
    assert "late words" not in log and f"words of attempt {late.attempt}\n" not in log


def at_work(api: Api, moves: Moves, uuid: str) -> tuple[Line, Record] | None:
    """Return the newest attempt of a task, and the record, when this has what it reported."""
    newest, task = moves.newest()[uuid], api.get(f"/job_tasks/{uuid}")
    is_its_own = (task["attempts"], task["progress"]) == (newest.attempt, 0.25)
    return (newest, task) if is_its_own else None


def log_with(api: Api, task: str, words: str) -> str | None:
    """Return the log of a task's newest attempt when these words are in it."""
    log = api.http.get(f"/job_tasks/{task}/log").text
    return log if words in log else None


@pytest.mark.timeout(240 + 2 * LIMIT_SECONDS)
@pytest.mark.rule("R4", "R7", "R32", "R33", "R35")
def test_late_attempts(start: Start, tmp_path: Path) -> None:
    """Report, log, create, delete and end, each too late: refused, and not a byte in the record."""
    served = start("--no-agent", settings=SETTINGS)
    with nodes_of(served, tmp_path) as add, served.api() as api:
        moves = Moves(api, add, tmp_path)
        late: list[Late] = []
        seen: list[Late] = []
        for _ in rounds("late attempts", 20, 1000):
            late = late or moves.next()
            leaves_no_trace(api, moves, late[-1])
            seen.append(late.pop())
        moves.end()
        for task, attempt, _ in seen:
            ended = api.attempts(task)[attempt - 1]
            assert (ended["cause"], ended["exit_code"], ended["run_seconds"]) == (
                *("agent_lost", None),
                None,
            )
