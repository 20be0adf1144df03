"""Foreign jobs: begun, taken over, locked and written by managers of their own (R7b, R17)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jobtasks.core import foreign, resources, states
from jobtasks.core.errors import Forbidden, Invalid
from jobtasks.core.states import JobState
from jobtasks.service import access, changes, events, notices, setup
from jobtasks.service.cancelling import cancel
from jobtasks.service.context import Caller, Context, World
from jobtasks.service.idempotency import Name, once
from jobtasks.service.job_values import CHANGEABLE, FIXED, JOBS, checked, stored
from jobtasks.service.ledger import Ledger
from jobtasks.store.records import JobRecord

OWN = resources.of_foreign(JOBS)
STATE_ATTRIBUTES = ("state", *foreign.FLAGS)
WRITTEN = ("output", "log", "tasks_summary", "started_at", "finished_at", "is_locked_by_uuid")
"""Columns that a foreign job's manager writes beside those that every owner may change."""
OURS = {**dict.fromkeys(WRITTEN), "cancelled_at": None, "cancelled_by_user_uuid": None}
"""What these columns hold in a new job that our manager is to run."""


def is_begun(world: World, attributes: Mapping[str, Any]) -> bool:
    """Return whether a job that is created with these attributes is foreign from the start.

    Raises:
        Invalid: one of those that decide is of the wrong type.
    """
    if not world.manages or _names_external(attributes) or attributes.get("is_locked_by_uuid"):
        return True
    return _asked(JobState.QUEUED, attributes) is not JobState.QUEUED


