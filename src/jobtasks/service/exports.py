"""A job read out for another server, page by page, each on a snapshot of its own (docs/adr/0026).

So neither the writer nor one long snapshot is held, and what is held in memory is one page. Between
two pages the job may change, though nothing of it runs: who changed it is found at the end, and the
stream says that it is of no use.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import moving
from jobtasks.core.errors import Unavailable
from jobtasks.core.job_stream import (
    FORMAT,
    AttemptLine,
    Creation,
    FamilyLine,
    JobLine,
    Node,
    Owner,
    Seat,
    Spending,
    TaskLine,
)
from jobtasks.core.resources import Kind
from jobtasks.core.retry import Spent
from jobtasks.core.states import TaskState
from jobtasks.service import access, idempotency
from jobtasks.service.context import Caller, Context
from jobtasks.service.job_values import JOBS
from jobtasks.store.records import JobRecord, flag

PAGE_ROWS = 500
PAGE_BYTES = 4 * 1024 * 1024
"""So much text has a page at most, if it has more than one row."""
JSON_KINDS = (Kind.OBJECT, Kind.LIST)


class Size(NamedTuple):
    """A row, and bytes of its texts."""

    id: int
    bytes: int


class TaskRow(NamedTuple):
    """A task as the database has it."""

    id: int
    uuid: str
    qsequence: int
    sequence: int
    state: int
    created_at: int
    modified_at: int
    creator: int | None
    creator_sequence: int | None
    parameters: str
    runtime_constraints: str
    command: str | None
    progress: float | None
    success: int | None
    output: str | None
    started_at: int | None
    finished_at: int | None
    attempts: int
    failed_count: int
    failed_at: int | None
    failed_log: str | None
    log: str | None
    spent: str | None
    waits_until: int | None


class AttemptRow(NamedTuple):
    """An attempt as the database has it."""

    id: int
    job_task_uuid: str
    qsequence: int
    number: int
    node_uuid: str
    hostname: str
    slot: int
    assigned_at: int
    ended_at: int | None
    started_at: int | None
    memory_kib: int
    children: int
    cause: str | None
    exit_code: int | None
    signal: int | None
    peak_memory_kib: int | None
    run_seconds: float | None
    reason: str | None
    counted: int
    node_fault: int
    stderr: str | None
    family: str | None
    newest_id: int | None
    failed_id: int | None
    log_bytes: int
    log_dropped_bytes: int


PLAIN = tuple(
    name for name in AttemptRow._fields if name in AttemptLine.__struct_fields__ and name != "id"
)
"""What of an attempt's row travels as it is."""


class OwnerRow(NamedTuple):
    """A user, as he is found elsewhere."""

    uuid: str
    username: str
    email: str | None


class SeatRow(NamedTuple):
    """A further node of a gang."""

    attempt_id: int
    node_uuid: str
    hostname: str
    slot: int


class Departure(NamedTuple):
    """A job that is read out, as it was when that began."""

    job: JobRecord
    line: JobLine
    families: list[FamilyLine]


def begin(ctx: Context, caller: Caller, uuid: str) -> Departure:
    """Begin to read a job out.

    Raises:
        Forbidden: the caller is no administrator.
        NotFound: there is no such job.
        Conflict: it is queued or runs, or has a process yet.
    """
    job = _job(ctx, caller, uuid)
    moving.refuse_at_work(job.state, managed=bool(job.managed), live=job.live)
    owner = ctx.tx.one(OwnerRow, "export_owner", uuid=job.owner_uuid)
    line = JobLine(
        format=FORMAT,
        program=f"jobtasks {version('jobtasks')}",
        uuid=job.uuid,
        owner=Owner(**owner._asdict()) if owner else Owner(uuid=job.owner_uuid),
        tasks=job.todo + job.running_tasks + job.done + job.failed,
        next_qsequence=int(ctx.tx.value("export_next_qsequence", job_id=job.id)),
        attributes=attributes_of(job),
        submit_hash=idempotency.submit_hash(ctx, job.owner_uuid, job.submit_id),
    )
    families = ctx.tx.all(_family, "export_families", job_id=job.id)
    return Departure(job, line, families)


def attributes_of(job: JobRecord) -> dict[str, Any]:
    """Return what of a job's record travels: every column that is not left on purpose.

    JSON as it is, everything else as the database has it; nothing is left out, also what is null.
    """
    return {name: _value(name, getattr(job, name)) for name in moving.carried(JobRecord._fields)}


def _value(name: str, value: Any) -> Any:
    attribute = JOBS.attributes.get(name)
    is_json = attribute is not None and attribute.kind in JSON_KINDS
    return msgspec.Raw(value.encode()) if is_json and value is not None else value


