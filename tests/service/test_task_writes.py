"""Who may write what to a task, and of which types (R7–R9)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobtasks.core.errors import Forbidden, Invalid
from jobtasks.core.timestamps import render_time
from jobtasks.protocol.messages import Assignment
from jobtasks.service import tasks
from jobtasks.store.records import TaskRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService

ABSENT: tuple[Any, ...] = (None, "", {}, 0, False)
CHANGES: dict[str, Any] = {
    "sequence": 5,
    "parameters": {"a": 2},
    "runtime_constraints": {"max_attempts": 9},
    "command": ["false"],
    "qsequence": 9,
    "failed_count": 9,
    "failed_at": 1.0,
    "failed_log": "x",
    "log": "x",
    "job_uuid": "zzzzz-8i9sb-000000000000000",
    "created_by_job_task_uuid": "zzzzz-ot0gb-000000000000000",
    "state": "complete",
    "started_at": "2001-01-01T00:00:00Z",
    "finished_at": "2001-01-01T00:00:00Z",
    "attempts": 9,
    "uuid": "zzzzz-ot0gb-000000000000000",
    "owner_uuid": "zzzzz-tpzed-000000000000001",
}
"""Another value for every attribute that an attempt may not change."""
STALE = ("state", "attempts", "started_at", "finished_at", "failed_count", "failed_at")
"""What moves by itself while a client holds a record."""


@pytest.fixture
def child(service: LocalService, agent: SimulatedAgent) -> Assignment:
    """A running task with a creator, parameters, constraints, a command and one failure."""
    service.started_job()
    agent.grow(
        {
            "parameters": {"a": 1},
            "runtime_constraints": {"max_attempts": 5},
            "command": ["true", "x"],
        }
    )
    agent.end(agent.take_one(), signal=9, stderr_tail=b"died\n")
    service.pass_seconds(10)
    return agent.take_one()


def write(service: LocalService, token: str, uuid: str, body: dict[str, Any], whole: bool) -> None:
    """Send one update."""
    service.as_token(token, tasks.update, uuid, body, whole=whole)


def whole_record(task: TaskRecord) -> dict[str, Any]:
    """Return the record as clients send it back."""
    times = ("started_at", "finished_at", "created_at", "modified_at")
    body = {
        name: getattr(task, name)
        for name in ("uuid", "owner_uuid", "job_uuid", "created_by_job_task_uuid", "sequence")
    }
    for name in ("qsequence", "output", "progress", "attempts", "failed_count", "failed_log"):
        body[name] = getattr(task, name)
    for name in ("parameters", "runtime_constraints", "command"):
        body[name] = json.loads(getattr(task, name))
    for name in times:
        value = getattr(task, name)
        body[name] = value and render_time(value)
    assert task.failed_at is not None
    return {
        **body,
        "state": "running",
        "success": task.success,
        "failed_at": task.failed_at / 1e6,
        "log": task.log,
        "href": "/x",
        "kind": "arvados#jobTask",
        "etag": "x",
    }


@pytest.mark.rule("R7")
@pytest.mark.parametrize("whole", [True, False])
def test_an_attempt_writes_its_own_report(
    service: LocalService, child: Assignment, whole: bool
) -> None:
    """Progress, success and output, each as it stands; what is not named stays."""
    write(service, child.token, child.task, {"progress": 0.25, "output": "half"}, whole)
    write(service, child.token, child.task, {"output": ""}, whole)
    task = service.task(child.task)
    assert (task.progress, task.success, task.output) == (0.25, None, "")
    write(service, child.token, child.task, {"progress": None, "output": None}, whole)
    task = service.task(child.task)
    assert (task.progress, task.output) == (None, None)


@pytest.mark.rule("R7")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_what_belongs_to_others_cannot_be_changed(
    service: LocalService, child: Assignment, name: str, whole: bool
) -> None:
    """422, and nothing of that request is stored; a PUT's stale copy of what moves is ignored."""
    before = service.task(child.task)
    body = {"progress": 0.5, name: CHANGES[name]}
    if whole and name in (*STALE, "failed_log", "log"):
        write(service, child.token, child.task, body, whole)
        assert service.task(child.task) == before._replace(progress=0.5)
        return
    with pytest.raises(Invalid, match=name):
        write(service, child.token, child.task, body, whole)
    assert service.task(child.task) == before


@pytest.mark.rule("R7")
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_an_unchanged_value_is_no_change(
    service: LocalService, child: Assignment, name: str, whole: bool
) -> None:
    """Any attribute may be named with the value that it has."""
    body = {name: whole_record(service.task(child.task))[name], "progress": 0.5}
    write(service, child.token, child.task, body, whole)
    assert service.task(child.task).progress == 0.5


@pytest.mark.rule("R7")
@pytest.mark.parametrize("value", ABSENT, ids=repr)
@pytest.mark.parametrize("name", CHANGES)
def test_empty_values_of_a_whole_record_are_ignored(
    service: LocalService, child: Assignment, name: str, value: Any
) -> None:
    """In a PUT; in a PATCH an empty value is a change like any other."""
    before = service.task(child.task)
    write(service, child.token, child.task, {name: value}, True)
    assert service.task(child.task) == before
    current = whole_record(before)[name]
    if current != value:
        with pytest.raises(Invalid, match=name):
            write(service, child.token, child.task, {name: value}, False)


