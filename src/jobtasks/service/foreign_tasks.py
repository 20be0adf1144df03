"""Tasks of foreign jobs: made, written and deleted by the job's own manager (R7b).

Nothing of them is for us to start: their batches are published and have nothing ready, so that no
claim sees them. A task's state follows from what its manager writes (core/foreign.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import constraints, foreign, resources
from jobtasks.core.constraints import Needs
from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import task_id
from jobtasks.core.states import TaskState
from jobtasks.service import changes, creation, shapes
from jobtasks.service.context import Context
from jobtasks.service.creation import JOB_TASKS, BulkCreated
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import JobRecord, TaskRecord, flag

OWN = resources.of_foreign(JOB_TASKS)
QSEQUENCE_MAX = 2**31 - 1
"""Highest number of arrival that a manager may give."""
QSEQUENCES = 2**32
"""Numbers of arrival that a job has."""
FIRST: dict[str, Any] = {
    "created_by_job_task_uuid": None,
    "sequence": 0,
    "qsequence": None,
    "parameters": {},
    "runtime_constraints": {},
    "command": None,
    "output": None,
    "progress": None,
    "success": None,
    "started_at": None,
    "finished_at": None,
    "attempts": 0,
    "failed_count": 0,
    "failed_at": None,
    "failed_log": None,
    "log": None,
}
"""A new task of which nothing is said."""
COUNTS = ("attempts", "failed_count")


class Place(NamedTuple):
    """Where tasks go together: one batch."""

    sequence: int
    creator_id: int | None


class Children(NamedTuple):
    """How many tasks that a task created are in one state."""

    sequence: int
    state: int
    tasks: int


def create(ctx: Context, job: JobRecord, items: list[dict[str, Any]]) -> BulkCreated:
    """Create tasks as one arrival, all or nothing; numbers that are not given follow.

    Raises:
        Invalid: an item breaks a rule, or a number is taken; the sentence names the item's place.
    """
    ctx.tx.lock_jobs([job.id])
    creation.check_count(ctx, job, len(items))
    tasks = []
    for place, item in enumerate(items):
        try:
            tasks.append(_new(ctx, job, item))
        except Invalid as problem:
            if not place:
                raise
            raise Invalid(*(f"task {place}: {text}" for text in problem.messages)) from None
    _number(ctx, job, tasks)
    uuids = ctx.world.uuids.make_many("job_task", ctx.now, len(tasks))
    _store(ctx, job, tasks, uuids)
    return BulkCreated(len(tasks), tasks[0]["qsequence"], uuids)


def created_before(ctx: Context, first: int, uuids: list[str]) -> BulkCreated:
    """Return what an earlier create made (R22)."""
    for uuid in uuids:
        if ctx.tx.one(TaskRecord, "task_by_uuid", uuid=uuid) is None:
            raise Invalid("Tasks that this Idempotency-Key made were deleted since (R22).")
    return BulkCreated(len(uuids), first, uuids)


def update(ctx: Context, task: TaskRecord, attributes: dict[str, Any], *, whole: bool) -> None:
    """Write what a foreign job's manager may: everything but names and owner.

    When `success` turns false, the tasks that this one created are gone.

    Raises:
        Invalid: a value that cannot be.
    """
    given = changes.accepted(changes.TASKS, task, attributes, OWN, whole=whole)
    if not given:
        return
    ctx.tx.lock_jobs([task.job_id])
    record = {name: value for name, value in changes.current_task(task).items() if name in FIRST}
    record |= {"failed_at": task.failed_at, "success": flag(task.success)}
    typed = _typed(ctx, given, keep={"sequence": task.sequence, "qsequence": task.qsequence})
    values = foreign.settle_task(record, typed, ctx.now)
    ledger = Ledger(ctx)
    _rewrite(ctx, ledger, task, values)
    if values["success"] is False and record["success"] is not False:
        _bury_children(ctx, ledger, task.job_id, task_id(task.job_id, values["qsequence"]))
    ledger.flush()


def delete(ctx: Context, task: TaskRecord) -> None:
    """Delete a task of a foreign job, whatever its state; what it created stays."""
    ctx.tx.lock_jobs([task.job_id])
    changed = ctx.tx.run("task_forget", task_id=task.id, state=task.state)
    assert changed, "the task changed within the transaction that read it"
    ctx.tx.run("batch_leave", batch_id=task.batch_id)
    for sweep in ("tails_sweep", "attempts_sweep"):
        ctx.tx.run(sweep, task_ids=f"[{task.id}]")
    ledger = Ledger(ctx)
    ledger.add(task.job_id, task.sequence, TaskState(task.state), -1)
    ledger.flush()


def _new(ctx: Context, job: JobRecord, item: Mapping[str, Any]) -> dict[str, Any]:
    """Return a new task's values."""
    given: dict[str, Any] = {}
    for name, value in item.items():
        attribute = resources.attribute(JOB_TASKS, name)
        if attribute.name in OWN:
            given[attribute.name] = value
        elif not attribute.ignored and value not in (None, "", job.uuid, job.owner_uuid):
            raise Invalid(f"{attribute.name} is given by the server")
    typed = _typed(ctx, given, keep={"sequence": None})
    creator = _creator(ctx, job.id, typed.get("created_by_job_task_uuid"))
    if typed.get("sequence") is None:
        typed["sequence"] = creator.sequence + 1 if creator else 0
        _check_range("sequence", typed["sequence"], creation.SEQUENCE_MAX)
    values = foreign.settle_task(FIRST, typed, ctx.now)
    return {**values, "creator_id": creator.id if creator else None}


