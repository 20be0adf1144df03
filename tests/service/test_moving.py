"""A job, also an unfinished one, goes to another database and on from there (R10, R23)."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from tests import streams
from tests.databases import Cluster

from jobtasks.core import moving
from jobtasks.core.errors import Conflict, Forbidden, Invalid, Unavailable
from jobtasks.core.identifiers import UuidMaker
from jobtasks.core.job_stream import Creation, TaskLine
from jobtasks.core.settings import Settings
from jobtasks.core.states import TaskState
from jobtasks.protocol.messages import Assignment, EndKind
from jobtasks.service import arrivals, exports, families, imports, jobs, setup, tasks, tree, users
from jobtasks.service.arrivals import SILENT_SECONDS
from jobtasks.store.postgres import PostgresStore
from jobtasks.store.records import JobRecord
from jobtasks.store.statements import load_statements
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.engine import FakeEngine
from jobtasks.testing.service import SCRIPT, LocalService

LEFT = (
    "SELECT (SELECT count(*) FROM arrival), (SELECT count(*) FROM task),"
    " (SELECT count(*) FROM batch),"
    " (SELECT count(*) FROM attempt), (SELECT count(*) FROM tail), (SELECT count(*) FROM requeue),"
    " (SELECT count(*) FROM family), (SELECT count(*) FROM tally), (SELECT count(*) FROM level),"
    " (SELECT count(*) FROM lineage), (SELECT count(*) FROM job)"
)


class Runner:
    """An agent whose tasks do what their parameters say; it counts how often each starts."""

    def __init__(self, service: LocalService, node: str = "n1") -> None:
        self.agent = SimulatedAgent(service, node)
        self.service = service
        self.starts: Counter[str] = Counter()

    def take(self) -> list[Assignment]:
        """Return what starts now."""
        found = self.agent.take()
        self.starts.update(assignment.task for assignment in found)
        return found

    def work(self, assignment: Assignment) -> None:
        """Create the children that are asked for, and complete."""
        parameters = msgspec.json.decode(self.service.task(assignment.task).parameters)
        if parameters.get("create"):
            self.agent.create(assignment, *parameters["create"])
        self.agent.complete(assignment, f"{assignment.sequence} {parameters.get('name')}")

    def work_all(self) -> None:
        """Go on until nothing starts any more."""
        while True:
            self.service.tick()
            found = self.take()
            if not found:
                return
            for assignment in found:
                self.work(assignment)


def child(name: str, *create: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"parameters": {"name": name, "create": list(create)}, **more}


CHILDREN = [
    child("done"),
    child("bad"),
    child("cut", child("grandchild"), runtime_constraints={"min_ram_per_task": 1000}),
    child("shaky"),
    child("later", sequence=7),
]


def in_the_middle(service: LocalService) -> str:
    """Cancel a job with tasks that are complete, failed, cut off, waiting, and never started."""
    runner = Runner(service)
    job = service.started_job(priority=3, description="d", submit_id="once")
    (seed,) = runner.take()
    runner.agent.create(seed, *CHILDREN)
    runner.agent.complete(seed, "seed")
    done, bad, cut, shaky = runner.take()
    runner.work(done)
    runner.agent.crash(shaky, stderr_tail=b"KeyError: 17\n")
    runner.agent.create(cut, child("grandchild"))
    runner.agent.fail(bad)
    service.call(jobs.cancel, job.uuid, "moved")
    runner.agent.end(cut, EndKind.STOPPED)
    return job.uuid


def elsewhere(service: LocalService, seed: int) -> LocalService:
    """Have a service give names of its own, as another server does."""
    service.world.uuids = UuidMaker(setup.PREFIX, random.Random(seed).randrange)
    return service


@pytest.fixture
def source() -> Iterator[LocalService]:
    service = elsewhere(LocalService(), 2)
    yield service
    assert not service.write(counter_problems)
    service.close()


@pytest.fixture(scope="module")
def shared(postgres: Cluster) -> Iterator[LocalService]:
    service = elsewhere(LocalService(store=PostgresStore(postgres.new_database())), 3)
    yield service
    assert not service.write(counter_problems)
    service.close()


def finished(service: LocalService, uuid: str) -> tuple[set[str], str, dict[str, Any]]:
    """Run a queued job to its end: which tasks started, its output, and its tasks by name."""
    runner = Runner(service, "n9")
    runner.work_all()
    job = service.job(uuid)
    assert job.state == "Complete"
    assert set(runner.starts.values()) == {1}
    numbers = {task.uuid: task.qsequence for task in service.tasks_of(job)}
    found = {}
    for task in service.tasks_of(job):
        name = str(msgspec.json.decode(task.parameters).get("name"))
        creator = numbers.get(task.created_by_job_task_uuid or "")
        found[name] = (task.qsequence, task.sequence, task.output, task.failed_count, creator)
    return set(runner.starts), str(job.output), found


@pytest.mark.rule("R10", "R12", "R23")
def test_a_job_goes_on_as_if_it_had_never_moved(
    source: LocalService, service: LocalService, shared: LocalService
) -> None:
    """From SQLite to PostgreSQL, to SQLite, there to its end: no complete task starts again."""
    uuid = in_the_middle(source)
    data = streams.stream_of(source, uuid)
    streams.bring(shared, data)
    assert streams.stream_of(shared, uuid) == data, "what arrived is what was sent, byte by byte"
    imported = streams.bring(service, streams.stream_of(shared, uuid), resumes=True)
    assert (imported.job.state, imported.facts["resumed"]) == ("Queued", True)
    before = {task.uuid: task for task in source.tasks_of(source.job(uuid))}
    after = {task.uuid: task for task in service.tasks_of(imported.job)}
    assert before.keys() == after.keys()
    complete = {name for name, task in before.items() if task.state == TaskState.COMPLETE}
    assert len(complete) == 2
    for name, task in before.items():
        assert (after[name].qsequence, after[name].failed_log) == (task.qsequence, task.failed_log)
        told = [attempt[1:] for attempt in source.attempts(name)]
        assert [attempt[1:] for attempt in service.attempts(name)] == told
    source.call(jobs.retry, uuid, None, None)
    starts, output, found = finished(source, uuid)
    moved_starts, moved_output, moved = finished(service, uuid)
    assert (moved_output, moved) == (output, found)
    assert "grandchild" in found
    assert not complete & (starts | moved_starts)
    shared.call(jobs.retry, uuid, None, None)
    assert finished(shared, uuid)[1:] == (output, found), "what is imported as it is can be retried"


def test_what_is_seen_of_it_is_the_same(source: LocalService, service: LocalService) -> None:
    """Families, who created whom, levels; one event says that it came."""
    uuid = in_the_middle(source)
    streams.bring(service, streams.stream_of(source, uuid))
    assert service.call(tree.by_sequence, uuid) == source.call(tree.by_sequence, uuid)
    assert service.call(jobs.levels, uuid) == source.call(jobs.levels, uuid)
    mine, other = (one.call(families.of_job, uuid) for one in (source, service))
    assert mine == other
    assert len(mine) > 1
    kept = service.call(
        jobs.create, {**SCRIPT, "priority": 3, "description": "d", "submit_id": "once"}
    )
    assert kept.uuid == uuid, "who submits it again finds it here"
    said = service.rows("SELECT event_type FROM visible_log WHERE object_uuid = :uuid", uuid=uuid)
    assert said == [("create",)]


@pytest.mark.rule("R30")
def test_it_comes_to_an_engine_that_could_not_run_it(
    source: LocalService, service: LocalService
) -> None:
    """Its records are worth having; what is refused is to run it there."""
    uuid = in_the_middle(source)
    service.world.engine, service.world.offer = "fake", FakeEngine(memory_kib=900).offer()
    assert streams.bring(service, streams.stream_of(source, uuid)).job.state == "Cancelled"
    with pytest.raises(Invalid, match="min_ram_per_task"):
        service.call(jobs.retry, uuid, None, {"min_ram_per_task": 1000})


@pytest.mark.rule("R7b")
def test_a_foreign_job_is_carried_as_it_is(source: LocalService, service: LocalService) -> None:
    """In any state: its tasks are its own manager's, and numbers may have holes."""
    job = source.call(jobs.create, {**SCRIPT, "state": "Running"})
    source.call(tasks.create, {"job_uuid": job.uuid, "qsequence": 5, "progress": 0.5})
    source.call(tasks.create, {"job_uuid": job.uuid, "started_at": "2026-01-01"})
    failed = {"success": False, "failed_count": 2, "failed_log": "no", "attempts": 2}
    source.call(tasks.create, {"job_uuid": job.uuid, **failed})
    data = streams.stream_of(source, job.uuid)
    assert streams.bring(service, data, resumes=True).facts["resumed"] is False
    assert streams.stream_of(service, job.uuid) == data
    assert service.job(job.uuid)[11:] == source.job(job.uuid)[11:]
    assert service.tasks_of(service.job(job.uuid))[0].qsequence == 5


