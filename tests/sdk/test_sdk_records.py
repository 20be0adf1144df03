"""What scripts do with their job and task."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import jobtasks_sdk
from jobtasks_sdk import _records

TASK_UUID = "zzzzz-ot0gb-000000000000000"


def answer(server: Any, make_body: Any) -> None:
    make = type(server.answer(None))
    server.answer = lambda request: make(make_body(request))


def test_attributes_are_fetched_once_and_when_needed(in_a_task: Any) -> None:
    """`sequence` comes from the environment; the first other attribute costs one request."""
    answer(in_a_task, lambda request: {"parameters": {"n": 5}, "sequence": 0, "output": None})
    task = jobtasks_sdk.current_task()
    assert (task.uuid, task.sequence, task.qsequence) == (TASK_UUID, 0, 7)
    assert in_a_task.requests == []
    assert task.parameters["n"] == 5
    assert task["output"] is None
    assert jobtasks_sdk.current_task() is task
    assert [request.target for request in in_a_task.requests] == [
        f"/arvados/v1/job_tasks/{TASK_UUID}"
    ]
    assert in_a_task.requests[0].fields["Authorization"] == "Bearer attempt-token"


def test_unknown_attributes_say_so(in_a_task: Any) -> None:
    """A wrong name is an AttributeError, or a KeyError as an item."""
    job = jobtasks_sdk.current_job()
    with pytest.raises(AttributeError, match="a Job has no 'scriptparameters'"):
        _ = job.scriptparameters
    with pytest.raises(KeyError):
        _ = job["scriptparameters"]
    assert repr(job) == "<Job zzzzz-8i9sb-000000000000000>"


def test_refresh_asks_again(in_a_task: Any) -> None:
    """What others changed is seen after `refresh`."""
    states = iter(["Running", "Failed"])
    answer(in_a_task, lambda request: {"state": next(states)})
    job = jobtasks_sdk.current_job()
    assert (job.state, job.state) == ("Running", "Running")
    job.refresh()
    assert job.state == "Failed"


@pytest.mark.rule("R2")
def test_create_sends_what_was_given_only(in_a_task: Any) -> None:
    """The server gives job, creator and the default sequence; the SDK does not guess them."""
    answer(in_a_task, lambda request: {"uuid": "new", "sequence": 1, "qsequence": 8})
    task = jobtasks_sdk.current_task()
    child = task.create(parameters={"a": 1})
    assert (child.uuid, child.qsequence) == ("new", 8)
    task.create(sequence=5, runtime_constraints={"max_attempts": 1}, command=["true"])
    assert [request.body for request in in_a_task.requests] == [
        {"job_task": {"parameters": {"a": 1}}},
        {
            "job_task": {
                "sequence": 5,
                "runtime_constraints": {"max_attempts": 1},
                "command": ["true"],
            }
        },
    ]


@pytest.mark.rule("R2")
def test_create_many_makes_few_calls(in_a_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any iterable of `create`'s arguments; calls are bounded in tasks and in bytes, in order."""
    answer(
        in_a_task,
        lambda request: {
            "uuids": [f"u{item['parameters']['n']}" for item in request.body["job_tasks"]]
        },
    )
    monkeypatch.setattr(_records, "BULK_TASKS_MAX", 4)
    task = jobtasks_sdk.current_task()
    uuids = task.create_many({"parameters": {"n": n}} for n in range(10))
    assert uuids == [f"u{n}" for n in range(10)]
    assert [len(request.body["job_tasks"]) for request in in_a_task.requests] == [4, 4, 2]
    in_a_task.requests.clear()
    monkeypatch.setattr(_records, "BULK_BYTES_MAX", 60)
    task.create_many([{"parameters": {"n": n}} for n in range(3)])
    assert [len(request.body["job_tasks"]) for request in in_a_task.requests] == [2, 1]
    assert task.create_many([]) == []


