"""What `service.claim` takes is what the pure claim takes over the same rows (core/placement.py).

Random jobs: trees with sequences up and down, failures, delays, shapes, avoidance, several jobs on
several nodes. A scenario is a string of bytes, read as decisions, so that a failing one shrinks.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, NoReturn, TypeVar
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.rounds import note, rounds

from jobtasks.core import placement
from jobtasks.core.constraints import Needs, needs_of, parse_job, parse_task
from jobtasks.core.errors import JobTasksError
from jobtasks.core.placement import NodeSize, Occupant, Room, RunningJob, WaitingTask
from jobtasks.core.retry import Spent
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import jobs, lanes, nodes, tasks
from jobtasks.service.context import Caller, Context
from jobtasks.store.base import Tx
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import ADMIN_TOKEN, AGENT_TOKEN, SCRIPT, LocalService

T = TypeVar("T")
ROW = "claims"
STORIES = 120
"""In each round."""
JOBS_MIN = 300
"""Of each round, and of what is wanted in them:"""
WANTED_MIN = 10
JOB_CONSTRAINTS: list[dict[str, Any]] = [
    {},
    {"on_failure": "continue"},
    {"max_tasks_per_node": 2, "on_failure": "continue"},
    {"max_nodes": 1},
    {"min_ram_per_task": 300},
    {"max_nodes": 2, "min_cores_per_task": 1},
]
TASK_CONSTRAINTS: list[dict[str, Any]] = [
    {},
    {"min_ram_per_task": 300},
    {"min_ram_per_task": 900},
    {"min_cores_per_task": 2},
    {"max_tasks_per_node": 1},
    {"max_nodes": 1},
    {"min_ram_per_node": 1000, "min_ram_per_task": 100},
    {"max_tasks_per_node": 2, "min_cores_per_node": 3},
]
NODES = [(4, 1000, 4), (2, 800, 2), (6, 2000, 8)]
"""Slots, memory in KiB, cores."""
ENDS: list[tuple[bool | None, EndKind, int | None]] = [
    *([(True, EndKind.EXIT, 0)] * 6),
    *([(None, EndKind.EXIT, 1)] * 3),
    (None, EndKind.EXIT, 111),
    (None, EndKind.OUT_OF_MEMORY, None),
    (None, EndKind.STOPPED, None),
    (None, EndKind.AGENT_LOST, None),
    (None, EndKind.UNABLE_TO_START, None),
    (False, EndKind.EXIT, 1),
]
SUSPICIOUS = Settings(suspect_attempts=0, hold_seconds=2.0)
"""Nodes are held more often than by default, and not for long (R16)."""
SECONDS = [0.3, 1.5, 4.0, 310.0]
PRIORITIES = [0, 0, 0, 5, -1]
WANTED = (
    "claims",
    "tasks",
    "creates",
    "retries",
    "deletes",
    "priorities",
    "few",
    "many",
    "ends told with a claim",
    "attempts after the first",
)
seen: Counter[str] = Counter()


class Seen(JobTasksError):
    """Undoes a transaction that was only to be looked into."""

    def __init__(self, uuids: list[str]) -> None:
        super().__init__("only a look")
        self.uuids = uuids


class Scenario:
    """A service driven by a string of bytes."""

    def __init__(self, choices: bytes) -> None:
        self.choices: Iterator[int] = iter(choices)
        self.service = LocalService(settings=SUSPICIOUS)
        self.service.random = 0.25
        self.agents = [
            SimulatedAgent(self.service, f"n{place}", slots=slots, memory_kib=memory, cores=cores)
            for place, (slots, memory, cores) in enumerate(NODES[: 1 + self.number(3)])
        ]
        self.tokens = [ADMIN_TOKEN, *map(self.service.new_user, ("ada", "bob"))]
        self.jobs: list[str] = []
        for _ in range(2 + self.number(5)):
            self.create_job()

    def number(self, below: int) -> int:
        """Return the next decision."""
        return next(self.choices) % below

    def choose(self, among: Sequence[T]) -> T:
        """Return one of these."""
        return among[self.number(len(among))]

    def run(self) -> None:
        """Act until the decisions are used up; lanes are few, or read as if they were many."""
        few = self.choose([lanes.FEW, 0])
        seen["few" if few else "many"] += 1
        with patch.object(lanes, "FEW", few):
            self._act()

    def _act(self) -> None:
        acts = [self.claim] * 5 + [self.end] * 5 + [self.wait] * 2
        acts += [self.create, self.delete, self.delete, self.start_again, self.outrank]
        with suppress(StopIteration):
            while True:
                self.choose(acts)()

    def create_job(self) -> None:
        """Create one more job and start it."""
        body = {
            "runtime_constraints": self.choose(JOB_CONSTRAINTS),
            "priority": self.choose(PRIORITIES),
            **SCRIPT,
        }
        token = self.choose(self.tokens)
        self.jobs.append(self.service.as_token(token, jobs.create, body).uuid)
        self.service.tick()
        seen["jobs"] += 1

    def outrank(self) -> None:
        """Give one job another priority."""
        uuid = self.choose(self.jobs)
        changes = {"priority": self.choose(PRIORITIES)}
        self.service.call(jobs.update, uuid, changes, whole=False)
        seen["priorities"] += 1

    def running(self) -> list[tuple[SimulatedAgent, Assignment]]:
        """Return what runs where."""
        return [(agent, one) for agent in self.agents for one in agent.running.values()]

    def claim(self) -> None:
        """Let one node fill some slots; compare with the oracle, to the order.

        What has ended meanwhile may be told in the same sync: it counts before the claim.
        """
        agent = self.choose(self.agents)
        self.service.tick()
        while agent.running and self.number(2):
            self.end_one(agent, self.choose(list(agent.running.values())), sync=False)
            seen["ends told with a claim"] += 1
        slots = agent.free_slots[: 1 + self.number(agent.slots)]
        if not slots:
            return
        expected = self.expected(agent, len(slots))
        known = set(agent.running)
        orders = agent.sync(free_slots=slots)
        new = [one for one in orders.start if one.attempt not in known]
        assert [one.task for one in new] == expected
        agent.sync(free_slots=[])
        seen["claims"] += 1
        seen["tasks"] += len(new)
        seen["attempts after the first"] += sum(one.number > 1 for one in new)

    def expected(self, agent: SimulatedAgent, slots: int) -> list[str]:
        """Return the UUIDs that the pure claim takes, once the agent's ends are on record."""
        message = agent.message(free_slots=[])

        def look(ctx: Context, caller: Caller) -> NoReturn:
            nodes.sync(ctx, caller, message)
            raise Seen(self.chosen(ctx.tx, agent, slots))

        with pytest.raises(Seen) as found:
            self.service.as_token(AGENT_TOKEN, look)
        return found.value.uuids

    def chosen(self, tx: Tx, agent: SimulatedAgent, slots: int) -> list[str]:
        """Return the UUIDs that the pure claim takes."""
        now = self.service.clock.now
        slots = min(slots, slots_open(tx, agent.node, now))
        room = room_of(tx, agent.node)
        uuids = {row[0]: row[1] for row in tx.text("SELECT id, uuid FROM task", {})}
        chosen = placement.claim(jobs_of(tx), room, slots, now, usage_of(tx))
        return [uuids[task] for task in chosen]

    def create(self) -> None:
        """Let one running attempt create tasks: sequences up and down, all shapes."""
        alive = self.running()
        if not alive:
            return
        agent, one = self.choose(alive)
        items = []
        for _ in range(1 + self.number(5)):
            sequence = max(0, one.sequence + 2 - self.number(4))
            constraints = TASK_CONSTRAINTS[self.number(8) if self.number(3) else 0]
            items.append({"sequence": sequence, "runtime_constraints": constraints})
        agent.create(one, *items)
        seen["creates"] += 1

    def end(self) -> None:
        """End one running attempt, most of them after one more create."""
        alive = self.running()
        if not alive:
            return
        if self.number(2):
            self.create()
        self.end_one(*self.choose(alive), sync=True)

    def end_one(self, agent: SimulatedAgent, one: Assignment, *, sync: bool) -> None:
        """End an attempt in one of all ways; it is told at once with `sync`."""
        success, kind, exit_code = self.choose(ENDS)
        if success is not None:
            agent.write(one, success=success)
        agent.end(one, kind, exit_code, sync=sync, peak_memory_kib=200)

    def wait(self) -> None:
        """Let time pass, all nodes being heard."""
        self.service.pass_seconds(self.choose(SECONDS), *self.agents)

    def delete(self) -> None:
        """Let one running attempt delete a task that it created."""
        statement = """
            SELECT t.uuid, b.creator_attempt_id FROM task AS t JOIN batch AS b ON b.id = t.batch_id
            WHERE b.state = 0 ORDER BY t.id
        """
        rows = self.service.rows(statement)
        if rows:
            uuid, attempt_id = self.choose(rows)
            token = {one.attempt: one.token for _, one in self.running()}[attempt_id]
            self.service.as_token(token, tasks.delete, uuid)
            seen["deletes"] += 1

    def start_again(self) -> None:
        """Cancel one job, end its processes, and queue it again, with a list or without."""
        uuid = self.choose(self.jobs)
        if self.service.job(uuid).state == "Running":
            self.service.call(jobs.cancel, uuid, None)
        for agent, one in self.running():
            if one.job == uuid:
                agent.end(one, EndKind.STOPPED)
        job = self.service.job(uuid)
        if job.state not in ("Cancelled", "Failed"):
            return
        waiting = [task.uuid for task in self.service.tasks_of(job) if task.state in (0, 3)]
        listed = [task for task in waiting if self.number(2)] if self.number(2) else None
        given = self.choose([None, {"min_ram_per_task": 400}, {"max_tasks_per_node": 1}])
        self.service.call(jobs.retry, uuid, listed, given)
        seen["retries"] += 1


