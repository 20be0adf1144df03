"""Jobs on nodes of their own: what the manager asks an engine for, and whom such a node serves."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.requests import Ask, RequestState, Sighting
from jobtasks.service import engines, explain, jobs, steering
from jobtasks.service.engines import RequestRow
from jobtasks.store.base import Store
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.engine import FakeEngine
from jobtasks.testing.service import LocalService


class Lab:
    """A service with a fake engine, whose part of the work is done by `carry_out`."""

    def __init__(self, store: Store | None) -> None:
        self.service = LocalService(store=store)
        self.engine = FakeEngine()
        self.service.world.engine = self.engine.name
        self.service.world.offer = self.engine.offer()
        self.agents: dict[tuple[str, str], SimulatedAgent] = {}

    def requests(self) -> list[RequestRow]:
        """What is not over."""
        return self.service.run(engines.open_requests)

    def request(self) -> RequestRow:
        (found,) = self.requests()
        return found

    def ask(self, row: RequestRow | None = None) -> Ask:
        return msgspec.json.decode((row or self.request()).ask, type=Ask)

    def carry_out(self) -> None:
        """Do what the engine's keeper does, once."""
        for row in self.requests():
            if row.ending is not None:
                self.engine.cancel(row.engine_id or "")
            elif row.state == RequestState.WANTED and self.service.run(engines.begin, row.id):
                engine_id = self.engine.ask(row.name, self.ask(row))
                self.service.run(engines.note_asked, row.id, engine_id)
        self.see()

    def see(self) -> None:
        """Note what the engine shows."""
        shown = {one.name: one for one in self.engine.look([])}
        for row in self.requests():
            if row.name in shown:
                self.service.run(engines.note_seen, row.id, shown[row.name])

    def start_agents(self, slots: int = 1) -> list[SimulatedAgent]:
        """Let an agent join from each node that was granted and has none."""
        made = []
        for one in self.engine.live():
            for place in one.places:
                if (one.name, place) not in self.agents:
                    made.append(SimulatedAgent(self.service, place, slots=slots, request=one.name))
                    self.agents[one.name, place] = made[-1]
        return made

    def running_job(self, slots: int = 1, **constraints: object) -> JobRecord:
        """Create a job and give it what it asks for."""
        job = self.service.started_job(runtime_constraints=constraints)
        self.carry_out()
        self.start_agents(slots)
        self.service.tick()
        return self.service.job(job)


@pytest.fixture
def lab(on_database: Store | None) -> Iterator[Lab]:
    lab = Lab(on_database)
    yield lab
    problems = lab.service.write(counter_problems)
    lab.service.close()
    assert not problems


@pytest.mark.rule("R18")
def test_a_job_gets_an_allocation_and_starts(lab: Lab) -> None:
    """It is asked for once; the job starts when its node has joined."""
    job = lab.service.started_job()
    for _ in range(3):
        lab.service.tick()
    assert job.state == "Queued"
    row = lab.request()
    assert (row.state, row.job_id) == (RequestState.WANTED, job.id)
    assert job.uuid in row.name
    lab.carry_out()
    (agent,) = lab.start_agents()
    assert lab.request().state == RequestState.GRANTED
    lab.service.tick()
    assert lab.service.job(job).state == "Running"
    agent.complete(agent.take_one())
    assert lab.service.job(job).state == "Complete"
    lab.service.tick()
    assert lab.request().ending is not None
    lab.carry_out()
    assert lab.requests() == []
    assert lab.engine.live() == []


@pytest.mark.rule("R18")
def test_a_node_of_an_allocation_serves_its_job_only(lab: Lab) -> None:
    """Another job waits for its own, whatever is free; a node that somebody started serves all."""
    first = lab.running_job()
    (agent,) = lab.agents.values()
    second = lab.service.started_job()
    assert lab.service.job(second).state == "Queued"
    agent.complete(agent.take_one())
    assert agent.take() == []
    assert lab.service.job(first).state == "Complete"
    shared = SimulatedAgent(lab.service, "shared")
    lab.service.tick()
    shared.complete(shared.take_one())
    assert lab.service.job(second).state == "Complete"


