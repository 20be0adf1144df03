"""What happens, for those who watch: one row for each transaction in which something happened.

Methods of the service note what they did in their context; whoever commits them writes the row
(`write`). So entries are in the order of commits, a task costs no row of its own, and what was
rolled back never happened.
"""

from __future__ import annotations

from typing import Any

import msgspec

from jobtasks.core.states import JobState, TaskState
from jobtasks.service.context import Caller, Context, Event
from jobtasks.store.records import LogRecord

MICROSECONDS = 1_000_000
PLACE_BITS = 16
"""An entry's id is that of its row, followed by its place in so many bits."""
TOPIC = "events"
"""Whom to wake when something happened."""
NODE_KIND = "7ekkf"


def job_created(ctx: Context, job_id: int, uuid: str, state: str) -> None:
    """Note a new job."""
    properties = {"new_attributes": {"uuid": uuid, "state": state}}
    ctx.events.append(Event("create", job_id, None, None, f"create of {uuid}", properties))


def job_changed(ctx: Context, job_id: int, uuid: str, old: str, new: str) -> None:
    """Note a job's new state; nothing when it has the old one."""
    if old != new:
        properties = _change(JobState(old).value, JobState(new).value)
        ctx.events.append(Event("update", job_id, None, None, f"update of {uuid}", properties))


def job_deleted(ctx: Context, uuid: str, owner_uuid: str, state: str) -> None:
    """Note that a job is there no more: it cannot be looked up, so the entry names it."""
    properties = {
        "uuid": uuid,
        "owner_uuid": owner_uuid,
        "old_attributes": {"uuid": uuid, "state": JobState(state).value},
    }
    ctx.events.append(Event("delete", None, None, None, f"delete of {uuid}", properties))


def tasks_created(ctx: Context, job_id: int, creator_id: int | None, first: int, size: int) -> None:
    """Note that `size` tasks arrived together, the first with qsequence `first`."""
    properties = {"first_qsequence": first, "count": size}
    summary = f"create of {size} tasks"
    ctx.events.append(Event("create", job_id, creator_id, None, summary, properties))


def task_changed(
    ctx: Context,
    job_id: int,
    task_id: int,
    old: TaskState,
    new: TaskState,
    *,
    node_id: int | None = None,
    **attempt: Any,
) -> None:
    """Note a task's new state, and what is to be said of the attempt that it is by; readers are
    told the node's name.
    """
    properties = {**CHANGES[old, new], "attempt": attempt}
    summary = f"{new.word}, attempt {attempt['number']}"
    ctx.events.append(Event("update", job_id, task_id, node_id, summary, properties))


def node_changed(ctx: Context, node_id: int, what: str) -> None:
    """Note what became of a node: joined, gone, held, draining, released."""
    ctx.events.append(Event("update", None, None, node_id, what, {"new_attributes": {}}))


def _change(old: str, new: str) -> dict[str, Any]:
    return {"old_attributes": {"state": old}, "new_attributes": {"state": new}}


CHANGES = {(old, new): _change(old.word, new.word) for old in TaskState for new in TaskState}
"""Made once: two are noted for each task, and all of a kind are alike."""


def write(ctx: Context) -> None:
    """Write what the transaction noted, as its last act."""
    if ctx.events:
        facts = msgspec.json.encode(ctx.events).decode()
        ctx.tx.run("event_add", at=ctx.now, facts=facts)
        ctx.wake.add(TOPIC)


def newest(ctx: Context) -> int:
    """Return the id of the newest row, 0 before the first."""
    return int(ctx.tx.value("events_newest") or 0)


def kept_from(ctx: Context) -> int:
    """Return the id of the oldest row that is kept; past the newest when none is."""
    oldest = ctx.tx.value("events_kept_from")
    return newest(ctx) + 1 if oldest is None else int(oldest)


def read(ctx: Context, after: int, rows_max: int) -> tuple[list[LogRecord], int]:
    """Return the entries of the rows after row `after`, and the row up to which they go."""
    upto = min(after + rows_max, newest(ctx))
    if upto <= after:
        return [], after
    return ctx.tx.all(LogRecord, "events_after", after=after, upto=upto), upto


def may_see(caller: Caller, record: LogRecord) -> bool:
    """Return whether the caller sees an entry: it is his, or about what is his (R32).

    An attempt sees those of its job, people those of nodes as well.
    """
    if caller.role == "attempt":
        return record.job_id is not None and record.job_id == caller.job_id
    if caller.is_admin:
        return True
    is_of_node = (record.object_uuid or "")[6:11] == NODE_KIND
    mine = caller.user_uuid in (record.owner_uuid, record.object_owner_uuid)
    return caller.role == "user" and (mine or is_of_node)


def sweep(ctx: Context) -> None:
    """Forget a slice of what happened long ago, or before too much else."""
    before = ctx.now - round(ctx.settings.events_seconds * MICROSECONDS)
    last_id = newest(ctx) - ctx.settings.events_max
    oldest_at = ctx.tx.value("events_oldest_at")
    if oldest_at is not None and (oldest_at < before or kept_from(ctx) <= last_id):
        limit = ctx.settings.sweep_rows
        ctx.tx.run("events_sweep", before=before, last_id=last_id, limit=limit)
