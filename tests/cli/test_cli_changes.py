"""Changes of several jobs at once, rehearsed or done."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import JOB, TASK

Run = Callable[..., Any]
OTHER = JOB[:-1] + "k"
RECORD = {"state": "Cancelled", "priority": 5, "tasks_summary": {"done": 1, "todo": 1}}


@pytest.fixture
def jobs(written: Any) -> Any:
    """A server that does what it is asked for to JOB, and refuses OTHER."""
    refused = (403, {"errors": ["not yours"], "code": "forbidden"})
    for uuid, answer in ((JOB, (200, {**RECORD, "uuid": JOB})), (OTHER, refused)):
        for call in (("POST", "/cancel"), ("POST", "/retry"), ("PATCH", ""), ("DELETE", "")):
            written.says(call[0], f"/jobs/{uuid}{call[1]}", answer)
    return written


@pytest.mark.parametrize(
    ("words", "done", "rehearsed"),
    [
        (["cancel", "--reason", "no"], "Cancelled", "would be Cancelled"),
        (["delete"], "deleted (Cancelled, 1/2)", "would be deleted (Cancelled, 1/2)"),
        (["retry"], "Cancelled", "would be Cancelled"),
        (["priority", "5"], "has priority 5", "would have priority 5"),
    ],
)
def test_what_can_be_done_is_done(
    jobs: Any, jobtasks: Run, words: list[str], done: str, rehearsed: str
) -> None:
    """A refusal does not keep the others from being changed; it is told, with its exit code."""
    ended = jobtasks("job", words[0], OTHER, JOB, JOB, *words[1:])
    assert (ended.code, ended.out) == (2, f"{JOB} {done}\n")
    assert f"jobtasks: {OTHER}: not yours" in ended.err
    assert [JOB in call.path for call in jobs.calls] == [False, True]
    assert "dry_run" not in jobs.calls[-1].query
    ended = jobtasks("job", words[0], JOB, *words[1:], "--dry-run")
    assert (ended.code, ended.out, ended.err) == (0, f"{JOB} {rehearsed}\n", "")
    assert jobs.calls[-1].query == {"dry_run": "true"}
    said = jobtasks("job", words[0], OTHER, JOB, *words[1:], "-o", "jsonl")
    assert json.loads(said.out)["uuid"] == JOB
    assert json.loads(said.err)["error"]["code"] == "forbidden"


def test_what_is_sent(jobs: Any, jobtasks: Run) -> None:
    """Reason, priority, also a negative one, constraints, tasks."""
    jobtasks("job", "cancel", JOB, "--reason", "too slow")
    jobtasks("job", "priority", JOB, "-5")
    jobtasks("job", "retry", JOB, TASK, "-c", "max_attempts=2")
    assert [call.body for call in jobs.calls] == [
        {"reason": "too slow"},
        {"job": {"priority": -5}},
        {"job_tasks": [TASK], "runtime_constraints": {"max_attempts": 2}},
    ]


def test_jobs_and_tasks_are_not_mixed(jobs: Any, jobtasks: Run) -> None:
    """One job with its tasks, or several jobs; anything else is a usage error before any call."""
    assert jobtasks("job", "retry", JOB, OTHER, TASK).code == 2
    assert jobtasks("job", "delete").code == 2
    assert jobtasks("job", "priority", "5").code == 2
    assert not jobs.calls