def _typed(ctx: Context, given: Mapping[str, Any], keep: Mapping[str, Any]) -> dict[str, Any]:
    """Return given values typed and checked; an empty one of `keep` is the one there."""
    typed: dict[str, Any] = {}
    for name, value in given.items():
        attribute = JOB_TASKS.attributes[name]
        is_empty = value is None or (value == "" and attribute.kind is not resources.Kind.TEXT)
        if attribute.kind is resources.Kind.OBJECT:
            typed[name] = {} if is_empty else resources.coerce(attribute, value)
            creation.object_text(ctx, name, typed[name])
        elif name == "command":
            text = creation.command_text(ctx, value)
            typed[name] = text and msgspec.json.decode(text)
        elif is_empty:
            typed[name] = 0 if name in COUNTS else keep.get(name)
        else:
            typed[name] = _one(ctx, attribute, value)
    constraints.check_foreign(typed.get("runtime_constraints", {}), is_job=False)
    return typed


def _one(ctx: Context, attribute: resources.Attribute, value: Any) -> Any:
    """Return one value that is not empty, and no object."""
    result = resources.coerce(attribute, value)
    name = attribute.name
    if attribute.kind is resources.Kind.TEXT:
        creation.check_size(ctx, name, result)
    if attribute.kind is resources.Kind.INTEGER:
        _check_range(name, result, QSEQUENCE_MAX)
    if name == "failed_at":
        if not 0 <= result < 2**33:
            raise Invalid("failed_at must be a time in seconds since 1970")
        return round(result * 1_000_000)
    return result


def _check_range(name: str, value: int, highest: int) -> None:
    if not 0 <= value <= highest:
        raise Invalid(f"{name} must be an integer from 0 to {highest}")


def _creator(ctx: Context, job_id: int, uuid: str | None) -> TaskRecord | None:
    if not uuid:
        return None
    creator = ctx.tx.one(TaskRecord, "task_by_uuid", uuid=uuid)
    if creator is None or creator.job_id != job_id:
        raise Invalid(f"Created by job task uuid '{uuid}' not found in this job")
    return creator


def _number(ctx: Context, job: JobRecord, tasks: list[dict[str, Any]]) -> None:
    """Give each task its number of arrival: the one that was asked for, or the next."""
    asked = [task["qsequence"] for task in tasks if task["qsequence"] is not None]
    if asked:
        if len(set(asked)) != len(asked):
            raise Invalid("Two tasks of one create ask for the same qsequence")
        _take(ctx, job.id, asked)
    left = [task for task in tasks if task["qsequence"] is None]
    if left:
        beyond = int(ctx.tx.value("tally_take_qsequences", job_id=job.id, count=len(left)))
        if beyond > QSEQUENCES:
            raise Invalid("The job has no numbers of arrival left")
        for qsequence, task in enumerate(left, beyond - len(left)):
            task["qsequence"] = qsequence


