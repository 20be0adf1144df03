"""Why a job failed, in a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from jobtasks.cli.client import Client
from jobtasks.cli.output import Row, printable

TASKS_SHOWN_MAX = 3
"""Failed tasks that are told of one by one."""

STDERR_LINES_MAX = 8
"""Last lines of a failed task's stderr."""

PARAMETERS_LETTERS_MAX = 100


def explain_failure(client: Client, job: dict[str, Any], state_option: str) -> Iterator[str]:
    """Lines that name the failed tasks, their causes, and the commands to look further."""
    yield f"job {job['uuid']} failed" + (f": {printable(job['log'])}" if job.get("log") else "")
    answer = client.get(
        "/job_tasks",
        filters=[["job_uuid", "=", job["uuid"]], ["success", "=", False]],
        order=["qsequence"],
        limit=TASKS_SHOWN_MAX,
    )
    for task in answer["items"]:
        yield ""
        yield from _explain_task(client, task, state_option)
    more = answer.get("items_available", 0) - len(answer["items"])
    if more > 0:
        yield f"\nand {more} more: jobtasks job tasks {job['uuid']} --failed{state_option}"


def _explain_task(client: Client, task: dict[str, Any], state_option: str) -> Iterator[str]:
    attempts = client.get(f"/job_tasks/{task['uuid']}/attempts")["items"]
    yield f"  task {task['uuid']} (level {task['sequence']}{_about(task)}) failed for good"
    if attempts:
        yield f"    after {_number(len(attempts), 'attempt')}: {cause_of(attempts[-1])}"
    lines = (task.get("failed_log") or "").splitlines()[-STDERR_LINES_MAX:]
    yield from (f"    | {printable(line)}" for line in lines)
    yield f"    more: jobtasks task log {task['uuid']}{state_option}"


def cause_of(attempt: Row) -> str:
    """How an attempt ended, in words; what the reason already says is not said again."""
    parts = []
    reason = printable(attempt.get("reason") or "")
    if attempt.get("exit_code") is not None:
        parts.append(f"exit code {attempt['exit_code']}")
    if attempt.get("signal") is not None:
        parts.append(f"signal {attempt['signal']}")
    cause = attempt.get("cause")
    if cause and not (parts and cause == "exit"):
        parts.insert(0, str(cause).replace("_", " "))
    if reason:
        parts = [*(part for part in parts if part not in reason), reason]
    return ", ".join(parts) or "no cause on record"


def _about(task: dict[str, Any]) -> str:
    parameters = task.get("parameters")
    if not parameters:
        return ""
    text = printable(json.dumps(parameters, ensure_ascii=False))
    cut = text if len(text) <= PARAMETERS_LETTERS_MAX else text[:PARAMETERS_LETTERS_MAX] + "…"
    return f", {cut}"


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