@pytest.mark.rule("R18")
def test_running_jobs_do_not_take_each_others_nodes(lab: Lab) -> None:
    """Each node is given tasks of its own job, however many others wait."""
    for _ in range(2):
        lab.running_job()
    one, two = lab.agents.values()
    mine, others = one.take_one(), two.take_one()
    assert mine.job != others.job
    one.create(mine, *[{} for _ in range(10)])
    one.complete(mine)
    assert two.take() == []
    assert {assignment.job for assignment in one.take()} == {mine.job}


@pytest.mark.rule("R18", "R25")
def test_min_nodes_start_together(lab: Lab) -> None:
    """The job starts when all of them have joined, not before."""
    job = lab.service.started_job(runtime_constraints={"min_nodes": 3, "max_nodes": 4})
    assert (lab.ask().min_nodes, lab.ask().max_nodes) == (3, 4)
    lab.engine.number = 3
    lab.carry_out()
    request = lab.engine.allocations[0].name
    for number in (1, 2):
        SimulatedAgent(lab.service, f"n{number}", request=request)
        lab.service.tick()
        assert lab.service.job(job).state == "Queued"
    SimulatedAgent(lab.service, "n3", request=request)
    lab.service.tick()
    assert lab.service.job(job).state == "Running"


def test_a_job_grows_and_shrinks(lab: Lab) -> None:
    """With its tasks; what has been idle for long is drained, sent away, and given back."""
    lab.running_job(max_nodes=3, slots=1)
    assert len(lab.agents) == 3
    agents = list(lab.agents.values())
    seed = next(found for agent in agents for found in agent.take())
    owner = next(agent for agent in agents if seed.attempt in agent.running)
    others = [agent for agent in agents if agent is not owner]
    lab.service.tick()
    lab.service.pass_seconds(61, *agents)
    lab.service.tick()
    orders = [agent.sync(free_slots=agent.free_slots) for agent in others]
    gone = [agent for agent, order in zip(others, orders, strict=True) if order.leave]
    first = lab.engine.allocations[0].places[0]
    assert {agent.node for agent in gone} == {agent.node for agent in others} - {first}
    for agent in gone:
        agent.sync(free_slots=[], leaving=True)
    places = lab.service.run(engines.leaving_places)
    assert sorted(places[lab.request().id]) == sorted(agent.node for agent in gone)
    assert lab.service.job(lab.service.task(seed.task).job_uuid).state == "Running"


@pytest.mark.rule("R12", "R33")
def test_a_lost_node_is_replaced(lab: Lab) -> None:
    """Its tasks are tried again elsewhere; the next request avoids it."""
    lab.running_job(max_nodes=2)
    lost, left = lab.agents.values()
    for agent in (lost, left):
        if found := agent.take():
            agent.create(found[0], *[{} for _ in range(6)])
            agent.complete(found[0])
    lost.take()
    left.take()
    lab.service.pass_seconds(35, left)
    lab.service.tick()
    waiting = [row for row in lab.requests() if row.state == RequestState.WANTED]
    assert [lab.ask(row).without for row in waiting] == [(lost.node,)]
    lab.carry_out()
    (made,) = [one for one in lab.engine.live() if one.name == waiting[0].name]
    assert made.places and lost.node not in made.places


@pytest.mark.rule("R35")
def test_an_unknown_request_ends_nothing_and_is_not_repeated(lab: Lab) -> None:
    """Until it is known that the engine has nothing of it."""
    job = lab.service.started_job()
    row = lab.request()
    assert lab.service.run(engines.begin, row.id)
    assert not lab.service.run(engines.begin, row.id)
    for _ in range(5):
        lab.service.pass_seconds(1000)
    assert lab.request().state == RequestState.UNKNOWN
    lab.service.run(engines.ask_again, row.id)
    assert lab.request().state == RequestState.WANTED
    lab.carry_out()
    assert len(lab.engine.allocations) == 1
    assert lab.service.job(job).state == "Queued"


