"""How a job is cancelled: nothing starts any more, nothing is accepted after it (R17, R21)."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import is_uuid
from jobtasks.core.retry import Cause
from jobtasks.core.states import JobState, TaskState
from jobtasks.service import access, ends, events, notices
from jobtasks.service.context import Caller, Context
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import JobRecord

CASCADE_MAX = 10_000
"""Jobs that one cancel reaches."""


def cancel(
    ctx: Context, caller: Caller, uuid: str, reason: str | None, *, cascade: bool = False
) -> JobRecord:
    """Cancel a job, whoever has locked it; when it is cancelled already, nothing happens.

    With `cascade` also the jobs that its `components` name, and those that theirs do, as far as
    they are the caller's and not over.

    Raises:
        Invalid: it is over already.
    """
    job = access.own_job(ctx, caller, uuid, "cancel")
    if job.state != JobState.CANCELLED:
        _cancel(ctx, caller, job, reason)
    if cascade:
        _cancel_components(ctx, caller, job, reason)
    return access.visible_job(ctx, caller, uuid)


def _cancel(ctx: Context, caller: Caller, job: JobRecord, reason: str | None) -> None:
    ctx.tx.lock_jobs([job.id])
    log = f"cancelled: {reason}" if reason else "cancelled"
    if not ctx.tx.run(
        "job_cancel",
        job_id=job.id,
        now=ctx.now,
        user_uuid=caller.user_uuid,
        log=log if job.managed else job.log or log,
    ):
        raise Invalid(f"State invalid change from {job.state} to {JobState.CANCELLED.value}")
    _close_attempts(ctx, job, log)
    notices.note_end(ctx, job)
    events.job_changed(ctx, job.id, job.uuid, job.state, JobState.CANCELLED)
    ctx.wake.update({"nodes", job.uuid})


def _close_attempts(ctx: Context, job: JobRecord, reason: str) -> None:
    """Close every open attempt of a cancelled job; processes end when their agents hear of it."""
    ledger = Ledger(ctx)
    live = ctx.tx.all(int, "attempts_live_of_job", job_id=job.id)
    for facts in ends.facts_of(ctx, live).values():
        ends.wait_again(ctx, ledger, facts)
        ctx.measured.append(("attempts_ended", Cause.CANCELLED.value, 1))
        events.task_changed(
            ctx,
            job.id,
            facts.task_id,
            TaskState.RUNNING,
            TaskState.WAITING,
            number=facts.number,
            cause=Cause.CANCELLED.value,
        )
        ctx.tx.run("attempt_close", attempt_id=facts.id, cause=Cause.CANCELLED.value, reason=reason)
    ledger.touch(job.id)
    ledger.flush()


def _cancel_components(ctx: Context, caller: Caller, top: JobRecord, reason: str | None) -> None:
    seen = {top.uuid}
    waiting = list(_components(top))
    while waiting and len(seen) < CASCADE_MAX:
        uuid = waiting.pop()
        if uuid in seen:
            continue
        seen.add(uuid)
        job = ctx.tx.one(JobRecord, "job_by_uuid", uuid=uuid)
        if job is None or not access.may_read_job(caller, job.id, job.owner_uuid):
            continue
        if not JobState(job.state).is_final:
            _cancel(ctx, caller, job, reason)
        waiting += _components(job)


def _components(job: JobRecord) -> Iterator[str]:
    for value in msgspec.json.decode(job.components).values():
        if isinstance(value, str) and is_uuid(value, "job"):
            yield value
