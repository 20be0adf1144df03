"""How an attempt creates tasks: one arrival, one batch per sequence and constraints (R2, R6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import msgspec

from jobtasks.core import resources
from jobtasks.core.constraints import Constraints
from jobtasks.core.errors import Invalid, StaleAttempt
from jobtasks.core.identifiers import task_id
from jobtasks.core.settings import Settings
from jobtasks.core.states import BatchState, TaskState
from jobtasks.service import engines, events, shapes
from jobtasks.service.context import Caller, Context
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import JobRecord, TaskRecord

SEQUENCE_MAX = 2**31 - 1
JOB_TASKS = resources.RESOURCES["job_tasks"]
EMPTY_OBJECT = "{}"
IGNORED = frozenset(
    {
        *("progress", "success", "output", "state", "attempts", "log"),
        *("started_at", "finished_at", "failed_count", "failed_at", "failed_log"),
    }
)
"""Attributes that a create may carry without effect (R2)."""

encode_json = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class BulkCreated:
    """What a create made."""

    count: int
    first_qsequence: int
    uuids: list[str]


class Creator(NamedTuple):
    """Who created the tasks of a batch; nobody created the first task of a job."""

    task_id: int | None
    attempt_id: int | None
    sequence: int | None


NOBODY = Creator(None, None, None)
NewTask = tuple[int, str, str, str | None]
"""A task to create, checked: sequence; parameters, runtime_constraints and command as JSON text."""


class Limited(Protocol):
    """What knows the limits: a context, or an origin."""

    @property
    def settings(self) -> Settings:
        """Times and limits."""


class Origin(NamedTuple):
    """What new tasks are checked against; none of it changes while their creator runs."""

    settings: Settings
    job_uuid: str
    owner_uuid: str
    creator_uuid: str
    sequence: int
    """The creator's."""


@dataclass
class Batch:
    """A batch that tasks of this arrival go to; `head` is the id of the first of them."""

    id: int
    head: int
    count: int = 0


Batches = dict[tuple[int, str], Batch]
"""By sequence and constraints."""


def create_children(ctx: Context, caller: Caller, items: list[dict[str, Any]]) -> BulkCreated:
    """Create the tasks that a running attempt asks for; all or nothing.

    Raises:
        Invalid: an item breaks a rule; the sentence names its place when there are several.
        StaleAttempt: the attempt is over.
    """
    job, origin = origin_of(ctx, caller)
    check_count(ctx, job, len(items))
    tasks = checked(origin, items)
    count_children(ctx, caller, len(tasks))
    first = take_qsequences(ctx, job.id, len(tasks))
    batches: Batches = {}
    creator = Creator(caller.task_id, caller.attempt_id, origin.sequence)
    uuids = add_rows(
        ctx, job.id, first, tasks, batches, lambda key, head: _batch(ctx, creator, job, key, head)
    )
    for batch in batches.values():
        ctx.tx.run("batch_grow", batch_id=batch.id, count=batch.count, head=batch.head)
    tell_counters(ctx, job.id, batches)
    events.tasks_created(ctx, job.id, caller.task_id, first, len(tasks))
    return BulkCreated(len(tasks), first, uuids)


def origin_of(ctx: Context, caller: Caller) -> tuple[JobRecord, Origin]:
    """Return the job of a running attempt, locked, and what its new tasks are checked against.

    Raises:
        StaleAttempt: the attempt is over.
    """
    assert caller.job_id is not None and caller.task_id is not None
    ctx.tx.lock_jobs([caller.job_id])
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=caller.job_id)
    creator = ctx.tx.one(TaskRecord, "task_by_id", task_id=caller.task_id)
    if job is None or creator is None:
        raise StaleAttempt
    return job, Origin(ctx.settings, job.uuid, job.owner_uuid, creator.uuid, creator.sequence)


def created_before(ctx: Context, caller: Caller, first: int, count: int) -> BulkCreated:
    """Return what an earlier create of the attempt made: `count` tasks from `first` on."""
    assert caller.job_id is not None
    first_id = task_id(caller.job_id, first)
    uuids = ctx.tx.all(str, "task_uuids", first_id=first_id, last_id=first_id + count - 1)
    if len(uuids) != count:
        raise Invalid("Tasks that this Idempotency-Key made were deleted since (R22).")
    return BulkCreated(count, first, uuids)


