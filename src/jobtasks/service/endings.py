"""How a running job ends: state, output, the reason (R17, R20)."""

from __future__ import annotations

import json
from typing import NamedTuple

from jobtasks.core.states import JobState
from jobtasks.service import events, notices
from jobtasks.service.context import Context
from jobtasks.store.records import JobRecord

PAGE = 500
FAILED_TASKS_NAMED_MAX = 5


class OutputRow(NamedTuple):
    """One task's output, with its place in the job's."""

    sequence: int
    id: int
    output: str


class FailedTask(NamedTuple):
    """A task that failed for good."""

    uuid: str
    cause: str | None
    exit_code: int | None
    signal: int | None
    reason: str | None


def finish(ctx: Context, job_id: int, state: JobState) -> None:
    """Set a running job's final state; its output when it is complete, else why it failed."""
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=job_id)
    assert job is not None
    output, truncated, log = None, False, None
    if state == JobState.COMPLETE:
        output, truncated = head_of_output(ctx, job)
    else:
        log = why_failed(ctx, job_id)
    ctx.tx.run(
        "job_finish",
        job_id=job_id,
        state=state.value,
        now=ctx.now,
        output=output,
        output_truncated=truncated,
        log=log,
    )
    notices.note_end(ctx, job)
    events.job_changed(ctx, job_id, job.uuid, job.state, state)
    ctx.wake.add(job.uuid)
    ctx.wake.add("nodes")


def head_of_output(ctx: Context, job: JobRecord) -> tuple[str, bool]:
    """Return a job's output up to its limit in bytes, and whether there is more (R20)."""
    limit = ctx.settings.job_output_bytes_max
    pieces: list[str] = []
    size = 0
    cursor: tuple[int, int] | None = None
    while True:
        page, cursor = output_page(ctx, job, cursor)
        for piece in page:
            pieces.append(piece)
            size += len(piece.encode())
            if size > limit:
                whole = "".join(pieces).encode()
                return whole[:limit].decode(errors="ignore"), True
        if cursor is None:
            return "".join(pieces), False


def output_page(
    ctx: Context, job: JobRecord, after: tuple[int, int] | None
) -> tuple[list[str], tuple[int, int] | None]:
    """Return the next pieces of a job's output, each ended by a newline, and where to go on."""
    last_only = json.loads(job.runtime_constraints).get("output") == "last"
    from_sequence = ctx.tx.value("level_highest", job_id=job.id) if last_only else 0
    after_sequence, after_id = after or (-1, -1)
    rows = ctx.tx.all(
        OutputRow,
        "job_outputs",
        job_id=job.id,
        after_sequence=after_sequence,
        after_id=after_id,
        from_sequence=from_sequence or 0,
        limit=PAGE,
    )
    pieces = [row.output if row.output.endswith("\n") else row.output + "\n" for row in rows]
    cursor = (rows[-1].sequence, rows[-1].id) if len(rows) == PAGE else None
    return pieces, cursor


def why_failed(ctx: Context, job_id: int) -> str:
    """Return which tasks failed for good and how, a line each."""
    limit = FAILED_TASKS_NAMED_MAX + 1
    failed = ctx.tx.all(FailedTask, "job_failed_tasks", job_id=job_id, limit=limit)
    lines = [f"task {task.uuid} failed: {describe(task)}" for task in failed]
    if len(lines) == limit:
        lines[-1] = "and more"
    return "\n".join(lines)


def describe(task: FailedTask) -> str:
    """Return how the last attempt of a failed task ended, in a few words."""
    if task.reason:
        return task.reason
    if task.signal:
        return f"signal {task.signal}"
    if task.exit_code:
        return f"exit code {task.exit_code}"
    return "it reported success=false"