def slots_open(tx: Tx, node: str, now: int) -> int:
    """Return how many slots the manager leaves a node: none held, one on trial, else all (R16)."""
    ((held_until, held_seconds, canaries),) = tx.text(
        "SELECT held_until, held_seconds, (SELECT count(*) FROM attempt AS a WHERE a.node_id = n.id"
        " AND a.state < 3 AND a.canary = 1) FROM node AS n WHERE lasting_id = :node",
        {"node": node},
    )
    if held_until is not None and held_until > now:
        seen["held"] += 1
        return 0
    if held_seconds:
        seen["on trial"] += 1
        return 0 if canaries else 1
    return 10**6


def room_of(tx: Tx, node: str) -> Room:
    """Return a node's room as its rows say."""
    ((node_id, memory_kib, cores, scratch_mb),) = tx.text(
        "SELECT id, memory_kib, cores, scratch_mb FROM node WHERE lasting_id = :node",
        {"node": node},
    )
    occupants = []
    elsewhere: dict[int, set[int]] = {}
    live = "SELECT a.job_id, a.node_id, a.memory_kib, s.needs FROM attempt AS a JOIN shape AS s"
    for job_id, place, reserved_kib, needs in tx.text(
        f"{live} ON s.id = a.shape_id WHERE a.state < 3", {}
    ):
        if place == node_id:
            occupants.append(Occupant(job_id, msgspec.json.decode(needs, type=Needs), reserved_kib))
        else:
            elsewhere.setdefault(job_id, set()).add(place)
    others = {job_id: len(places) for job_id, places in elsewhere.items()}
    return Room(NodeSize(node_id, memory_kib, cores, scratch_mb), occupants, others)