@pytest.mark.rule("R35")
def test_an_agent_that_joins_is_evidence(lab: Lab) -> None:
    """Its request is granted, whatever the engine has said so far, or says of an earlier time."""
    lab.service.started_job()
    row = lab.request()
    lab.service.run(engines.begin, row.id)
    SimulatedAgent(lab.service, "n1", request=row.name)
    assert lab.request().state == RequestState.GRANTED
    late = Sighting(row.name, "7", RequestState.ASKED, "PENDING", "Priority")
    lab.service.run(engines.note_seen, row.id, late)
    found = lab.request()
    assert (found.state, found.engine_id) == (RequestState.GRANTED, "7")


def test_an_agent_of_a_request_that_is_over_is_sent_away(lab: Lab) -> None:
    """It is not let in; nor is one whose request nobody knows."""
    job = lab.running_job()
    name = lab.request().name
    lab.service.call(jobs.cancel, job.uuid, None)
    lab.service.tick()
    assert lab.request().ending is not None
    assert SimulatedAgent(lab.service, "late", request=name).joined.leave
    assert SimulatedAgent(lab.service, "lost", request="jobtasks-nobody-9").joined.leave


@pytest.mark.rule("R21")
def test_a_cancelled_job_gives_its_nodes_back_when_its_processes_are_gone(lab: Lab) -> None:
    """Its agents have to end them, and to tell."""
    job = lab.running_job()
    (agent,) = lab.agents.values()
    running = agent.take_one()
    lab.service.call(jobs.cancel, job.uuid, None)
    lab.service.tick()
    assert lab.request().ending is None
    agent.end(running)
    lab.service.tick()
    assert lab.request().ending is not None


def test_a_deleted_job_gives_its_nodes_back(lab: Lab) -> None:
    """Also one that never started."""
    job = lab.service.started_job()
    lab.carry_out()
    lab.service.call(jobs.delete, job.uuid)
    lab.service.tick()
    assert lab.request().ending is not None
    lab.carry_out()
    assert lab.engine.live() == []


@pytest.mark.rule("R30")
def test_a_job_that_the_engine_can_never_grant_is_refused(lab: Lab) -> None:
    """When it is created, changed or queued again; not if a node that is there would do."""
    for constraints in ({"min_nodes": 5}, {"min_ram_per_task": 9_000_000}):
        with pytest.raises(Invalid, match=next(iter(constraints))):
            lab.service.new_job(runtime_constraints=constraints)
    job = lab.service.new_job()
    with pytest.raises(Invalid, match="min_cores_per_node"):
        change = {"runtime_constraints": {"min_cores_per_node": 5}}
        lab.service.call(jobs.update, job.uuid, change, whole=False)
    lab.service.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Invalid, match="min_nodes"):
        lab.service.call(jobs.retry, job.uuid, None, {"min_nodes": 5})
    SimulatedAgent(lab.service, "large", memory_kib=10_000_000)
    lab.service.new_job(runtime_constraints={"min_ram_per_task": 9_000_000})


@pytest.mark.rule("R30")
@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ({"min_ram_per_task": 9_000_000}, "min_ram_per_task asks for 9000000 KiB"),
        ({"min_cores_per_task": 5}, "min_cores_per_task asks for 5 cores, the largest has 4"),
        ({"min_nodes": 5}, "min_nodes asks for 5 nodes"),
    ],
)
def test_a_task_that_the_engine_can_never_grant_is_refused(
    lab: Lab, constraints: dict[str, int], words: str
) -> None:
    """When it is created, with all others of the call, and when it is to be tried again so."""
    lab.running_job()
    (agent,) = lab.agents.values()
    creator = agent.take_one()
    with pytest.raises(Invalid, match=words):
        agent.create(creator, {}, {"runtime_constraints": constraints})
    agent.fail(creator)
    job = lab.service.job(creator.job)
    assert (job.todo, job.failed, job.state) == (0, 1, "Failed")
    with pytest.raises(Invalid, match=words):
        lab.service.call(jobs.retry, job.uuid, [creator.task], constraints)
    SimulatedAgent(lab.service, "large", memory_kib=10_000_000, cores=8)
    if "min_nodes" not in constraints:
        lab.service.call(jobs.retry, job.uuid, [creator.task], constraints)


