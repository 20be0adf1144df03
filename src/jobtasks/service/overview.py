"""What people want to see of a job at a glance, found without looking through its tasks."""

from __future__ import annotations

from typing import NamedTuple

from jobtasks.core.identifiers import qsequence_of, task_id
from jobtasks.core.prognosis import expected_end
from jobtasks.core.reasons import Reason
from jobtasks.core.states import JobState
from jobtasks.service import access, explain, jobs
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord, LevelRecord

STRAGGLERS_MAX = 5


class RunningTask(NamedTuple):
    """A task that runs, and where."""

    uuid: str
    qsequence: int
    number: int
    started_at: int
    hostname: str
    slot: int


class Overview(NamedTuple):
    """A job at one moment."""

    job: JobRecord
    levels: list[LevelRecord]
    frontier: int | None
    """The lowest sequence that is not complete, of a job that runs."""
    stragglers: list[RunningTask]
    """What the frontier waits for when nothing of it is left to start, oldest first."""
    expected_end: int | None
    """When it ends if it goes on so, Unix microseconds."""
    reasons: list[Reason]
    """Why nothing of it runs; none when something does, or it is over."""


def of_job(ctx: Context, caller: Caller, uuid: str) -> Overview:
    """Return a job, how far its sequences are, and what holds it.

    Raises:
        NotFound: there is none, or it is not the caller's to see.
    """
    job = access.visible_job(ctx, caller, uuid)
    levels = jobs.levels(ctx, caller, uuid)
    is_over = JobState(job.state).is_final
    frontier = None if is_over else _frontier(levels)
    left = job.todo + job.running_tasks
    return Overview(
        job,
        levels,
        None if frontier is None else frontier.sequence,
        [] if frontier is None else _stragglers(ctx, job, frontier),
        None if is_over else expected_end(job.started_at, ctx.now, job.done, left),
        [] if is_over or job.running_tasks else explain.job_reasons(ctx, caller, uuid),
    )


def _frontier(levels: list[LevelRecord]) -> LevelRecord | None:
    return next((level for level in levels if level.todo or level.running or level.failed), None)


def _stragglers(ctx: Context, job: JobRecord, level: LevelRecord) -> list[RunningTask]:
    if level.todo or not level.done:
        return []
    return ctx.tx.all(
        RunningTask,
        "overview_oldest_running",
        job_id=job.id,
        sequence=level.sequence,
        limit=STRAGGLERS_MAX,
    )


def running(ctx: Context, job: JobRecord, after: int, limit: int) -> list[int]:
    """Return the qsequences of tasks of a job that run, those behind `after` first."""
    found = ctx.tx.all(
        int, "overview_running", job_id=job.id, after=task_id(job.id, after), limit=limit
    )
    return [qsequence_of(each) for each in found]


def first_waiting(ctx: Context, job: JobRecord) -> int:
    """Return a qsequence before which no task of a job waits."""
    found = ctx.tx.value("overview_first_waiting", job_id=job.id)
    return 0 if found is None else qsequence_of(int(found))
