"""A job that comes from another server: slice by slice, seen when all of it is there (ADR 0026).

Until the end it has no row of its own, and its batches are dead ones, as those of a large create
(service/arrivals.py): no reader, claim or count knows of it, and what was given up is swept. What
is believed of the stream are values; whatever follows from others is counted from rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import moving
from jobtasks.core.errors import Conflict, Invalid
from jobtasks.core.job_stream import EndLine, FamilyLine, JobLine
from jobtasks.core.states import JobState
from jobtasks.service import access, arrivals, events, idempotency
from jobtasks.service.context import Caller, Context
from jobtasks.service.families import FAMILIES_MAX
from jobtasks.service.import_under_way import Import, hear
from jobtasks.service.imported_job import columns_of, owner_of
from jobtasks.service.job_retry import recount, retry
from jobtasks.store.records import JobRecord

Facts = dict[str, Any]


class Imported(NamedTuple):
    """What was made of a stream."""

    job: JobRecord
    facts: Facts


def begin(ctx: Context, caller: Caller, line: JobLine, *, resumes: bool) -> Import | None:
    """Begin to take a job; None: a job of this name is here already.

    `resumes`: it is to be queued when it is here, if it can be tried again (R23).

    Raises:
        Forbidden: the caller is no administrator.
        Conflict: the same job arrives at this moment.
        Invalid: a value that a job cannot have.
    """
    access.require_admin(caller, "import a job")
    if ctx.tx.one(JobRecord, "job_by_uuid", uuid=line.uuid) is not None:
        return None
    if ctx.tx.value("import_of", job_uuid=line.uuid) is not None:
        raise Conflict(f"The job {line.uuid} is being imported by another request.")
    if line.tasks > ctx.settings.tasks_per_job_max:
        raise Invalid(f"A job may have at most {ctx.settings.tasks_per_job_max} tasks.")
    moving.state_of_job(line)
    owner_uuid, owner_by = owner_of(ctx, caller, line.owner)
    columns = columns_of(ctx, line, owner_uuid)
    job_id = ctx.tx.add("import_reserve", uuid=line.uuid, owner_uuid=owner_uuid, now=ctx.now)
    ctx.tx.run("import_release", job_id=job_id)
    ctx.tx.run("tally_add", job_id=job_id)
    ctx.tx.run("tally_pass_qsequence", job_id=job_id, beyond=line.next_qsequence)
    arrival_id = ctx.tx.add("arrival_add", now=ctx.now)
    ctx.tx.run("import_begin", arrival_id=arrival_id, job_id=job_id, job_uuid=line.uuid)
    named = {**columns, "id": job_id, "uuid": line.uuid}
    job = JobRecord._make(named.get(name) for name in JobRecord._fields)
    resumes = resumes and moving.can_resume(line)
    return Import(arrival_id, job, line, columns, owner_by, resumes)


def are_there(ctx: Context) -> bool:
    """Return whether jobs are arriving at this moment, or were when their server ended."""
    return bool(ctx.tx.value("imports_count"))


def add_families(
    ctx: Context, caller: Caller, arriving: Import, families: Sequence[FamilyLine]
) -> None:
    """Take kinds of failures."""
    hear(ctx, caller, arriving)
    for family in families:
        moving.check_family(family)
        if family.name in arriving.families or len(arriving.families) > FAMILIES_MAX:
            raise Invalid(f"A job has at most {FAMILIES_MAX + 1} families, each once.")
        arriving.families[family.name] = ctx.tx.add(
            "import_family_add", job_id=arriving.job.id, **msgspec.structs.asdict(family)
        )


def check_whole(ctx: Context, caller: Caller, arriving: Import) -> None:
    """Raise `Invalid` when records that came contradict each other; nothing is written.

    Tasks and their attempts, children and their creators, the job's state and its tasks.
    """
    access.require_admin(caller, "import a job")
    if not arriving.managed:
        return
    job_id = arriving.job.id
    found = ctx.tx.value("import_unlike_attempts", job_id=job_id)
    if found is not None:
        raise Invalid(f"The task {found} and its attempts contradict each other (R13).")
    found = ctx.tx.value("import_unlike_creator", job_id=job_id)
    if found is not None:
        raise Invalid(f"The task {found} is not complete and has children (R3, R4).")
    if arriving.columns["state"] == JobState.COMPLETE:
        found = ctx.tx.value("import_unlike_state", job_id=job_id)
        if found is not None:
            raise Invalid(f"The job is Complete, its task {found} is not (R20).")


def finish(ctx: Context, caller: Caller, arriving: Import, end: EndLine) -> Imported:
    """Have the whole job exist from now on, with counters that are counted from its rows.

    Raises:
        Unavailable: the import was given up.
    """
    access.require_admin(caller, "import a job")
    job_id, columns = arriving.job.id, arriving.columns
    if not ctx.tx.run("arrival_delete", arrival_id=arriving.arrival_id):
        raise arrivals.given_up()
    left = _claim_submit_id(ctx, arriving)
    ctx.tx.run("import_job_add", **columns, job_id=job_id, uuid=arriving.line.uuid)
    ctx.tx.run("import_batches", job_id=job_id, arrival_id=arriving.arrival_id)
    for query in ("import_families", "import_log_bytes"):
        ctx.tx.run(query, job_id=job_id)
    ctx.tx.run("import_waits", job_id=job_id, now=ctx.now)
    recount(ctx, job_id)
    ctx.tx.run("import_lineage" if arriving.managed else "import_running", job_id=job_id)
    events.job_created(ctx, job_id, arriving.line.uuid, columns["state"])
    ctx.wake.update({"manager", arriving.line.uuid})
    if arriving.resumes:
        retry(ctx, caller, arriving.line.uuid, None, None, pack=arriving.pack)
    facts = facts_of(arriving, end, left)
    _remember(ctx, arriving.line.uuid, end, facts)
    return Imported(access.visible_job(ctx, caller, arriving.line.uuid), facts)


def _claim_submit_id(ctx: Context, arriving: Import) -> list[str]:
    """Have the job's `submit_id` mean it here, too, unless it means another one; what is left."""
    columns = arriving.columns
    submit_id, body_hash = columns["submit_id"], arriving.line.submit_hash
    if not submit_id:
        return []
    if body_hash and idempotency.take_submit_id(
        ctx, columns["owner_uuid"], submit_id, body_hash, arriving.line.uuid
    ):
        return []
    columns["submit_id"] = None
    return ["submit_id"]