@pytest.mark.rule("R31")
def test_the_engines_reasons_are_told(lab: Lab) -> None:
    """What was asked for, and why it is not there."""
    job = lab.service.started_job()
    row = lab.request()

    def told() -> list[str]:
        reasons = lab.service.call(explain.job_reasons, job.uuid)
        return [one.text for one in reasons if one.code == "engine_queue"]

    assert "about to be asked for" in told()[0]
    lab.service.run(engines.begin, row.id)
    assert "unknown" in told()[0]
    lab.service.run(engines.note_asked, row.id, "77")
    waits = Sighting(row.name, "77", RequestState.ASKED, "PENDING", "Resources")
    lab.service.run(engines.note_seen, row.id, waits)
    assert told() == ["fake has not granted request 77 yet (Resources)."]
    lab.service.run(engines.note_over, row.id, "PartitionNodeLimit")
    assert "PartitionNodeLimit" in told()[0]


@pytest.mark.rule("R31")
def test_nodes_of_other_jobs_do_not_explain_anything(lab: Lab) -> None:
    """They are no nodes for this one."""
    lab.running_job()
    other = lab.service.new_job()
    reasons = lab.service.call(explain.job_reasons, other.uuid)
    assert reasons[0].code == "no_node"


@pytest.mark.rule("R16")
def test_a_held_node_counts_for_nothing(lab: Lab) -> None:
    """Another is asked for in its place."""
    lab.running_job()
    (agent,) = lab.agents.values()
    agent.take()
    uuid = lab.service.rows("SELECT uuid FROM node")[0][0]
    lab.service.call(steering.hold, uuid)
    lab.service.tick()
    assert [row.state for row in lab.requests()] == ["granted", "wanted"]


def test_refusals_are_spread_over_time(lab: Lab) -> None:
    """The next request waits; when one brings a node all is forgotten."""
    lab.service.started_job()
    lab.service.run(engines.note_over, lab.request().id, "no")
    lab.service.tick()
    assert lab.requests() == []
    lab.service.pass_seconds(11)
    lab.service.run(engines.note_over, lab.request().id, "no")
    lab.service.pass_seconds(11)
    assert lab.requests() == []
    lab.service.pass_seconds(10)
    lab.carry_out()
    lab.start_agents()
    assert lab.request().state == RequestState.GRANTED


def test_each_host_of_a_list_has_one_request(lab: Lab) -> None:
    """One that is not listed any more loses its; what was granted serves all jobs."""
    lab.service.run(engines.want_hosts, ["a", "b"])
    lab.service.run(engines.want_hosts, ["a", "b"])
    assert [lab.ask(row).place for row in lab.requests()] == ["a", "b"]
    lab.service.run(engines.want_hosts, ["b"])
    row = lab.request()
    agent = SimulatedAgent(lab.service, "b", request=row.name)
    job = lab.service.started_job()
    agent.complete(agent.take_one())
    assert lab.service.job(job).state == "Complete"


def test_nodes_that_were_given_back_are_forgotten(lab: Lab) -> None:
    """Attempts still name them."""
    job = lab.running_job()
    (agent,) = lab.agents.values()
    agent.complete(agent.take_one())
    lab.service.tick()
    agent.sync(free_slots=[], leaving=True)
    lab.carry_out()
    lab.service.tick()
    assert lab.service.rows("SELECT deleted_at IS NULL FROM node") == [(0,)]
    (task,) = lab.service.tasks_of(job)
    assert lab.service.attempts(task.uuid)[0].node == f"{agent.node}.example"