def test_whose_it_is(source: LocalService, service: LocalService) -> None:
    """Its owner's by uuid or address; else the administrator's who imports it."""
    token = source.new_user("ada")
    ada = source.as_token(token, users.current).uuid
    source.call(users.update, ada, {"email": "ada@example.com"}, whole=False)
    job = source.as_token(token, jobs.create, dict(SCRIPT))
    source.call(jobs.cancel, job.uuid, None)
    data = streams.stream_of(source, job.uuid)
    imported = streams.bring(service, data)
    root = service.call(users.current).uuid
    assert (imported.job.owner_uuid, imported.facts["owner"]) == (root, "importer")
    service.call(jobs.delete, job.uuid)
    here = service.call(users.create, {"username": "lovelace", "email": "ada@example.com"})
    imported = streams.bring(service, data)
    assert (imported.job.owner_uuid, imported.facts["owner"]) == (here.uuid, "email")
    with pytest.raises(Forbidden):
        source.as_token(token, exports.begin, job.uuid)


def test_what_would_run_twice_is_not_exported(source: LocalService) -> None:
    """Queued, running, or with a process that has not ended yet."""
    job = source.new_job()
    with pytest.raises(Conflict, match="--cancel"):
        source.call(exports.begin, job.uuid)
    agent = SimulatedAgent(source)
    source.tick()
    seed = agent.take_one()
    with pytest.raises(Conflict, match="--cancel"):
        source.call(exports.begin, job.uuid)
    source.call(jobs.cancel, job.uuid, None)
    with pytest.raises(Conflict, match="not ended"):
        source.call(exports.begin, job.uuid)
    agent.end(seed, EndKind.STOPPED)
    departure = source.call(exports.begin, job.uuid)
    source.call(jobs.retry, job.uuid, None, None)
    with pytest.raises(Unavailable, match="changed"):
        source.call(exports.check_unchanged, departure.job)


