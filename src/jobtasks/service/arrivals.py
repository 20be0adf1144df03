"""Large creates: slice by slice, a transaction each; seen when the last is there (R2).

So a hundred thousand tasks keep nobody waiting for longer than a slice takes. Until the end their
batches are dead ones, which no reader, claim or count knows of; what was given up is swept as the
children of failed attempts are. See ADR 0021.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jobtasks.core.errors import Unavailable
from jobtasks.core.states import BatchState
from jobtasks.service import creation, events, retention, shapes
from jobtasks.service.context import MICROSECONDS, Caller, Context
from jobtasks.service.creation import Batch, Batches, BulkCreated, Creator, NewTask, Origin
from jobtasks.service.idempotency import Key, Name, once, recalled
from jobtasks.store.records import JobRecord

SILENT_SECONDS = 60.0
"""A create of which no slice came for so long was left: by a server that ended, say."""


@dataclass(slots=True)
class Arrival:
    """A create under way; each slice follows the one before."""

    id: int
    job: JobRecord
    origin: Origin
    first: int
    """The qsequence of its first task."""
    count: int
    """How many tasks it is to have in the end."""
    batches: Batches = field(default_factory=dict)
    uuids: list[str] = field(default_factory=list)
    """Of the tasks that are there."""


def begin(
    ctx: Context, caller: Caller, count: int, key: Name | None
) -> Arrival | BulkCreated | None:
    """Begin to create `count` tasks, or return what an earlier create with this key made (R22).

    None: the caller is no running attempt.

    Raises:
        Invalid: there are too many tasks, or the key came with another body.
    """
    if caller.role != "attempt":
        return None
    if isinstance(key, Key):
        known = recalled(ctx, caller, key, lambda at: creation.created_before(ctx, caller, *at))
        if known is not None:
            return known
    job, origin = creation.origin_of(ctx, caller)
    creation.check_count(ctx, job, count)
    first = creation.take_qsequences(ctx, job.id, count)
    return Arrival(ctx.tx.add("arrival_add", now=ctx.now), job, origin, first, count)


def add(ctx: Context, caller: Caller, arrival: Arrival, tasks: list[NewTask]) -> None:
    """Add the next tasks.

    Raises:
        Unavailable: the arrival was given up.
    """
    hear(ctx, arrival.id)
    arrival.uuids += creation.add_rows(
        ctx,
        arrival.job.id,
        arrival.first + len(arrival.uuids),
        tasks,
        arrival.batches,
        lambda key, head: _batch(ctx, caller, arrival, key, head),
    )


def finish(ctx: Context, caller: Caller, arrival: Arrival, key: Name | None) -> BulkCreated:
    """Have all tasks exist from now on: latent, until their creator is complete (R3).

    Raises:
        Invalid: the job or the attempt has too many tasks.
        StaleAttempt: the attempt is over.
        Unavailable: the arrival was given up.
    """
    return once(
        ctx,
        caller,
        key,
        lambda: _arrive(ctx, caller, arrival),
        lambda made: [made.first_qsequence, made.count],
        lambda place: creation.created_before(ctx, caller, *place),
    )


def hear(ctx: Context, arrival_id: int) -> None:
    """Note that an arrival goes on.

    Raises:
        Unavailable: it was given up.
    """
    if not ctx.tx.run("arrival_hear", arrival_id=arrival_id, now=ctx.now):
        raise given_up()


def is_there(ctx: Context, arrival_id: int) -> bool:
    """Return whether an arrival goes on, as far as is known."""
    return ctx.tx.value("arrival_heard", arrival_id=arrival_id) is not None


def leave(ctx: Context, arrival_id: int) -> None:
    """Give an arrival up, unless all of it is there: its rows are swept."""
    job_id = ctx.tx.value("arrival_of_job", arrival_id=arrival_id)
    if ctx.tx.run("arrival_delete", arrival_id=arrival_id):
        if job_id is not None:
            _forget_job(ctx, int(job_id))
        ctx.wake.add("manager")


def forget(ctx: Context) -> None:
    """Give up arrivals that nobody goes on with."""
    before = ctx.now - round(SILENT_SECONDS * MICROSECONDS)
    for job_id in ctx.tx.all(lambda of_job: of_job, "arrivals_forget", before=before):
        if job_id is not None:
            _forget_job(ctx, int(job_id))


def _forget_job(ctx: Context, job_id: int) -> None:
    """Forget what belongs to a job that did not come whole, but for rows, which are swept."""
    for query in retention.COUNTERS:
        ctx.tx.run(query, job_id=job_id)


def _arrive(ctx: Context, caller: Caller, arrival: Arrival) -> BulkCreated:
    job, _ = creation.origin_of(ctx, caller)
    creation.check_count(ctx, job, arrival.count)
    creation.count_children(ctx, caller, arrival.count)
    if not ctx.tx.run("arrival_delete", arrival_id=arrival.id):
        raise given_up()
    for batch in arrival.batches.values():
        changed = ctx.tx.run(
            "batch_arrive", batch_id=batch.id, arrival_id=arrival.id, count=batch.count
        )
        assert changed, "the batches of an arrival are its own as long as it is there"
    creation.tell_counters(ctx, job.id, arrival.batches)
    events.tasks_created(ctx, job.id, caller.task_id, arrival.first, arrival.count)
    return BulkCreated(arrival.count, arrival.first, arrival.uuids)


def _batch(
    ctx: Context, caller: Caller, arrival: Arrival, key: tuple[int, str], head: int
) -> Batch:
    sequence, constraints = key
    own = shapes.task_constraints(constraints)
    creator = Creator(caller.task_id, caller.attempt_id, arrival.origin.sequence)
    batch_id = creation.add_wanted(ctx, arrival.job, sequence, own, creator, head, BatchState.DEAD)
    ctx.tx.run("batch_await", batch_id=batch_id, arrival_id=arrival.id)
    return Batch(batch_id, head)


def given_up() -> Unavailable:
    """Return what is said when a slice comes too late."""
    return Unavailable(f"Nothing of it came for {SILENT_SECONDS:g} s: it was given up; repeat it.")