def check_count(ctx: Context, job: JobRecord, count: int) -> None:
    """Raise `Invalid` unless so many tasks may be created in a job in one call (R40)."""
    if not count:
        raise Invalid("job_tasks must name at least one task")
    if count > ctx.settings.bulk_tasks_max:
        raise Invalid(f"One call may create at most {ctx.settings.bulk_tasks_max} tasks.")
    existing = job.todo + job.running_tasks + job.done + job.failed
    if existing + count > ctx.settings.tasks_per_job_max:
        raise Invalid(f"A job may have at most {ctx.settings.tasks_per_job_max} tasks.")


def checked(origin: Origin, items: list[dict[str, Any]], first: int = 0) -> list[NewTask]:
    """Return tasks to create, checked; the first of them is number `first` of the call.

    Raises:
        Invalid: an item breaks a rule; the sentence names its place, but for the first.
    """
    tasks = []
    for place, item in enumerate(items, first):
        try:
            tasks.append(_new_task(origin, item))
        except Invalid as problem:
            if not place:
                raise
            raise Invalid(*(f"task {place}: {message}" for message in problem.messages)) from None
    return tasks


def _new_task(origin: Origin, item: dict[str, Any]) -> NewTask:
    parameters, constraints, command = EMPTY_OBJECT, EMPTY_OBJECT, None
    sequence: int | None = None
    for name, value in item.items():
        if name == "parameters":
            parameters = _object_text(origin, name, value)
        elif name == "sequence":
            sequence = None if value in (None, "") else _sequence(value)
        elif name in ("runtime_constraints", "resource_limits"):
            constraints = _object_text(origin, "runtime_constraints", value)
            shapes.task_constraints(constraints)
        elif name == "command":
            command = command_text(origin, value)
        elif name not in IGNORED:
            _check_fixed(origin, name, value)
    if sequence is None:
        sequence = _in_range(origin.sequence + 1)
    return sequence, parameters, constraints, command


def _object_text(origin: Limited, name: str, value: Any) -> str:
    if value is None or value == "":
        return EMPTY_OBJECT
    if type(value) is not dict:
        value = resources.coerce(JOB_TASKS.attributes[name], value)
    return object_text(origin, name, value)


def object_text(ctx: Limited, name: str, value: Mapping[str, Any]) -> str:
    """Return a JSON object as the text that is stored, within its limit (R40)."""
    try:
        text = encode_json(value).decode()
    except (UnicodeEncodeError, RecursionError):
        raise Invalid(f"{name} holds text that is not valid Unicode") from None
    check_size(ctx, name, text)
    return text


def command_text(ctx: Limited, value: Any) -> str | None:
    """Return a command as the text that is stored, None when there is none (R39)."""
    if value is None or value == "" or value == []:
        return None
    words = resources.coerce(JOB_TASKS.attributes["command"], value)
    text = encode_json(words).decode()
    check_size(ctx, "command", text)
    return text