def beginning(ctx: Context, caller: Caller, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that say how a new foreign job begins.

    Raises:
        Forbidden: it is to be locked for somebody else.
    """
    state = _asked(JobState.QUEUED, attributes)
    values = _typed(ctx, {name: attributes[name] for name in WRITTEN if name in attributes})
    _check_new_lock(caller, values.get("is_locked_by_uuid"))
    is_cancelled = state is JobState.CANCELLED
    columns = {**OURS, **{name: _column(ctx, name, values[name]) for name in values}}
    return {
        **columns,
        **foreign.times_of_state(state, columns, ctx.now),
        "managed": 0,
        "state": state.value,
        "cancelled_at": ctx.now if is_cancelled else None,
        "cancelled_by_user_uuid": caller.user_uuid if is_cancelled else None,
    }


def takes_over(job: JobRecord, attributes: Mapping[str, Any], *, whole: bool) -> bool:
    """Return whether a write makes a queued job of ours foreign: by state, lock or constraint.

    A whole record's empty values ask for nothing (R7).
    """
    if not job.managed or job.state != JobState.QUEUED:
        return False
    asked = {name: attributes[name] for name in attributes if not whole or attributes[name]}
    if asked.get("is_locked_by_uuid") or _names_external(asked):
        return True
    return _asked(JobState.QUEUED, asked) not in (JobState.QUEUED, JobState.CANCELLED)


def hand_over(ctx: Context, job: JobRecord) -> JobRecord:
    """Leave a queued job to a manager of its own: nothing of it is for us to start any more.

    Raises:
        Invalid: it is not queued any more.
    """
    ctx.tx.lock_jobs([job.id])
    if not ctx.tx.run("job_hand_over", job_id=job.id):
        raise Invalid(f"Job {job.uuid} is not queued any more.")
    for query in ("batches_rest", "lane_delete", "requeue_clear"):
        ctx.tx.run(query, job_id=job.id)
    ledger = Ledger(ctx)
    ledger.touch(job.id)
    ledger.flush()
    return job._replace(managed=0)


def lock(ctx: Context, caller: Caller, uuid: str, key: Name | None = None) -> JobRecord:
    """Lock a queued job and set it running: the caller's own manager runs it from now on; once a
    key (R22).

    Raises:
        Invalid: it is not queued, or locked already.
    """
    return once(
        ctx,
        caller,
        key,
        lambda: _lock(ctx, caller, uuid),
        lambda job: job.uuid,
        lambda _: access.own_job(ctx, caller, uuid, "lock"),
    )


def _lock(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    job = access.own_job(ctx, caller, uuid, "lock")
    if job.state != JobState.QUEUED or job.is_locked_by_uuid:
        held = f"{job.state}, locked by {job.is_locked_by_uuid or 'nobody'}"
        raise Invalid(f"AlreadyLockedError: only a queued job can be locked; {uuid} is {held}")
    if job.managed:
        job = hand_over(ctx, job)
    values = {"state": JobState.RUNNING, "is_locked_by_uuid": caller.user_uuid}
    _write(ctx, caller, job, values)
    return access.visible_job(ctx, caller, uuid)


def update(
    ctx: Context, caller: Caller, job: JobRecord, attributes: dict[str, Any], *, whole: bool
) -> JobRecord:
    """Write what the manager of a foreign job may: all that says how the job fares (R7b).

    Raises:
        Forbidden: the job is locked by somebody else.
        Invalid: a value, or a change of state, that cannot be.
    """
    if job.managed:
        if whole:
            empty = {name for name in (*STATE_ATTRIBUTES, *WRITTEN) if not attributes.get(name)}
            attributes = {name: attributes[name] for name in attributes.keys() - empty}
        job = hand_over(ctx, job)
    given = changes.accepted(changes.JOBS, job, attributes, OWN, whole=whole)
    old = JobState(job.state)
    state = _asked(old, given)
    if not states.may_follow(old, state):
        raise Invalid(f"State invalid change from {old.value} to {state.value}")
    values = _typed(ctx, {name: given[name] for name in given if name not in STATE_ATTRIBUTES})
    values = changes.differing(changes.JOBS, job, values)
    if state is JobState.CANCELLED and old is not state:
        cancel(ctx, caller, job.uuid, None)
        job = access.own_job(ctx, caller, job.uuid, "change")
    _check_lock(caller, job, values.keys() | ({"state"} if state != job.state else set()))
    if "is_locked_by_uuid" in values:
        _check_new_lock(caller, values["is_locked_by_uuid"])
        if job.is_locked_by_uuid not in (None, caller.user_uuid):
            raise Forbidden("Only the holder of a job's lock may change the lock.")
    if values or state != job.state:
        _write(ctx, caller, job, {**values, "state": state})
    return access.visible_job(ctx, caller, job.uuid)


def _asked(old: JobState, attributes: Mapping[str, Any]) -> JobState:
    """Return the state that attributes as given ask for."""
    given = {}
    for name in STATE_ATTRIBUTES:
        if name in attributes:
            value = None if attributes[name] == "" else attributes[name]
            given[name] = resources.coerce(JOBS.attributes[name], value)
    return foreign.state_asked(old, given)


def _names_external(attributes: Mapping[str, Any]) -> bool:
    value = attributes.get("runtime_constraints", attributes.get("resource_limits"))
    if not value:
        return False
    given = resources.coerce(JOBS.attributes["runtime_constraints"], value)
    return bool(given.get("manager") == "external")


def _typed(ctx: Context, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of attributes, typed: objects as dict, times as Unix microseconds."""
    typed: dict[str, Any] = {}
    for name, value in given.items():
        attribute = JOBS.attributes[name]
        is_empty = value is None or (value == "" and attribute.kind is not resources.Kind.TEXT)
        if attribute.kind is resources.Kind.OBJECT and is_empty:
            typed[name] = {}
        else:
            typed[name] = None if is_empty else resources.coerce(attribute, value)
        if name in ("output", "log"):
            typed[name] = foreign.without_hints(typed[name])
        if name == "priority":
            typed[name] = typed[name] or 0
    return typed


def _column(ctx: Context, name: str, value: Any) -> Any:
    """Return a typed value as its column holds it."""
    attribute = JOBS.attributes[name]
    return value if attribute.kind is resources.Kind.DATETIME else stored(ctx, attribute, value)


def _check_lock(caller: Caller, job: JobRecord, changed: set[str]) -> None:
    """Raise `Forbidden` when only the holder of the job's lock may change these attributes."""
    holder = job.is_locked_by_uuid
    prefix = job.uuid.split("-")[0]
    if holder is None or caller.user_uuid in (holder, setup.root_uuid(prefix)):
        return
    locked = sorted(changed & foreign.LOCKED)
    if locked:
        raise Forbidden(f"Job {job.uuid} is locked by {holder}, who alone may change {locked[0]}.")


def _check_new_lock(caller: Caller, holder: str | None) -> None:
    if holder not in (None, caller.user_uuid):
        raise Forbidden("A job is locked for yourself alone: is_locked_by_uuid is your own UUID.")


def _write(ctx: Context, caller: Caller, job: JobRecord, given: Mapping[str, Any]) -> None:
    """Store typed values, `state` among them."""
    columns: dict[str, Any] = {name: getattr(job, name) for name in (*CHANGEABLE, *FIXED, *WRITTEN)}
    columns["runtime_constraints"] = job.runtime_constraints
    for name, value in given.items():
        if name != "state":
            columns[name] = _column(ctx, name, value)
    columns = checked(columns, foreign=True)
    times = foreign.times_of_state(given["state"], columns, ctx.now)
    written = {name: columns.pop(name) for name in WRITTEN} | times
    by: dict[str, Any] = {"job_id": job.id, "now": ctx.now, "user_uuid": caller.user_uuid}
    changed = ctx.tx.run("job_update", state=job.state, **by, **columns)
    changed &= ctx.tx.run(
        "job_write", state=given["state"].value, old_state=job.state, **by, **written
    )
    assert changed, "the job changed within the transaction that read it"
    if given["state"].is_final and given["state"] != job.state:
        notices.note_end(ctx, job)
    events.job_changed(ctx, job.id, job.uuid, job.state, given["state"])
    ctx.wake.update({"manager", job.uuid})
