"""A job's attachment as a script reads it, and the seed that makes tasks of one."""

from __future__ import annotations

import time
from typing import Any

import pytest

import jobtasks_sdk
from jobtasks_sdk import attached_tasks


@pytest.fixture
def reply(in_a_task: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The scripted server's next answers; time passes only where the seed sleeps."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    make = type(in_a_task.answer(None))

    def script(*replies: dict[str, Any]) -> None:
        in_a_task.script += [make(**values) for values in replies]

    return script


def test_an_attachment_that_is_not_there_yet(reply: Any) -> None:
    """NotFound, like everything that is not there."""
    reply({"status": 404, "body": {"errors": ["none"]}}, {"body": ["any", "bytes"]})
    job = jobtasks_sdk.current_job()
    with pytest.raises(jobtasks_sdk.NotFound):
        job.attachment()
    assert job.attachment() == b'["any", "bytes"]'


def test_every_line_is_a_task(in_a_task: Any, reply: Any) -> None:
    """The seed waits for the list, creates what it says in one call, and is complete."""
    missing = {"status": 404, "body": {"errors": ["none"]}}
    task = {"command": ["a"], "parameters": {"item": "ü\n"}}
    reply(missing, missing, {"body": task}, {"body": {"uuids": ["u"]}}, {"body": {}})
    attached_tasks.main(jobtasks_sdk.current_job(), jobtasks_sdk.current_task())
    created, completed = in_a_task.requests[-2:]
    assert created.body == {"job_tasks": [task]}
    assert completed.body["job_task"]["success"] is True
    assert len(in_a_task.requests) == 5


@pytest.mark.rule("R11")
def test_a_list_that_never_comes(in_a_task: Any, reply: Any, capsys: Any) -> None:
    """Whoever was to send it has died: the job fails, and says why."""
    in_a_task.answer = lambda request: _refusal(request, in_a_task)
    reply()
    attached_tasks.main(jobtasks_sdk.current_job(), jobtasks_sdk.current_task())
    assert in_a_task.requests[-1].body == {"job_task": {"success": False}}
    assert "did not arrive within 120 s" in capsys.readouterr().err


def _refusal(request: Any, server: Any) -> Any:
    from tests.sdk.conftest import Reply

    if request.method == "GET":
        return Reply(status=404, body={"errors": ["none"]})
    return Reply({})


def test_lines_of_a_list() -> None:
    """With or without an end of line at the end; an empty list has none."""
    assert list(attached_tasks.listed(b'{"a": 1}\n{"b": 2}')) == [{"a": 1}, {"b": 2}]
    assert list(attached_tasks.listed(b'{"a": 1}\n')) == [{"a": 1}]
    assert list(attached_tasks.listed(b"")) == []
