"""How the command line prints reasons (R31)."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from jobtasks.cli import reasons
from jobtasks.cli.client import Client
from jobtasks.cli.state import Address

from .conftest import JOB, TASK, WrittenServer

pytestmark = pytest.mark.rule("R31")
Run = Callable[..., Any]
LARGE = {"code": "too_large", "text": "None is large\x1b[2J.", "lift": "Add one.", "details": {}}
DONE: dict[str, Any] = {"code": "complete", "text": "It is complete.", "lift": None, "details": {}}


@pytest.mark.parametrize(
    ("noun", "path"), [("job", f"/jobs/{JOB}"), ("task", f"/job_tasks/{TASK}")]
)
def test_a_line_per_reason(written: WrittenServer, jobtasks: Run, noun: str, path: str) -> None:
    """And one for what lifts it, where something does; without control characters."""
    written.says("GET", f"{path}/explain", (200, {"reasons": [LARGE, DONE]}))
    assert jobtasks(noun, "explain", path.rpartition("/")[2]).out.splitlines() == [
        "None is large\\x1b[2J.",
        "  lift: Add one.",
        "It is complete.",
    ]
    assert json.loads(jobtasks(noun, "explain", path.rpartition("/")[2], "-o", "json").out)[
        "reasons"
    ] == [LARGE, DONE]


@pytest.mark.parametrize(
    ("state", "reasons", "is_shown"),
    [
        ("Queued", [LARGE], True),
        ("Queued", [{**LARGE, "code": "ready"}], False),
        ("Queued", [{**LARGE, "details": {"tasks": 3}}], False),
        ("Running", [LARGE], False),
    ],
)
def test_show_says_why_a_job_is_queued(
    written: WrittenServer,
    jobtasks: Run,
    state: str,
    reasons: list[dict[str, Any]],
    is_shown: bool,
) -> None:
    """Not when it is about to start, nor when it started between the two questions."""
    written.says("GET", f"/jobs/{JOB}", (200, {"uuid": JOB, "state": state}))
    written.says("GET", f"/jobs/{JOB}/explain", (200, {"reasons": reasons}))
    assert ("why    None is large" in jobtasks("job", "show", JOB).out) == is_shown


@pytest.mark.parametrize("why", [reasons.why_queued, reasons.why_idle])
def test_that_a_node_is_about_to_join_is_no_news(
    written: WrittenServer, why: Callable[..., str | None]
) -> None:
    """Right after a command has started a server, and then no more; other reasons are."""
    missing: dict[str, Any] = {"code": "no_node", "text": "No node.", "lift": None, "details": {}}
    written.says("GET", f"/jobs/{JOB}/explain", (200, {"reasons": [missing]}))
    with Client(lambda: Address(written.url, "a-token")) as client:
        assert why(client, JOB) == "No node."
        assert why(client, JOB, reasons.joining_until(is_ours=False)) == "No node."
        assert why(client, JOB, reasons.joining_until(is_ours=True)) is None
        written.says("GET", f"/jobs/{JOB}/explain", (200, {"reasons": [missing, LARGE]}))
        assert why(client, JOB, reasons.joining_until(is_ours=True)) == "None is large\\x1b[2J."
