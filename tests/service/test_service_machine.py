"""Whatever happens in whatever order: counters agree with rows, and the promises hold.

A state machine over every method that changes tasks: create, report, delete, end, cancel, retry,
leases, time, restarts of agents, late and repeated messages; jobs of other managers, nodes that are
held, drained and deleted, clocks that are set, what is too old removed.
"""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from tests.databases import Cluster, empty
from tests.rounds import IS_TORTURE, note, rounds

from jobtasks.core.errors import StaleAttempt
from jobtasks.core.identifiers import token_hash
from jobtasks.protocol.messages import Assignment, Ended, EndKind, Orders, Sync
from jobtasks.service import families, jobs, nodes, retention, steering, tasks
from jobtasks.service.idempotency import Name, make_key
from jobtasks.service.job_retry import Chosen, FailedFamily
from jobtasks.service.repeats import RequestName
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.inline_store import InlineStore
from jobtasks.testing.service import AGENT_TOKEN, LocalService

NUMBER = st.integers(min_value=0, max_value=10**6)
CONSTRAINTS: list[dict[str, Any]] = [
    {},
    {"min_ram_per_task": 400},
    {"max_tasks_per_node": 1},
    {"min_cores_per_task": 2},
]
JOBS: list[dict[str, Any]] = [
    {},
    {"on_failure": "cancel"},
    {"on_failure": "continue"},
    {"max_attempts": 1},
    {"max_tasks_per_node": 2},
]
KINDS = [
    *([(EndKind.EXIT, 1)] * 3),
    *((EndKind.EXIT, 0), (EndKind.EXIT, 75), (EndKind.STOPPED, None)),
    *((EndKind.OUT_OF_MEMORY, None), (EndKind.UNABLE_TO_START, None), (EndKind.AGENT_LOST, None)),
]
SECONDS = [0.5, 3, 12, 400]
SECONDS_TO_SETTLE = 5.0
ROUNDS_TO_SETTLE_MAX = 500
"""Longer than the longest delay of a task and the longest time that it avoids a node."""
FINAL = ("Complete", "Failed", "Cancelled")
COMMON = [
    *(["claim_all", "finish", "create"] * 4 + ["report", "end", "wait"] * 2),
    *("claim", "call_late", "delete_child", "lose_an_answer", "repeat_a_message"),
    *("add_job", "retry", "fail", "foreign", "foreign", "steer", "step_clock", "repeat_create"),
]
RARE = ["cancel", "delete_job", "delete_task", "restart_agent", "lose_node", "retain"]
"""What undoes work: only after some starts, so that work comes about."""
EVENTS_PER_ROUND = 5000 if IS_TORTURE else 3000
EVENTS_PER_RUN = 200
seen: Counter[str] = Counter()


