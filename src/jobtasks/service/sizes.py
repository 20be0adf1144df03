"""How much room things take: a job, and all of them together."""

from __future__ import annotations

from typing import NamedTuple

from jobtasks.service import access, census
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord

MEASURED_TASKS_MAX = 10_000
"""The records of a job with more tasks are not measured: that would read all of them."""


class JobSize(NamedTuple):
    """What the records of one job take."""

    job: JobRecord
    tasks: int
    record_bytes: int | None
    """Texts of its tasks and the ends of their stderr; None: not measured."""


class Amounts(NamedTuple):
    """How many records there are."""

    jobs: int
    tasks: int


def of_job(ctx: Context, caller: Caller, uuid: str) -> JobSize:
    """Return what the records of a job take; its logs are on disk (service/log_space.py)."""
    job = access.visible_job(ctx, caller, uuid)
    tasks = job.todo + job.running_tasks + job.done + job.failed
    is_small = tasks <= MEASURED_TASKS_MAX
    measured = int(ctx.tx.value("record_bytes", job_id=job.id)) if is_small else None
    return JobSize(job, tasks, measured)


def amounts(ctx: Context, caller: Caller) -> Amounts:
    """Return how many jobs and tasks there are.

    Raises:
        Forbidden: the caller is no administrator.
    """
    access.require_admin(caller, "see what all jobs take")
    found = census.take(ctx, caller)
    return Amounts(sum(found.jobs.values()), sum(found.tasks.values()))
