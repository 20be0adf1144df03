"""What is over is kept for a time, then removed in slices; never what is queued or runs.

Records go in a transaction, log files after it (service/log_files.py): what a crash leaves between
the two are files that no record names, which a later look finds.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from jobtasks.core.settings import Settings
from jobtasks.core.states import JobState
from jobtasks.service import events
from jobtasks.service.context import Context

MICROSECONDS = 1_000_000
SLICE = 100
"""Jobs that one transaction removes, or takes note of."""
DIRECTORIES_MAX = 10
COUNTERS = (
    *("tally_delete", "level_delete", "lane_delete", "requeue_clear"),
    *("families_delete", "lineage_delete"),
)


class OverJob(NamedTuple):
    """A job that is over and has no process left."""

    id: int
    uuid: str
    state: str
    over_at: int
    owner_uuid: str


class Before(NamedTuple):
    """What is too old, in Unix microseconds; None: nothing is."""

    jobs: int | None
    """Jobs that were over by then."""
    logs: int | None
    """Logs of jobs that were over by then."""
    tokens: int | None
    """Tokens that were revoked or had expired by then."""


class Place(NamedTuple):
    """Where a look at jobs in order of their ends goes on."""

    over_at: int = 0
    id: int = 0


def limits(now: int, settings: Settings) -> Before:
    """Return what is too old by the settings, of which 0 means for ever."""

    def before(seconds: float) -> int | None:
        return age_limit(now, seconds) if seconds else None

    return Before(
        before(settings.retain_jobs_seconds),
        before(settings.retain_logs_seconds),
        before(settings.retain_tokens_seconds),
    )


def age_limit(now: int, seconds: float) -> int:
    """Return what lies `seconds` before `now`, in Unix microseconds."""
    return max(0, now - round(seconds * MICROSECONDS))


def jobs_over(ctx: Context, before: int, place: Place, *, with_logs: bool = False) -> list[OverJob]:
    """Return the next jobs that were over by `before`, the oldest first; only those whose logs are
    still kept, when asked.
    """
    return ctx.tx.all(
        OverJob,
        "jobs_with_old_logs" if with_logs else "jobs_over_before",
        before=before,
        after=place.over_at,
        after_id=place.id,
        limit=SLICE,
    )


def remove_jobs(ctx: Context, before: int) -> list[str]:
    """Remove a slice of the jobs that were over by `before`; return their uuids."""
    found = jobs_over(ctx, before, Place())
    for job in found:
        remove_job(ctx, job.id, job.uuid, job.state, job.owner_uuid)
    return [job.uuid for job in found]


def remove_job(ctx: Context, job_id: int, uuid: str, state: str, owner_uuid: str) -> None:
    """Remove a job in this state with all that belongs to it; rows of tasks follow in slices."""
    ctx.tx.run("job_delete", job_id=job_id, state=JobState(state).value)
    for query in (*COUNTERS, "batches_bury_job"):
        ctx.tx.run(query, job_id=job_id)
    events.job_deleted(ctx, uuid, owner_uuid, state)
    ctx.wake.add("manager")
    ctx.wake.add(uuid)


def give_up_logs(ctx: Context, before: int) -> list[tuple[str, int | None]]:
    """Note of a slice of jobs that were over by `before` that their logs are removed.

    Return (uuid, now) of each: what is written from now on stays, should it be queued again.
    """
    found = jobs_over(ctx, before, Place(), with_logs=True)
    for job in found:
        ctx.tx.run("job_logs_gone", job_id=job.id, state=job.state, now=ctx.now)
    return [(job.uuid, ctx.now) for job in found]


def known_logs(ctx: Context, uuids: list[str]) -> dict[str, int | None]:
    """Return which of these are jobs, and until when their logs were removed."""
    rows = ctx.tx.all(
        lambda uuid, removed_at: (uuid, removed_at),
        "logs_of_jobs",
        uuids=msgspec.json.encode(uuids).decode(),
    )
    return dict(rows)


def packs_of_jobs(ctx: Context, packs: list[str]) -> dict[str, bool]:
    """Return which of these packs some job has, and whether one that is not over does."""
    rows = ctx.tx.all(
        lambda pack, is_wanted: (pack, bool(is_wanted)),
        "packs_of_jobs",
        uuids=msgspec.json.encode(packs).decode(),
    )
    return dict(rows)


def directories_of_pack(ctx: Context, pack: str) -> list[str]:
    """Return in which directories jobs have the scripts of a pack."""
    return ctx.tx.all(str, "directories_of_pack", hash=pack, limit=DIRECTORIES_MAX)


def remove_tokens(ctx: Context, before: int) -> int:
    """Remove a slice of the tokens that were revoked or expired by `before`; return how many."""
    return ctx.tx.run("tokens_sweep", before=before, limit=ctx.settings.sweep_rows)


def dead_tokens(ctx: Context, before: int) -> int:
    """Return how many tokens were revoked or had expired by `before`."""
    return int(ctx.tx.value("tokens_over", before=before))