def check_size(ctx: Limited, name: str, text: str) -> None:
    """Raise `Invalid` when one attribute's text is past its limit in bytes (R40)."""
    limit = ctx.settings.record_bytes_max
    if len(text) > limit or (len(text) > limit // 4 and len(text.encode()) > limit):
        raise Invalid(f"{name} is larger than {limit} bytes")


def _sequence(value: Any) -> int:
    return _in_range(int(resources.coerce(JOB_TASKS.attributes["sequence"], value)))


def _in_range(sequence: int) -> int:
    if not 0 <= sequence <= SEQUENCE_MAX:
        raise Invalid(f"sequence must be an integer from 0 to {SEQUENCE_MAX}")
    return sequence


def _check_fixed(origin: Origin, name: str, value: Any) -> None:
    """Refuse a value for what the server gives, unless it says what will be so anyway (R2)."""
    expected = {"job_uuid": origin.job_uuid, "created_by_job_task_uuid": origin.creator_uuid}
    attribute = resources.attribute(JOB_TASKS, name)
    if attribute.ignored or value in (None, "", 0) or value == expected.get(name):
        return
    if name in expected:
        raise Invalid(f"{name} can only be {expected[name]} here: the attempt's own")
    if name == "owner_uuid" and value == origin.owner_uuid:
        return
    raise Invalid(f"{name} is given by the server")


def take_qsequences(ctx: Context, job_id: int, count: int) -> int:
    """Take so many numbers of arrival that follow each other; return the first (R6)."""
    return int(ctx.tx.value("tally_take_qsequences", job_id=job_id, count=count)) - count


def add_rows(
    ctx: Context,
    job_id: int,
    first: int,
    tasks: list[NewTask],
    batches: Batches,
    open_batch: Callable[[tuple[int, str], int], Batch],
) -> list[str]:
    """Add tasks from qsequence `first` on to their batches; return their uuids.

    `open_batch` gives the batch of a sequence and constraints that is not among `batches` yet, by
    the id of its first task here.
    """
    first_id = task_id(job_id, first)
    uuids = ctx.world.uuids.make_many("job_task", ctx.now, len(tasks))
    rows = []
    for row_id, (task, uuid) in enumerate(zip(tasks, uuids, strict=True), first_id):
        key = (task[0], task[2])
        batch = batches.get(key)
        if batch is None:
            batch = batches[key] = open_batch(key, row_id)
        batch.count += 1
        rows.append((row_id, uuid, batch.id, *task, ctx.now, ctx.now))
    ctx.tx.add_many("task_add", rows)
    return uuids


def count_children(ctx: Context, caller: Caller, count: int) -> None:
    """Note that a running attempt creates so many tasks more (R40)."""
    created = ctx.tx.value("attempt_children", attempt_id=caller.attempt_id, count=count)
    if created is None:
        raise StaleAttempt
    if int(created) > ctx.settings.children_per_task_max:
        raise Invalid(f"A task may create at most {ctx.settings.children_per_task_max} tasks.")


def tell_counters(ctx: Context, job_id: int, batches: Batches) -> None:
    """Count what was added to these batches, and settle the job."""
    ledger = Ledger(ctx)
    for (sequence, _), batch in batches.items():
        ledger.add(job_id, sequence, TaskState.WAITING, batch.count)
    ledger.flush()


def _batch(
    ctx: Context, creator: Creator, job: JobRecord, key: tuple[int, str], head: int
) -> Batch:
    """Return the attempt's latent batch of this sequence and constraints, made when it has none."""
    sequence, constraints = key
    own = shapes.task_constraints(constraints)
    found = ctx.tx.value(
        "batch_latent",
        attempt_id=creator.attempt_id,
        sequence=sequence,
        own=shapes.encode(own),
    )
    if found is not None:
        return Batch(int(found), head)
    return Batch(add_wanted(ctx, job, sequence, own, creator, head, BatchState.LATENT), head)


def add_wanted(
    ctx: Context,
    job: JobRecord,
    sequence: int,
    own: Constraints,
    creator: Creator,
    head: int,
    state: BatchState,
) -> int:
    """Add a batch, as `add_batch` does, of constraints that somebody asks for now.

    Raises:
        Invalid: the engine can never grant them (R30); and what `add_batch` raises.
    """
    of_job = shapes.job_constraints(job.runtime_constraints)
    engines.refuse_impossible_task(ctx, of_job, own)
    return add_batch(ctx, job, sequence, own, creator, head, state)


def add_batch(
    ctx: Context,
    job: JobRecord,
    sequence: int,
    own: Constraints,
    creator: Creator,
    head: int,
    state: BatchState,
    size: int = 0,
) -> int:
    """Add a batch of `size` tasks of a job and return its id; `head` is its first task's id.

    Raises:
        Invalid: no node could ever take them, or the job has too many different ones.
    """
    shape_id = shapes.shape_for_job(
        ctx, job.id, shapes.job_constraints(job.runtime_constraints), own
    )
    return ctx.tx.add(
        "batch_add",
        job_id=job.id,
        sequence=sequence,
        own=shapes.encode(own),
        shape_id=shape_id,
        creator_task_id=creator.task_id,
        creator_attempt_id=creator.attempt_id,
        creator_sequence=creator.sequence,
        state=int(state),
        size=size,
        head=head,
    )