def test_create_many_keeps_the_order_of_small_and_large(
    in_a_task: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours are encoded together when they are small, and one by one when they are not."""
    monkeypatch.setattr(_records, "RUN_TASKS", 3)
    monkeypatch.setattr(_records, "RUN_BYTES_MAX", 200)
    answer(in_a_task, lambda request: {"uuids": ["u"] * len(request.body["job_tasks"])})
    given = [{"parameters": {"n": n, "text": "é" * (90 * (n in (4, 7)))}} for n in range(11)]
    assert len(jobtasks_sdk.current_task().create_many(given)) == 11
    assert [item for request in in_a_task.requests for item in request.body["job_tasks"]] == given


def test_create_many_refuses_a_misspelt_argument(in_a_task: Any) -> None:
    """A wrong name is noticed before anything is sent."""
    with pytest.raises(TypeError, match="parameter"):
        jobtasks_sdk.current_task().create_many([{"parameter": {}}])
    assert in_a_task.requests == []


@pytest.mark.rule("R8", "R9", "R11")
def test_verdicts(in_a_task: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """complete, fail and progress send exactly their part; a reason goes to stderr."""
    task = jobtasks_sdk.current_task()
    task.progress(0.25)
    task.complete("text")
    task.complete()
    task.fail("no such input")
    assert [request.body["job_task"] for request in in_a_task.requests] == [
        {"progress": 0.25},
        {"success": True, "progress": 1.0, "output": "text"},
        {"success": True, "progress": 1.0},
        {"success": False},
    ]
    assert {request.method for request in in_a_task.requests} == {"PATCH"}
    assert capsys.readouterr().err == "no such input\n"


def test_tasks_are_listed_page_by_page(in_a_task: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All tasks of a sequence, in order of arrival, however many pages they take."""
    monkeypatch.setattr(_records, "PAGE_ITEMS", 2)
    pages = iter(([0, 1], [2, 5], []))
    answer(
        in_a_task,
        lambda request: {"items": [{"uuid": f"u{n}", "qsequence": n} for n in next(pages)]},
    )
    tasks = list(jobtasks_sdk.current_job().tasks(sequence=1))
    assert [task.uuid for task in tasks] == ["u0", "u1", "u2", "u5"]
    assert "%5B%22qsequence%22%2C%20%22%3E%22%2C%205%5D" in in_a_task.requests[-1].target
    assert "%5B%22sequence%22%2C%20%22%3D%22%2C%201%5D" in in_a_task.requests[-1].target


@pytest.mark.usefixtures("outside_a_task")
def test_outside_a_task_the_missing_variable_is_named() -> None:
    """A script started by hand says what it lacks."""
    with pytest.raises(jobtasks_sdk.NotInATask, match="TASK_UUID"):
        jobtasks_sdk.current_task()
    with pytest.raises(jobtasks_sdk.NotInATask, match="JOB_UUID"):
        jobtasks_sdk.current_job()
    with pytest.raises(jobtasks_sdk.NotInATask, match="JOBTASKS_URL"):
        jobtasks_sdk.set_patience(1)


def test_public_names_are_exactly_all() -> None:
    """What can be imported without an underscore is what `__all__` lists."""
    public = {name for name in vars(jobtasks_sdk) if not name.startswith("_")}
    # attached_tasks is a program, not a part of the interface.
    assert public - {"annotations", "attached_tasks"} == set(jobtasks_sdk.__all__)


@pytest.mark.rule("R38")
def test_the_sdk_stands_alone_and_is_light() -> None:
    """Python 3.8 can parse it; it imports the standard library only, and nothing slow of that."""
    folder = Path(str(jobtasks_sdk.__file__)).parent
    for path in folder.glob("*.py"):
        ast.parse(path.read_text(), feature_version=(3, 8))
    code = (
        "import sys; before = set(sys.modules); import jobtasks_sdk; "
        "print(*sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env={"PYTHONPATH": str(folder.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert not {"typing", "http", "ssl", "urllib", "email", "threading", "random"} & set(loaded)
    foreign = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    assert foreign == {"jobtasks_sdk"}