@pytest.mark.parametrize("how", ["left", "silent"])
def test_what_did_not_come_whole_is_gone(
    source: LocalService, service: LocalService, how: str
) -> None:
    """Nothing is seen of it, counters agree meanwhile, and every row is swept."""
    uuid = in_the_middle(source)
    data = streams.stream_of(source, uuid)
    before = service.rows(LEFT)
    arriving = streams.begin(service, data)
    assert arriving is not None
    splitter = streams.add(service, arriving, data)
    service.tick()
    assert service.rows("SELECT count(*) FROM visible_task") == [(0,)]
    assert service.rows("SELECT count(*) FROM visible_job") == [(0,)]
    assert not service.write(counter_problems)
    with pytest.raises(Conflict, match="another request"):
        streams.begin(service, data)
    if how == "left":
        service.run(arrivals.leave, arriving.arrival_id)
        again = streams.begin(service, data)
        assert again is not None
        with pytest.raises(Unavailable, match="still being removed"):
            streams.add(service, again, data)
        service.run(arrivals.leave, again.arrival_id)
    else:
        service.pass_seconds(SILENT_SECONDS + 1)
    for _ in range(12):
        service.tick()
    assert service.rows(LEFT) == before
    with pytest.raises(Unavailable):
        service.call(imports.finish, arriving, splitter.close())
    streams.bring(service, data)
    assert service.job(uuid).state == "Cancelled"


def test_only_the_same_stream_is_answered_again(
    source: LocalService, service: LocalService
) -> None:
    """What is here already is not replaced."""
    uuid = in_the_middle(source)
    data = streams.stream_of(source, uuid)
    imported = streams.bring(service, data)
    assert streams.begin(service, data) is None
    end = streams.ended(data)
    again = service.call(imports.imported_before, uuid, end)
    assert (again.job.uuid, again.facts) == (uuid, imported.facts)
    end.sha256 = "0" * 64
    with pytest.raises(Conflict, match="here already"):
        service.call(imports.imported_before, uuid, end)
    lines = streams.lines_of(source, uuid)
    other: Any = lines[0]
    other.uuid = "zzzzz-8i9sb-anotherjobanoth"
    with pytest.raises(Conflict, match="in another job"):
        streams.bring(service, streams.whole(lines))