def jobs_of(tx: Tx) -> list[RunningJob]:
    """Return the running jobs as their tasks' rows say, without any counter."""
    found = tx.text(
        "SELECT j.id, j.runtime_constraints, y.halt, j.priority, j.owner_uuid, (SELECT count(*)"
        " FROM attempt AS a WHERE a.job_id = j.id AND a.state < 3) FROM job AS j JOIN tally AS y ON"
        " y.job_id = j.id WHERE j.state = 'Running'",
        {},
    )
    return [running_job(tx, row[0], row[1], row[2], (row[3], row[4], row[5])) for row in found]


def usage_of(tx: Tx) -> dict[str, int]:
    """Return how many slots each user's jobs have."""
    found = tx.text(
        "SELECT j.owner_uuid, count(*) FROM attempt AS a JOIN job AS j ON j.id = a.job_id"
        " WHERE a.state < 3 GROUP BY j.owner_uuid",
        {},
    )
    return {str(owner): int(slots) for owner, slots in found}


def running_job(
    tx: Tx, job_id: int, constraints: str, halt: str | None, turn: tuple[int, str, int]
) -> RunningJob:
    """Return one running job for the oracle."""
    rows = tx.text(
        """
        SELECT t.id, t.sequence, t.state, t.runtime_constraints, t.spent, b.state,
            q.not_before, q.avoid, q.avoid_until
        FROM task AS t JOIN batch AS b ON b.id = t.batch_id AND b.state <> 2
        LEFT JOIN requeue AS q ON q.task_id = t.id
        WHERE t.id >> 32 = :job_id
        """,
        {"job_id": job_id},
    )
    open_sequences = [row[1] for row in rows if row[2] != 2]
    frontier = None if halt else min(open_sequences, default=None)
    job = parse_job(json.loads(constraints))
    waiting = []
    for task_id, sequence, state, own, spent, batch_state, not_before, avoid, avoid_until in rows:
        if state:
            continue
        needs = needs_of(job, parse_task(json.loads(own)))
        used = msgspec.json.decode(spent, type=Spent) if spent else Spent()
        needs = msgspec.structs.replace(needs, memory_kib=max(needs.memory_kib, used.memory_kib))
        nodes = frozenset(json.loads(avoid)) if avoid else frozenset()
        waiting.append(
            WaitingTask(
                *(task_id, sequence, needs, batch_state == 1, not_before or 0),
                *(nodes, avoid_until or 0),
            )
        )
    return RunningJob(job_id, frontier, waiting, *turn)


@settings(
    max_examples=STORIES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(choices=st.binary(min_size=60, max_size=160))
def play(choices: bytes) -> None:
    """Play one scenario; its counters must agree with its rows."""
    scenario = Scenario(choices)
    try:
        scenario.run()
        assert scenario.service.write(counter_problems) == {}
    finally:
        scenario.service.close()


@pytest.mark.timeout(600)
@pytest.mark.rule("R5", "R12", "R18", "R26", "R27", "R28", "R29")
def test_the_claim_and_its_oracle_agree_on_random_jobs() -> None:
    """Hundreds of jobs; what was seen in them is counted, so that none of it is empty."""
    seen.clear()
    reached = 0
    for _ in rounds(ROW, 1, 100):
        play()
        reached += 1
    note(ROW, jobs=seen["jobs"], claims=seen["claims"])
    print(dict(seen))
    assert seen["jobs"] >= JOBS_MIN * reached
    assert min(seen[name] for name in WANTED) > WANTED_MIN * reached