def facts_of(arriving: Import, end: EndLine, left: list[str]) -> Facts:
    """Return what is said of an import beside its job; `left`: what was not carried over."""
    return {
        "owner": arriving.owner_by,
        "resumed": arriving.resumes,
        "tasks": end.tasks,
        "attempts": end.attempts,
        "logs": end.logs,
        "logs_incomplete": end.logs_incomplete,
        "scripts": arriving.scripts,
        "left": left,
    }


def _remember(ctx: Context, uuid: str, end: EndLine, facts: Facts) -> None:
    ctx.tx.run(
        "import_remember",
        holder=_holder(uuid),
        key=end.sha256,
        body_hash=bytes.fromhex(end.sha256),
        answer=msgspec.json.encode(facts).decode(),
        now=ctx.now,
    )


def imported_before(ctx: Context, caller: Caller, uuid: str, end: EndLine) -> Imported:
    """Return what was made of the very same stream within a day; the job is as it is now.

    Raises:
        Conflict: the job that is here did not come by this stream.
    """
    access.require_admin(caller, "import a job")
    known = ctx.tx.value("import_known", holder=_holder(uuid), key=end.sha256)
    if known is None:
        raise Conflict(f"The job {uuid} is here already. Delete it first to import it anew.")
    return Imported(access.visible_job(ctx, caller, uuid), msgspec.json.decode(known))


def _holder(uuid: str) -> str:
    return f"import {uuid}"