class ServiceMachine(RuleBasedStateMachine):
    """Two nodes, some jobs; `dead` are attempts that must never be heard again."""

    events = 0
    """How many there were, in all runs together."""

    def __init__(self, service: LocalService | None = None) -> None:
        super().__init__()
        # Without the thread that the store has for its writes, twice as many events are played.
        self.service = service or LocalService(store=InlineStore())
        self.agents: list[SimulatedAgent] = []
        self.jobs: list[str] = []
        self.foreign_jobs: list[str] = []
        self.dead: list[Assignment] = []
        self.accepted: dict[str, tuple[int, str | None]] = {}
        """Complete tasks: the attempt and the output that were accepted."""
        self.sent: list[Sync] = []
        self.named = 0
        """Creates that carried a name."""
        self.calm = 0
        """Starts since the last rare event."""

    def teardown(self) -> None:
        self.service.close()

    @initialize()
    def begin(self) -> None:
        for name, slots in (("n1", 3), ("n2", 2)):
            self.agents.append(
                SimulatedAgent(self.service, name, slots=slots, memory_kib=1000, cores=4)
            )

    @rule(name=st.sampled_from(COMMON), number=NUMBER, more=NUMBER)
    def common_event(self, name: str, number: int, more: int) -> None:
        """One of the events that work is made of, by weight."""
        ServiceMachine.events += 1
        getattr(self, name)(number, more)

    @rule(name=st.sampled_from(RARE), number=NUMBER, more=NUMBER)
    def rare_event(self, name: str, number: int, more: int) -> None:
        """One of the events that undo work."""
        ServiceMachine.events += 1
        if self.calm >= 3:
            before = seen.total()
            getattr(self, name)(number, more)
            self.calm = 0 if seen.total() > before else self.calm

    # -- what runs ---------------------------------------------------------------------------------

    def running(self, number: int) -> list[tuple[SimulatedAgent, Assignment]]:
        """Return one of the running attempts, none when there is none."""
        found = [(agent, one) for agent in self.agents for one in agent.running.values()]
        return found[number % len(found) :][:1] if found else []

    def open(self, number: int) -> list[tuple[SimulatedAgent, Assignment]]:
        """Return one of the running attempts whose record is open."""
        return [pair for pair in self.running(number) if self.is_open(pair[1])]

    def is_open(self, one: Assignment) -> bool:
        rows = self.service.rows("SELECT state FROM attempt WHERE id = :id", id=one.attempt)
        return bool(rows) and rows[0][0] < 2

    def pick(self, number: int, *states: str) -> list[JobRecord]:
        """Return one job in one of these states with no process left, none when there is none."""
        found = [self.service.job(uuid) for uuid in self.jobs]
        found = [job for job in found if job.state in states]
        found = [job for job in found if job.state == "Running" or not job.live]
        return found[number % len(found) :][:1] if found else []

    # -- jobs --------------------------------------------------------------------------------------

    def add_job(self, number: int, _: int) -> None:
        states = [self.service.job(uuid).state for uuid in self.jobs]
        if states.count("Queued") + states.count("Running") < 3:
            given = JOBS[number % len(JOBS)]
            self.jobs.append(self.service.new_job(runtime_constraints=given).uuid)
            self.service.tick()

    def cancel(self, number: int, more: int) -> None:
        """Sometimes just when assignments are on their way."""
        if more % 2:
            self.lose_an_answer(more // 2, 0)
        for job in self.pick(number, "Queued", "Running"):
            self.service.call(jobs.cancel, job.uuid, None)
            seen["cancels"] += 1

    def retry(self, number: int, more: int) -> None:
        for job in self.pick(number, "Failed", "Cancelled"):
            waiting = [task.uuid for task in self.service.tasks_of(job) if task.state in (0, 3)]
            chosen: Chosen = waiting[number % 2 :: 2] if more % 2 else None
            found = self.service.call(families.of_job, job.uuid)
            failed = [family.name for family in found if family.tasks]
            if failed and more % 3 == 0:
                chosen = FailedFamily(failed[number % len(failed)])
                seen["retried families"] += 1
            given = CONSTRAINTS[more % len(CONSTRAINTS)]
            self.service.call(jobs.retry, job.uuid, chosen, given)
            self.service.tick()
            seen["retries"] += 1

    def delete_job(self, number: int, _: int) -> None:
        for job in self.pick(number, *FINAL):
            self.service.call(jobs.delete, job.uuid)
            self.jobs.remove(job.uuid)
            seen["deleted jobs"] += 1

    def delete_task(self, number: int, more: int) -> None:
        for job in self.pick(number, *FINAL):
            for task in self.service.tasks_of(job)[more % 3 :][:1]:
                self.service.call(tasks.delete, task.uuid)
                self.accepted.pop(task.uuid, None)
                seen["deleted tasks"] += 1

    # -- agents ------------------------------------------------------------------------------------

    def claim_all(self, number: int, more: int) -> None:
        """All nodes fill all slots; with too little to do there is another job."""
        if not self.pick(number, "Running"):
            self.add_job(more, number)
        for which, agent in enumerate(self.agents):
            self.claim(which, agent.slots)

    def claim(self, which: int, slots: int) -> None:
        """A node fills some of its slots."""
        agent = self.agents[which % len(self.agents)]
        self.obey(agent, agent.message(free_slots=agent.free_slots[: slots % (agent.slots + 1)]))

    def send(self, agent: SimulatedAgent, message: Sync) -> Orders:
        """Send it; only tasks of their job's lowest open sequence are claimed (R5).

        A repeated assignment was claimed earlier, when its sequence was the lowest.
        """
        frontiers = self.frontiers()
        ((newest,),) = self.service.rows("SELECT coalesce(max(id), 0) FROM attempt")
        ended = {end.attempt for end in message.ended}
        self.sent.append(message)
        orders = agent.send(message)
        for one in orders.start:
            if one.attempt > newest:
                assert ended or one.sequence == frontiers[one.job], "level order is broken"
                assert one.task not in self.accepted, "started after its acceptance"
                seen["starts"] += 1
                self.calm += 1
        return orders

    def frontiers(self) -> dict[str, int]:
        """Return the lowest sequence of each job with a task that is not complete, from rows."""
        statement = """
            SELECT job_uuid, min(sequence) FROM visible_task WHERE state <> 2 GROUP BY job_uuid
        """
        return dict(self.service.rows(statement))

    def obey(self, agent: SimulatedAgent, message: Sync) -> None:
        orders = self.send(agent, message)
        assert not orders.stale
        if orders.rejoin:
            seen["rejoins"] += 1
            self.join(agent, set(agent.running))
            return
        agent.obey(orders)
        self.stop(agent, orders)

    def stop(self, agent: SimulatedAgent, orders: Orders) -> None:
        """End what is to be stopped; say `unknown` of what is asked about and not known."""
        for stop in orders.stop:
            if stop.attempt in agent.running:
                self.dead.append(agent.running.pop(stop.attempt))
                if not stop.discard:
                    agent.ended.append(Ended(stop.attempt, EndKind.STOPPED, signal=15))
        known = {*agent.running, *(end.attempt for end in agent.ended)}
        unknown = [attempt for attempt in orders.ask if attempt not in known]
        if unknown or agent.ended:
            agent.sync(unknown=unknown, free_slots=[])
            seen["unknown"] += bool(unknown)

    def lose_an_answer(self, which: int, _: int) -> None:
        """The orders do not arrive; the assignments are repeated by the next sync."""
        agent = self.agents[which % len(self.agents)]
        self.send(agent, agent.message())

    def repeat_a_message(self, which: int, _: int) -> None:
        """A late copy of an earlier sync changes nothing (R35)."""
        for message in self.sent[which % max(len(self.sent), 1) :][:1]:
            before = self.service.rows("SELECT * FROM attempt")
            orders = self.service.as_token(AGENT_TOKEN, nodes.sync, message)
            assert orders.stale or orders.rejoin
            assert self.service.rows("SELECT * FROM attempt") == before

    def restart_agent(self, which: int, kept: int) -> None:
        """Some attempts go on under the new agent, the others are lost."""
        agent = self.agents[which % len(self.agents)]
        self.join(agent, {attempt for attempt in agent.running if (attempt + kept) % 2})
        seen["restarts"] += 1

    def join(self, agent: SimulatedAgent, running: set[int]) -> None:
        for attempt, one in agent.running.items():
            if attempt not in running or not self.is_open(one):
                self.dead.append(one)
        with_verdict = self.with_verdict()
        agent.join(running)
        self.note_accepted(with_verdict)
        self.obey(agent, agent.message(free_slots=[]))

    def end(self, number: int, how: int) -> None:
        for agent, one in self.running(number):
            self.end_one(agent, one, *KINDS[how % len(KINDS)])

    def end_one(
        self, agent: SimulatedAgent, one: Assignment, kind: EndKind, exit_code: int | None
    ) -> None:
        """End it; its task became complete if, and only if, its open record said so (R10)."""
        with_verdict = self.with_verdict()
        was_open = self.is_open(one)
        self.dead.append(agent.running.pop(one.attempt))
        agent.ended.append(Ended(one.attempt, kind, exit_code=exit_code, peak_memory_kib=300))
        self.obey(agent, agent.message(free_slots=[]))
        self.note_accepted(with_verdict)
        if was_open and not agent.ended:
            complete = self.service.task(one.task).state == 2
            assert complete == (one.task in with_verdict)

    def with_verdict(self) -> dict[str, tuple[int, str | None]]:
        """Return the running tasks whose record says that they are complete."""
        statement = """
            SELECT uuid, attempt_id, output FROM task
            WHERE state = 1 AND success = 1 AND progress = 1.0
        """
        return {row[0]: (row[1], row[2]) for row in self.service.rows(statement)}

    def note_accepted(self, with_verdict: dict[str, tuple[int, str | None]]) -> None:
        """Note which of these became complete; none may have been before."""
        complete = {row[0] for row in self.service.rows("SELECT uuid FROM task WHERE state = 2")}
        for uuid in complete & with_verdict.keys():
            assert uuid not in self.accepted, "accepted twice"
            self.accepted[uuid] = with_verdict[uuid]
            seen["accepted"] += 1

    # -- attempts ----------------------------------------------------------------------------------

    def create(self, number: int, more: int) -> None:
        for agent, one in self.open(number):
            item = {
                "sequence": max(0, one.sequence + 1 - more % 3),
                "runtime_constraints": CONSTRAINTS[more // 3 % len(CONSTRAINTS)],
            }
            agent.create(one, *[item] * (2 + number % 4))
            seen["creates"] += 1

    def report(self, number: int, more: int) -> None:
        for agent, one in self.open(number):
            success = (True, True, None)[more % 3]
            agent.write(one, success=success, progress=None, output=str(number))

    def finish(self, number: int, _: int) -> None:
        """A task succeeds and ends."""
        for agent, one in self.open(number):
            if not one.sequence:
                self.create(number, number)
            agent.write(one, success=True, progress=1, output=str(number))
            self.end_one(agent, one, EndKind.EXIT, 0)

    def fail(self, number: int, _: int) -> None:
        """A task fails for good."""
        for agent, one in self.open(number):
            agent.write(one, success=False)
            self.end_one(agent, one, EndKind.EXIT, 1)
            seen["failures"] += 1

    def delete_child(self, number: int, _: int) -> None:
        rows = self.service.rows(
            "SELECT t.uuid, b.creator_attempt_id FROM task AS t"
            " JOIN batch AS b ON b.id = t.batch_id WHERE b.state = 0 ORDER BY t.id"
        )
        tokens = {one.attempt: one.token for a in self.agents for one in a.running.values()}
        for uuid, attempt in rows[number % max(len(rows), 1) :][:1]:
            if attempt in tokens:
                self.service.as_token(tokens[attempt], tasks.delete, uuid)
                seen["deleted children"] += 1

    def call_late(self, number: int, _: int) -> None:
        """A dead attempt's token writes, creates and reads nothing (R32)."""
        for one in self.dead[number % max(len(self.dead), 1) :][:1]:
            rows = self.service.rows("SELECT job_id FROM attempt WHERE id = :id", id=one.attempt)
            if not rows or one.job not in self.jobs:
                continue
            before = self.service.rows("SELECT * FROM task")
            with pytest.raises(StaleAttempt):
                self.service.as_token(
                    one.token, tasks.update, one.task, {"success": True}, whole=False
                )
            with pytest.raises(StaleAttempt):
                self.service.as_token(one.token, tasks.create_many, [{}])
            assert self.service.rows("SELECT * FROM task") == before
            seen["late calls"] += 1

    # -- time --------------------------------------------------------------------------------------

    def wait(self, number: int, _: int) -> None:
        """Time passes; a long one is a pause of the server, which ends nothing (R33)."""
        seconds = SECONDS[number % len(SECONDS)]
        for agent in self.agents:
            self.obey(agent, agent.message(free_slots=[]))
        live = "SELECT id, state FROM attempt WHERE state < 3"
        before = self.service.rows(live)
        self.service.clock.advance(seconds)
        self.service.tick(gap=seconds > 12)
        assert self.service.rows(live) == before

    def lose_node(self, which: int, _: int) -> None:
        """A node is not heard for a whole lease: what it ran is over, and it must join again."""
        silent = self.agents[which % len(self.agents)]
        others = [agent for agent in self.agents if agent is not silent]
        for _ in range(3):
            for agent in others:
                self.obey(agent, agent.message(free_slots=[]))
            self.service.clock.advance(11)
        with_verdict = self.with_verdict()
        self.service.tick()
        self.note_accepted(with_verdict)
        assert not self.service.rows(
            "SELECT a.id FROM attempt AS a JOIN node AS n ON n.id = a.node_id"
            " WHERE a.state < 3 AND n.lasting_id = :node",
            node=silent.node,
        )
        seen["lost nodes"] += 1

    def step_clock(self, number: int, more: int) -> None:
        """The clock is set; the manager sees it, and nothing ends (R33)."""
        live = "SELECT id, state FROM attempt WHERE state < 3"
        before = self.service.rows(live)
        self.service.clock.advance((-86_400, -3600, 3600)[number % 3])
        self.service.tick(gap=True)
        assert self.service.rows(live) == before
        seen["clock steps"] += 1

    # -- nodes, old jobs, jobs of other managers ---------------------------------------------------

    def steer(self, number: int, more: int) -> None:
        """A node that is down is released or, when it is gone, deleted; else one is taken down."""
        rows = self.service.rows("SELECT uuid, state FROM visible_node ORDER BY id")
        for uuid, state in rows:
            if state == "gone":
                self.service.call(steering.delete, uuid)
                seen["deleted nodes"] += 1
                return
            if state in ("held", "draining", "drained"):
                self.service.call(steering.release, uuid)
                return
        for uuid, _ in rows[number % max(len(rows), 1) :][:1]:
            if more % 2:
                self.service.call(steering.drain, uuid)
            else:
                self.service.call(steering.hold, uuid, 20)
            seen["steered nodes"] += 1

    def retain(self, number: int, more: int) -> None:
        """What is over is removed."""
        for uuid in self.service.run(retention.remove_jobs, before=self.service.clock.now):
            for mine in (self.jobs, self.foreign_jobs):
                if uuid in mine:
                    mine.remove(uuid)
            seen["retained no longer"] += 1

    def repeat_create(self, number: int, more: int) -> None:
        """A create that is sent again makes one thing (R22)."""
        for _, one in self.open(number):
            self.named += 1
            name: Name | None = RequestName((token_hash(one.token), f"r{self.named}"), b"same")
            if more % 2:
                name = make_key(f"k{self.named}", "", b"same")
            create = partial(self.service.as_token, one.token, tasks.create_many, [{}, {}], name)
            assert create().uuids == create().uuids
            seen["repeats"] += 1

    def foreign(self, number: int, more: int) -> None:
        """Somebody else's manager begins, takes over, fills or ends a job (R7b)."""
        for job in self.pick(number, "Queued"):
            self.service.call(jobs.update, job.uuid, {"state": "Running"}, whole=False)
            self.jobs.remove(job.uuid)
            self.foreign_jobs.append(job.uuid)
            return
        found = [self.service.job(uuid) for uuid in self.foreign_jobs]
        running = [job for job in found if job.state == "Running"]
        if len(running) < 2:
            self.foreign_jobs.append(self.service.call(jobs.create, {"state": "Running"}).uuid)
        elif number % 7 == 0:
            values = {"state": ("Complete", "Failed", "Cancelled")[more % 3]}
            self.service.call(jobs.update, running[0].uuid, values, whole=False)
        else:
            self.manage(running[number % 2], number, more)

    def manage(self, job: JobRecord, number: int, more: int) -> None:
        """A task of a foreign job is created, written or deleted."""
        there = self.service.tasks_of(job)
        if more % 4 == 0 or not there:
            creator = there[number % len(there)].uuid if there and more % 8 else None
            body = {"job_uuid": job.uuid, "created_by_job_task_uuid": creator}
            self.service.call(tasks.create, {**body, "sequence": number % 3})
        elif more % 4 == 1 and number % 3 == 0:
            self.service.call(tasks.delete, there[number % len(there)].uuid)
        else:
            success = (True, None, False, True)[more % 4]
            values = {"success": success, "progress": (0.5, 1.0)[number % 2]}
            task = there[number % len(there)].uuid
            self.service.call(tasks.update, task, values, whole=False)
        seen["foreign tasks"] += 1

    # -- the end -----------------------------------------------------------------------------------

    def settle(self) -> None:
        """Nothing bad happens any more, every task succeeds: soon each job is over."""
        for (uuid,) in self.service.rows("SELECT uuid FROM visible_node WHERE state <> 'gone'"):
            self.service.call(steering.release, uuid)
        for _ in range(ROUNDS_TO_SETTLE_MAX):
            for agent in self.agents:
                self.obey(agent, agent.message())
                for one in list(agent.running.values()):
                    if self.is_open(one):
                        agent.write(one, success=True, progress=1, output="at last")
                    self.end_one(agent, one, EndKind.EXIT, 0)
            if not (left := self.unfinished()):
                return
            self.service.clock.advance(SECONDS_TO_SETTLE)
            self.service.tick()
        raise AssertionError(f"not over: {left}")

    def unfinished(self) -> list[JobRecord]:
        """Return the jobs that are not over."""
        found = [self.service.job(uuid) for uuid in self.jobs]
        return [job for job in found if job.state not in FINAL or job.live]

    # -- what holds always -------------------------------------------------------------------------

    @invariant()
    def counters_agree(self) -> None:
        assert self.service.write(counter_problems) == {}

    @invariant()
    def what_was_accepted_stays(self) -> None:
        """A complete task never runs again, and keeps its output."""
        rows = self.service.rows("SELECT uuid, state, attempt_id, output FROM visible_task")
        now = {row[0]: row[1:] for row in rows}
        for uuid, (attempt_id, output) in self.accepted.items():
            if uuid in now:
                assert now[uuid] == (2, attempt_id, output)


@pytest.mark.timeout(400)  # a failing run is made smaller for at most five minutes
@pytest.mark.rule("R4", "R5", "R10", "R14", "R21", "R23", "R24", "R32", "R33", "R35")
def test_promises_hold_in_any_order_of_events() -> None:
    """Chosen by hypothesis, 200 in a run; every kind of event is seen."""
    seen.clear()
    before = ServiceMachine.events
    for _ in rounds("state machine of the service", 1, 200):
        run_state_machine_as_test(
            ServiceMachine,
            settings=settings(
                max_examples=EVENTS_PER_ROUND // EVENTS_PER_RUN,
                stateful_step_count=EVENTS_PER_RUN,
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    note("state machine of the service", events=ServiceMachine.events - before)
    assert min(seen[name] for name in ("starts", "accepted", "creates", "late calls")) > 5, seen


@pytest.mark.rule("R4", "R5", "R10", "R14", "R21", "R23", "R24", "R32", "R33", "R35")
def test_promises_hold_in_seeded_runs() -> None:
    """The same events, mixed evenly: 6 runs of 300; every kind is seen, and every job ends when
    nothing bad happens any more.
    """
    seen.clear()
    for seed in range(6):
        play(seed)
    print(dict(seen))
    assert len(seen) == 21, seen


@pytest.mark.rule("R4", "R5", "R10", "R14", "R21", "R23", "R24", "R32", "R33", "R35")
def test_promises_hold_on_postgresql(postgres: Cluster) -> None:
    """The same machine and the same events, on the other database."""
    address = postgres.new_database()
    for seed in range(20 if IS_TORTURE else 1):
        empty(address)
        store = PostgresStore(address)
        play(seed, LocalService(store=store), 300 if IS_TORTURE else 80)


def play(seed: int, service: LocalService | None = None, events: int = 300) -> None:
    """Run so many events; a failure names the seed and the event."""
    choice = random.Random(seed)
    machine = ServiceMachine(service or LocalService())
    machine.begin()
    name = "begin"
    try:
        for _ in range(events):
            name = choice.choice(COMMON if choice.random() < 0.85 else RARE)
            event = machine.common_event if name in COMMON else machine.rare_event
            event(name, choice.randrange(10**6), choice.randrange(10**6))
            machine.counters_agree()
            machine.what_was_accepted_stays()
        name = "settle"
        machine.settle()
        machine.counters_agree()
        machine.what_was_accepted_stays()
    except BaseException as problem:
        problem.add_note(f"seed {seed}, event {name}")
        raise
    finally:
        machine.teardown()