CONTRADICTIONS: list[tuple[str, str, Any]] = [
    ("attempt", "number", 2),
    ("attempt", "counted", True),
    ("attempt", "qsequence", 4000),
    ("attempt", "job_task_uuid", "zzzzz-ot0gb-nobodystasknobo"),
    ("attempt", "family", "nobodys"),
    ("attempt", "cause", "boredom"),
    ("attempt", "is_failed_log", True),
    ("attempt", "stderr", "\0"),
    ("task", "attempts", 7),
    ("task", "state", "waiting"),
    ("task", "state", "running"),
    ("task", "state", "asleep"),
    ("task", "success", None),
    ("task", "progress", 0.5),
    ("task", "qsequence", 77),
    ("task", "failed_count", 1),
    ("task", "waits_until", 1),
    ("task", "output", "\0"),
    ("task", "runtime_constraints", {"min_nodes": -1}),
    ("task", "parameters", {"a": [[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}),
    ("task", "log", "x"),
    ("job", "next_qsequence", 2),
    ("job", "tasks", 10**9),
]
COLUMNS: list[tuple[str, Any]] = [
    ("state", "Running"),
    ("state", "Complete"),
    ("state", 5),
    ("managed", 1.0),
    ("seeded", 0),
    ("priority", 2**70),
    ("created_at", 2**62),
    ("created_at", None),
    ("script", None),
    ("script_parameters", []),
    ("cancelled_by_user_uuid", "../../etc"),
    ("description", "\0"),
    ("runtime_constraints", {"max_attempts": "many"}),
    ("what_is_this", 1),
]


class Liar:
    """A stream that a test changes, and a service that is to refuse it."""

    def __init__(self) -> None:
        source = elsewhere(LocalService(), 2)
        self.lines = streams.lines_of(source, in_the_middle(source))
        self.service = LocalService(settings=Settings(depth_max=16))
        source.close()

    def refused(self, changed: Any) -> None:
        """Check that a stream is refused in words, with one of its records replaced."""
        place = next(place for place, line in enumerate(self.lines) if type(line) is type(changed))
        lines = [*self.lines[:place], changed, *self.lines[place + 1 :]]
        with pytest.raises(Invalid):
            streams.bring(self.service, streams.whole(lines))
        assert self.service.rows("SELECT count(*) FROM visible_job") == [(0,)]
        for (arrival_id,) in self.service.rows("SELECT id FROM arrival"):
            self.service.run(arrivals.leave, arrival_id)
        for _ in range(12):
            self.service.tick()


@pytest.fixture(scope="module")
def liar() -> Iterator[Liar]:
    found = Liar()
    yield found
    assert not found.service.write(counter_problems)
    found.service.close()


@pytest.mark.rule("R8", "R40")
def test_contradictions_are_refused(liar: Liar) -> None:
    """Whatever one record says that others do not bear out, or that cannot be."""
    for kind, name, value in CONTRADICTIONS:
        line = next(each for each in liar.lines if type(each).__struct_config__.tag == kind)
        liar.refused(msgspec.structs.replace(line, **{name: value}))
    job: Any = liar.lines[0]
    for name, value in COLUMNS:
        attributes = {**job.attributes, name: value}
        liar.refused(msgspec.structs.replace(job, attributes=attributes))
    children = [each for each in liar.lines if isinstance(each, TaskLine) and each.created_by]
    assert children
    late = Creation(qsequence=4, sequence=1)
    first = next(each for each in liar.lines if isinstance(each, TaskLine))
    liar.refused(msgspec.structs.replace(first, created_by=late))
    streams.bring(liar.service, streams.whole(liar.lines))


def test_every_column_of_a_job_is_carried_or_left_on_purpose() -> None:
    """A column that is added later must be stored by `import_job_add`, or named among `LEFT`."""
    stored = load_statements()["import_job_add"].sql
    for name in moving.carried(JobRecord._fields):
        assert f":{name}" in stored, f"import_job_add does not store {name}"