def tasks_after(
    ctx: Context, caller: Caller, job_id: int, after: int
) -> tuple[list[TaskLine], int | None]:
    """Return the next tasks, of rows after one, and the row to go on from; None: these are all."""
    access.require_admin(caller, "export a job")
    after = max(after, (job_id << 32) - 1)
    sizes = _sizes(ctx, "export_task_sizes", job_id, after)
    if not sizes:
        return [], None
    last = sizes[-1].id
    return ctx.tx.all(_task, "export_tasks", after=after, last=last), last


def attempts_after(
    ctx: Context, caller: Caller, job_id: int, after: int
) -> tuple[list[AttemptLine], int | None]:
    """Return the next attempts in the same way, without their logs."""
    access.require_admin(caller, "export a job")
    sizes = _sizes(ctx, "export_attempt_sizes", job_id, after)
    if not sizes:
        return [], None
    last = sizes[-1].id
    rows = ctx.tx.all(AttemptRow, "export_attempts", job_id=job_id, after=after, last=last)
    seats = _seats(ctx, [row.id for row in rows])
    return [_attempt(row, seats.get(row.id, [])) for row in rows], last


def check_unchanged(ctx: Context, caller: Caller, before: JobRecord) -> None:
    """Raise `Unavailable` unless a job is as it was when it began to be read out.

    The tasks of a foreign job are its manager's to change at any time: it is carried as it is read.
    """
    now = _job(ctx, caller, before.uuid)
    if now.managed != before.managed or (now != before and now.managed):
        raise Unavailable("The job was changed while it was exported; export it again.")


def _job(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    access.require_admin(caller, "export a job")
    return access.visible_job(ctx, caller, uuid)


def _sizes(ctx: Context, query: str, job_id: int, after: int) -> Sequence[Size]:
    """Return the rows of the next page: as many as have no more than `PAGE_BYTES`, or one."""
    found = ctx.tx.all(Size, query, job_id=job_id, after=after, limit=PAGE_ROWS)
    total = 0
    for place, row in enumerate(found):
        total += row.bytes
        if total > PAGE_BYTES:
            return found[: max(place, 1)]
    return found


def _family(*columns: Any) -> FamilyLine:
    return FamilyLine(**dict(zip(FamilyLine.__struct_fields__, columns, strict=True)))


def _raw(text: str | None) -> Any:
    """Return JSON that is stored as text, so that it is written as it is."""
    return None if text is None else msgspec.Raw(text.encode())


def _task(*columns: Any) -> TaskLine:
    row = TaskRow._make(columns)
    return TaskLine(
        uuid=row.uuid,
        qsequence=row.qsequence,
        sequence=row.sequence,
        state=TaskState(row.state).word,
        created_at=row.created_at,
        modified_at=row.modified_at,
        created_by=_creation(row),
        parameters=_raw(row.parameters),
        runtime_constraints=_raw(row.runtime_constraints),
        command=_raw(row.command),
        progress=row.progress,
        success=flag(row.success),
        output=row.output,
        started_at=row.started_at,
        finished_at=row.finished_at,
        attempts=row.attempts,
        failed_count=row.failed_count,
        failed_at=row.failed_at,
        failed_log=row.failed_log,
        log=row.log,
        spent=_spending(row.spent),
        waits_until=row.waits_until,
    )


def _creation(row: TaskRow) -> Creation | None:
    if row.creator is None:
        return None
    return Creation(qsequence=row.creator, sequence=row.creator_sequence)


def _spending(text: str | None) -> Spending | None:
    if text is None:
        return None
    spent = msgspec.json.decode(text, type=Spent)
    return Spending(**{name: getattr(spent, name) for name in Spending.__struct_fields__})


def _attempt(row: AttemptRow, seats: list[Seat]) -> AttemptLine:
    return AttemptLine(
        **{name: getattr(row, name) for name in PLAIN if name not in ("counted", "node_fault")},
        node=Node(uuid=row.node_uuid, hostname=row.hostname),
        counted=bool(row.counted),
        node_fault=bool(row.node_fault),
        is_newest=row.newest_id == row.id,
        is_failed_log=row.failed_id == row.id,
        seats=seats,
    )


def _seats(ctx: Context, attempt_ids: Iterable[int]) -> dict[int, list[Seat]]:
    found: dict[int, list[Seat]] = defaultdict(list)
    text = msgspec.json.encode(list(attempt_ids)).decode()
    for row in ctx.tx.all(SeatRow, "export_seats", attempt_ids=text):
        node = Node(uuid=row.node_uuid, hostname=row.hostname)
        found[row.attempt_id].append(Seat(node=node, slot=row.slot))
    return found