def _take(ctx: Context, job_id: int, qsequences: list[int]) -> None:
    """Take numbers of arrival that a manager chose; raise `Invalid` when one is taken."""
    ids = msgspec.json.encode([task_id(job_id, number) for number in qsequences]).decode()
    taken = ctx.tx.value("tasks_numbered", ids=ids)
    if taken is not None:
        raise Invalid(f"qsequence {taken} is taken by another task of this job (R6)")
    ctx.tx.run("tally_pass_qsequence", job_id=job_id, beyond=max(qsequences) + 1)


def _store(ctx: Context, job: JobRecord, tasks: list[dict[str, Any]], uuids: list[str]) -> None:
    places = Counter(Place(task["sequence"], task["creator_id"]) for task in tasks)
    batches = {
        place: _add_batch(ctx, job.id, place, count, tasks[0]["qsequence"])
        for place, count in places.items()
    }
    rows = []
    ledger = Ledger(ctx)
    for task, uuid in zip(tasks, uuids, strict=True):
        place = Place(task["sequence"], task["creator_id"])
        row_id = task_id(job.id, task["qsequence"])
        columns = {**_columns(task), "id": row_id, "batch_id": batches[place]}
        rows.append({**columns, "uuid": uuid, "now": ctx.now})
        ledger.add(job.id, task["sequence"], task["state"])
    ctx.tx.run_many("task_add_foreign", rows)
    ledger.flush()


def _add_batch(ctx: Context, job_id: int, place: Place, size: int, qsequence: int) -> int:
    return ctx.tx.add(
        "batch_add_foreign",
        job_id=job_id,
        sequence=place.sequence,
        shape_id=shapes.shape_of(ctx, Needs()),
        creator_task_id=place.creator_id,
        size=size,
        head=task_id(job_id, qsequence),
    )


def _columns(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task's values as its columns hold them."""
    names = FIRST.keys() - {"created_by_job_task_uuid", "qsequence"}
    columns = {name: task[name] for name in names}
    for name in ("parameters", "runtime_constraints"):
        columns[name] = creation.encode_json(task[name]).decode()
    command = task["command"]
    columns["command"] = None if command is None else creation.encode_json(command).decode()
    return {**columns, "state": int(task["state"])}


def _rewrite(ctx: Context, ledger: Ledger, task: TaskRecord, values: dict[str, Any]) -> None:
    """Store a task's values; it moves where its sequence, creator and number say."""
    job_id, new_id = task.job_id, task_id(task.job_id, values["qsequence"])
    if new_id != task.id:
        _take(ctx, job_id, [values["qsequence"]])
        for query in ("batches_follow", "attempts_follow"):
            ctx.tx.run(query, task_id=task.id, new_id=new_id)
    batch_id = task.batch_id
    creator_uuid = values["created_by_job_task_uuid"] or None
    place = (values["sequence"], creator_uuid)
    if place != (task.sequence, task.created_by_job_task_uuid):
        if creator_uuid == task.uuid:
            raise Invalid("A task is not created by itself")
        creator = _creator(ctx, job_id, creator_uuid)
        moved = Place(values["sequence"], creator.id if creator else None)
        batch_id = _add_batch(ctx, job_id, moved, 1, values["qsequence"])
        ctx.tx.run("batch_leave", batch_id=task.batch_id)
    changed = ctx.tx.run(
        "task_write",
        **_columns(values),
        task_id=task.id,
        id=new_id,
        batch_id=batch_id,
        old_state=task.state,
        now=ctx.now,
    )
    assert changed, "the task changed within the transaction that read it"
    ledger.add(job_id, task.sequence, TaskState(task.state), -1)
    ledger.add(job_id, values["sequence"], values["state"])


def _bury_children(ctx: Context, ledger: Ledger, job_id: int, creator_id: int) -> None:
    """Let the tasks that a task created be gone; not what these created in turn (R4, R7b)."""
    for children in ctx.tx.all(Children, "children_counted", task_id=creator_id):
        state = TaskState(children.state)
        ledger.add(job_id, children.sequence, state, -children.tasks)
    ctx.tx.run("batches_bury_children", task_id=creator_id)
    ctx.wake.add("manager")
