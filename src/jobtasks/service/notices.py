"""Notices: written when a job ends, delivered at least once, given up after a while.

A notice is a row of the transaction that ends the job, so that neither a crash before it nor one
after it loses the news. Who delivers takes it first; what was taken and not settled, because the
server was killed, is delivered again, with the same uuid.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NamedTuple

from jobtasks.core import notifying
from jobtasks.core.errors import Invalid
from jobtasks.core.timestamps import render_time
from jobtasks.service.changes import tasks_summary
from jobtasks.service.context import MICROSECONDS, Context
from jobtasks.store.records import JobRecord

TAKEN_SECONDS = 30.0
"""Beyond the time of a try, how long one that was taken is believed to be under way."""
REASON_CHARACTERS_MAX = 300


class Notice(NamedTuple):
    """Somebody who is to be told that a job is over."""

    id: int
    uuid: str
    job_uuid: str
    target: str
    body: str
    created_at: int
    tries: int


def check_target(ctx: Context, url: object) -> None:
    """Refuse an address that a job names and the administrator did not list.

    What is no text is for others to judge: they know whose job it is.
    """
    if isinstance(url, str) and url and not ctx.world.notifying.allows(url):
        raise Invalid(
            f"Runtime constraints: notify_url {notifying.shown(url)} is not among the addresses"
            " that this server may call (jobtasks serve --notify-allow)"
        )


def job_url(runtime_constraints: str) -> str | None:
    """Return the address that a job names, whatever else its constraints may hold."""
    url = json.loads(runtime_constraints).get("notify_url")
    return url if isinstance(url, str) and url else None


def note_end(ctx: Context, job: JobRecord) -> None:
    """Have everybody told who is to be told that a job has just ended; mostly that is nobody.

    `job` is its record from before the end; what is told is the record as it is now.
    """
    own = job_url(job.runtime_constraints) if ctx.world.notifying.allowed else None
    targets = ctx.world.notifying.targets(own)
    if not targets:
        return
    ended = ctx.tx.one(JobRecord, "job_by_id", job_id=job.id)
    assert ended is not None
    for target in targets:
        uuid = ctx.world.uuids.make("notice", ctx.now)
        body = json.dumps(facts(ctx.world.external_url, ended, uuid), ensure_ascii=False)
        ctx.tx.run(
            "notice_add", uuid=uuid, job_uuid=job.uuid, target=target, body=body, now=ctx.now
        )
    ctx.wake.add("notices")


def facts(external_url: str, job: JobRecord, uuid: str) -> dict[str, Any]:
    """Return what is told of a job that has ended; names as in its record."""
    return {
        "event": "job_over",
        "delivery": uuid,
        "uuid": job.uuid,
        "href": f"{external_url}/arvados/v1/jobs/{job.uuid}",
        "state": job.state,
        "owner_uuid": job.owner_uuid,
        "description": job.description,
        "script": job.script,
        "command": json.loads(job.command) if job.command else None,
        "created_at": render_time(job.created_at),
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "cancelled_at": _time(job.cancelled_at),
        "tasks_summary": tasks_summary(job),
        "log": job.log,
    }


def _time(moment: int | None) -> str | None:
    return None if moment is None else render_time(moment)


def release(ctx: Context) -> None:
    """Make due what another server had taken or put off: it is gone, and a new one tries anew."""
    ctx.tx.run("notices_release", now=ctx.now)


def take(ctx: Context, busy: Collection[str]) -> Notice | None:
    """Take the next notice that is due, none of the `busy` targets; it counts as tried."""
    found = ctx.tx.one(Notice, "notice_due", now=ctx.now, busy=json.dumps(list(busy)))
    if found is None:
        return None
    until = ctx.now + round((ctx.settings.notify_seconds + TAKEN_SECONDS) * MICROSECONDS)
    ctx.tx.run("notice_take", id=found.id, tries=found.tries, not_before=until)
    return found._replace(tries=found.tries + 1)


def next_due(ctx: Context, busy: Collection[str]) -> int | None:
    """Return in how many microseconds the next notice is due; None: there is none."""
    not_before = ctx.tx.value("notice_next", busy=json.dumps(list(busy)))
    return None if not_before is None else max(0, int(not_before) - ctx.now)


def settle(ctx: Context, notice: Notice, problem: str | None) -> str:
    """Record how a try ended; return "delivered", "failed" or, when it was the last, "given_up"."""
    outcome = _settle(ctx, notice, problem)
    ctx.measured.append(("notices", outcome, 1))
    return outcome


def _settle(ctx: Context, notice: Notice, problem: str | None) -> str:
    if problem is None:
        ctx.tx.run("notice_remove", id=notice.id, tries=notice.tries)
        return "delivered"
    age_seconds = (ctx.now - notice.created_at) / MICROSECONDS
    delay = notifying.delay_seconds(notice.tries, ctx.settings, ctx.world.random())
    if notifying.is_given_up(age_seconds, delay, ctx.settings):
        _give_up(ctx, notice, problem)
        return "given_up"
    not_before = ctx.now + round(delay * MICROSECONDS)
    ctx.tx.run("notice_later", id=notice.id, tries=notice.tries, not_before=not_before)
    return "failed"


def _give_up(ctx: Context, notice: Notice, problem: str) -> None:
    """Say in the record of the job that somebody was not told."""
    if ctx.tx.run("notice_remove", id=notice.id, tries=notice.tries):
        reason = " ".join(problem.split())[:REASON_CHARACTERS_MAX]
        line = f"{whom(ctx, notice)} was not told of the end: {reason} (tries: {notice.tries})"
        ctx.tx.run("job_log_add", job_uuid=notice.job_uuid, line=line, now=ctx.now)
        ctx.wake.add(notice.job_uuid)


def whom(ctx: Context, notice: Notice) -> str:
    """Return who is told, in words that give no secret away."""
    if notice.target == notifying.COMMAND:
        return "the server's command"
    if notice.target == notifying.SERVER:
        return "the server's address for notifications"
    return notifying.shown(notice.target)