@pytest.mark.rule("R7")
def test_a_whole_record_may_come_back_with_a_verdict(
    service: LocalService, child: Assignment
) -> None:
    """Existing clients read, set success, and send everything."""
    body = {**whole_record(service.task(child.task)), "success": True, "output": "done"}
    service.clock.advance(3)
    write(service, child.token, child.task, body, True)
    task = service.task(child.task)
    assert (task.progress, task.success, task.output) == (1.0, 1, "done")


@pytest.mark.rule("R7", "R32")
def test_nobody_else_may_write(service: LocalService, agent: SimulatedAgent) -> None:
    """Not the admin, not another attempt of the job, not the creator; the sentence says why."""
    service.started_job()
    seed = agent.take_one()
    uuids = agent.create(seed, {}, {}).uuids
    with pytest.raises(Forbidden, match="dispatched"):
        write(service, seed.token, uuids[0], {"progress": 0.5}, False)
    agent.complete(seed)
    first, second = agent.take()
    with pytest.raises(Forbidden, match="dispatched"):
        write(service, first.token, second.task, {"progress": 0.5}, False)
    with pytest.raises(Forbidden, match="dispatched"):
        service.call(tasks.update, first.task, {"progress": 0.5}, whole=False)
    assert {service.task(uuid).progress for uuid in uuids} == {None}


GOOD: list[tuple[str, Any, Any]] = [
    ("progress", 0, 0.0),
    ("progress", 1, 1.0),
    ("progress", 0.5, 0.5),
    ("progress", None, None),
    *[("success", value, 1) for value in (True, 1, "1", "true")],
    *[("success", value, 0) for value in (False, 0, "0", "false")],
    ("success", None, None),
    ("output", "", ""),
    ("output", "grün\n", "grün\n"),
    ("output", None, None),
]


@pytest.mark.rule("R8")
@pytest.mark.parametrize(("name", "value", "stored"), GOOD)
def test_values_that_count(
    service: LocalService, agent: SimulatedAgent, name: str, value: Any, stored: Any
) -> None:
    """Numbers from 0 to 1; true and false in four spellings each; text; null of all three."""
    service.started_job()
    task = agent.write(agent.take_one(), **{name: value})
    assert getattr(task, name) == stored


NO_NUMBERS: tuple[Any, ...] = (-0.01, 1.01, "0.5", True, [], {}, 1e400, "")
NO_BOOLEANS: tuple[Any, ...] = (2, -1, "yes", "True", "", [], {}, 1.0, 0.5)
NO_TEXTS: tuple[Any, ...] = (1, True, [], {}, ["x"], "nul\0", "half \ud800")
BAD: list[tuple[str, Any]] = [
    *[("progress", value) for value in NO_NUMBERS],
    *[("success", value) for value in NO_BOOLEANS],
    *[("output", value) for value in NO_TEXTS],
]


@pytest.mark.rule("R8")
@pytest.mark.parametrize(("name", "value"), BAD, ids=repr)
def test_values_of_another_type_are_refused(
    service: LocalService, agent: SimulatedAgent, name: str, value: Any
) -> None:
    """422, and nothing of that request is stored."""
    service.started_job()
    seed = agent.take_one()
    good = {"progress": 0.5} if name != "progress" else {"output": "x"}
    with pytest.raises(Invalid, match=name):
        agent.write(seed, **good, **{name: value})
    task = service.task(seed.task)
    assert (task.progress, task.success, task.output) == (None, None, None)


@pytest.mark.rule("R8")
def test_an_unknown_attribute_is_refused(service: LocalService, agent: SimulatedAgent) -> None:
    """By its name."""
    service.started_job()
    with pytest.raises(Invalid, match="colour"):
        agent.write(agent.take_one(), colour="blue")


IMPLIED: list[tuple[dict[str, Any], tuple[float | None, int | None]]] = [
    ({"success": True}, (1.0, 1)),
    ({"success": True, "progress": None}, (1.0, 1)),
    ({"success": "1"}, (1.0, 1)),
    ({"success": True, "progress": 0.5}, (0.5, 1)),
    ({"success": True, "progress": 0}, (0.0, 1)),
    ({"success": False}, (0.25, 0)),
    ({"success": None}, (0.25, None)),
]


@pytest.mark.rule("R9")
@pytest.mark.parametrize(("body", "stored"), IMPLIED)
def test_success_implies_progress(
    service: LocalService,
    agent: SimulatedAgent,
    body: dict[str, Any],
    stored: tuple[float | None, int | None],
) -> None:
    """success=true without progress, or with null, sets 1.0; one that is given stands."""
    service.started_job()
    seed = agent.take_one()
    agent.write(seed, progress=0.25)
    task = agent.write(seed, **body)
    assert (task.progress, task.success) == stored


@pytest.mark.rule("R9", "R10", "R12")
def test_success_below_full_progress_is_not_complete(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """It is stored as it stands, and the end is a temporary failure."""
    job = service.started_job()
    seed = agent.take_one()
    agent.write(seed, success=True, progress=0.99)
    agent.end(seed)
    task = service.task(seed.task)
    assert (task.state, task.failed_count, service.job(job).state) == (0, 1, "Running")
