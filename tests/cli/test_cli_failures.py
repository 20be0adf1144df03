"""``jobtasks job failures`` and what it leads to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import JOB, TASK

Run = Callable[..., Any]


def family(**changes: Any) -> dict[str, Any]:
    """Return a family as the server tells of it."""
    sample = {"job_task_uuid": TASK, "sequence": 1, "qsequence": 17, "number": 2}
    values = {
        "family": "ed1e905f3a91",
        "cause": "exit",
        "exit_code": 3,
        "signal": None,
        "message": "KeyError: <text>",
        "attempts": 1200,
        "tasks": 900,
        "first_at": "2026-01-01T00:00:00.000000000Z",
        "last_at": "2026-01-01T00:00:00.000000000Z",
        "sample": sample,
    }
    return {**values, **changes}


@pytest.fixture
def failing(written: Any) -> Any:
    """A server with a job that failed in three ways."""
    items = [
        family(tasks=0, exit_code=None, signal=11),
        family(family="aaaa", cause="out_of_memory", exit_code=None, sample=None),
        family(family="others", cause=None, exit_code=None),
    ]
    written.says("GET", f"/jobs/{JOB}/families", (200, {"items": items}))
    return written


def test_failures_are_listed(failing: Any, jobtasks: Run) -> None:
    """How they ended, a sample that can be looked at, and the command that tries them again."""
    ended = jobtasks("job", "failures", JOB)
    heading, *rows = (line.split(None, 3) for line in ended.out.splitlines())
    assert heading[:3] == ["family", "attempts", "tasks"]
    assert [row[:3] for row in rows] == [
        ["ed1e905f3a91", "1200", "0"],
        ["aaaa", "1200", "900"],
        ["others", "1200", "900"],
    ]
    for row, said in zip(rows, ("signal 11", "out of memory", "several"), strict=True):
        assert row[3].startswith(said)
        assert row[3].endswith("KeyError: <text>")
    assert " 17.2 " in ended.out
    assert ended.err == f"again: jobtasks job retry {JOB} --family aaaa --ram-factor 2\n"
    said = jobtasks("job", "failures", JOB, "-o", "json")
    assert [one["family"] for one in json.loads(said.out)] == ["ed1e905f3a91", "aaaa", "others"]
    assert said.err == ""


def test_nothing_has_failed(written: Any, jobtasks: Run) -> None:
    """A heading, and no advice."""
    written.says("GET", f"/jobs/{JOB}/families", (200, {"items": []}))
    ended = jobtasks("job", "failures", JOB)
    assert (ended.code, ended.out.split()[0], ended.err) == (0, "family", "")


def test_a_family_is_sent(written: Any, jobtasks: Run) -> None:
    """With factor and constraints; not beside tasks."""
    record = {"uuid": JOB, "state": "Queued", "tasks_summary": {}}
    written.says("POST", f"/jobs/{JOB}/retry", (200, record))
    words = ("job", "retry", JOB, "--family", "aaaa", "--ram-factor", "2.5", "-c", "max_attempts=2")
    assert jobtasks(*words).code == 0
    assert written.calls[-1].body == {
        "family": "aaaa",
        "ram_factor": 2.5,
        "runtime_constraints": {"max_attempts": 2},
    }
    sent = len(written.calls)
    assert jobtasks("job", "retry", JOB, TASK, "--family", "aaaa").code == 2
    assert jobtasks("job", "retry", JOB, "--ram-factor", "2").code == 2
    assert len(written.calls) == sent
