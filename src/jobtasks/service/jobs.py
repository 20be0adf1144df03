"""Jobs: created, changed, cancelled, started and read (R1, R7, R17, R18, R20, R21, R24)."""

from __future__ import annotations

from typing import Any, NamedTuple

from jobtasks.core import resources, states
from jobtasks.core.constraints import Constraints
from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.identifiers import task_id
from jobtasks.core.retry import Cause
from jobtasks.core.states import BatchState, JobState, TaskState
from jobtasks.service import (
    access,
    changes,
    creation,
    endings,
    ends,
    fleet,
    retention,
    scripts,
    shapes,
)
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import Name, once, submit_key
from jobtasks.service.job_retry import retry
from jobtasks.service.ledger import Ledger
from jobtasks.service.repeats import RequestName
from jobtasks.store.records import JobRecord, LevelRecord

__all__ = [
    "cancel",
    "create",
    "delete",
    "levels",
    "output_page",
    "require_creator",
    "retry",
    "show",
    "start_queued",
    "update",
]

JOBS = resources.RESOURCES["jobs"]
FIXED = ("script", "script_version", "script_parameters", "command", "repository")
"""What may be changed only while the job is queued."""
CHANGEABLE = ("priority", "description", "nondeterministic", "components")
STATE_ATTRIBUTES = ("state", "cancelled_at")
"""What a user's update may name to cancel (R17)."""
FORBIDDEN = frozenset(
    {"running", "success", "started_at", "finished_at", "tasks_summary", "output"}
)
"""What follows the state or the tasks: a change is 403 (R17)."""
START_PAGE = 1000
EMPTY_OBJECT = "{}"


class QueuedJob(NamedTuple):
    """A job that waits to be started."""

    id: int
    uuid: str
    runtime_constraints: str
    seeded: int


class LiveAttempt(NamedTuple):
    """An attempt whose record is open."""

    id: int
    task_id: int


def create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], key: Name | None = None
) -> JobRecord:
    """Create a job, once a key (R22); it starts as soon as a node is large enough for it.

    Raises:
        Invalid: an attribute that a job cannot have, or neither script nor command.
        Forbidden: the caller is an attempt or an agent.
    """
    require_creator(ctx, caller)
    if isinstance(key, RequestName) and attributes.get("submit_id"):
        key = None
    return once(
        ctx,
        caller,
        key,
        lambda: _submit(ctx, caller, attributes),
        lambda job: job.uuid,
        lambda uuid: _made_before(ctx, caller, uuid),
    )


def _submit(ctx: Context, caller: Caller, attributes: dict[str, Any]) -> JobRecord:
    """Create a job, once a ``submit_id`` of its user, for ever (R22)."""
    submit_id = resources.coerce(JOBS.attributes["submit_id"], attributes.get("submit_id"))
    return once(
        ctx,
        caller,
        submit_key(submit_id, attributes) if submit_id else None,
        lambda: _create(ctx, caller, attributes),
        lambda job: job.uuid,
        lambda uuid: _made_before(ctx, caller, uuid),
    )


def _made_before(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    try:
        return show(ctx, caller, uuid)
    except NotFound:
        raise Invalid(f"The job {uuid} that this key made was deleted since (R22).") from None


def require_creator(ctx: Context, caller: Caller) -> None:
    """Raise `Forbidden` unless the caller may create jobs."""
    if caller.role not in ("admin", "user"):
        raise Forbidden("Only people's tokens create jobs.")


def _create(ctx: Context, caller: Caller, attributes: dict[str, Any]) -> JobRecord:
    values = _create_values(ctx, attributes)
    uuid = ctx.world.uuids.make("job", ctx.now)
    job_id = ctx.tx.add("job_add", uuid=uuid, owner_uuid=caller.user_uuid, now=ctx.now, **values)
    ctx.tx.run("tally_add", job_id=job_id)
    ctx.wake.add("manager")
    return show(ctx, caller, uuid)


def _create_values(ctx: Context, attributes: dict[str, Any]) -> dict[str, Any]:
    values = {
        "priority": 0,
        "script": None,
        "script_version": None,
        "repository": None,
        "script_parameters": EMPTY_OBJECT,
        "command": None,
        "runtime_constraints": EMPTY_OBJECT,
        "description": None,
        "nondeterministic": None,
        "components": EMPTY_OBJECT,
        "submit_id": None,
    }
    for name, value in attributes.items():
        attribute = resources.attribute(JOBS, name)
        if attribute.name in values:
            values[attribute.name] = _stored(ctx, attribute, value)
        elif not attribute.ignored:
            _refuse_at_create(attribute.name, value)
    _check_work(values)
    return values


def _stored(ctx: Context, attribute: resources.Attribute, value: Any) -> Any:
    """Return a job's attribute as its column holds it."""
    if attribute.name == "command":
        return creation.command_text(ctx, value)
    if attribute.kind is resources.Kind.OBJECT:
        given = {} if value in (None, "") else resources.coerce(attribute, value)
        text = creation.object_text(ctx, attribute.name, given)
        if attribute.name == "runtime_constraints":
            _check_constraints(text)
        return text
    result = resources.coerce(attribute, value)
    if attribute.name == "priority":
        return result or 0
    if attribute.name == "submit_id":
        return result or None
    if isinstance(result, str):
        creation.check_size(ctx, attribute.name, result)
    return result


def _check_constraints(text: str) -> None:
    constraints = shapes.job_constraints(text)
    if constraints.manager == "external":
        raise Invalid("Runtime constraints: manager external is not supported yet")


def _refuse_at_create(name: str, value: Any) -> None:
    """Refuse what a new job cannot be told, unless the value says nothing."""
    if value in (None, "", 0, {}, []) or (name == "state" and value == JobState.QUEUED):
        return
    if name in ("state", "running", "is_locked_by_uuid"):
        raise Invalid(f"{name} cannot be given when a job is created (not supported yet)")
    raise Invalid(f"{name} is given by the server")


def _check_work(values: dict[str, Any]) -> None:
    if values["script"]:
        scripts.check_form(values["script"], values["script_version"])
    elif not values["command"]:
        raise Invalid("script attribute must be specified (or a command)")


def show(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Return a job."""
    return access.visible_job(ctx, caller, uuid)


def update(
    ctx: Context, caller: Caller, uuid: str, attributes: dict[str, Any], *, whole: bool
) -> JobRecord:
    """Change what an owner may change of a job; ``state: Cancelled`` cancels it (R17)."""
    job = access.own_job(ctx, caller, uuid, "change")
    if _wants_cancel(job, attributes):
        rest = {name: attributes[name] for name in attributes if name not in STATE_ATTRIBUTES}
        job = cancel(ctx, caller, uuid, None)
        attributes = rest
    _refuse_state_changes(job, attributes, whole)
    changeable: tuple[str, ...] = CHANGEABLE
    if job.state == JobState.QUEUED and not job.seeded:
        changeable = (*CHANGEABLE, *FIXED, "runtime_constraints")
    given = changes.accepted(changes.JOBS, job, attributes, changeable, whole=whole)
    if given:
        _store_changes(ctx, caller, job, given)
    return show(ctx, caller, uuid)


def _wants_cancel(job: JobRecord, attributes: dict[str, Any]) -> bool:
    if attributes.get("state") == JobState.CANCELLED:
        return True
    return bool(attributes.get("cancelled_at")) and not JobState(job.state).is_final


def _refuse_state_changes(job: JobRecord, attributes: dict[str, Any], whole: bool) -> None:
    state = attributes.get("state") or job.state
    if state != job.state:
        if state in tuple(JobState) and states.may_follow(JobState(job.state), JobState(state)):
            raise Forbidden(f"Only the job manager may set state to {state} (R17).")
        raise Invalid(f"State invalid change from {job.state} to {state}")
    for name in FORBIDDEN & attributes.keys():
        one = {name: attributes[name]}
        try:
            changes.accepted(changes.JOBS, job, one, (), whole=whole)
        except Invalid:
            raise Forbidden(f"Only the job manager may change {name} (R17).") from None


def _store_changes(ctx: Context, caller: Caller, job: JobRecord, given: dict[str, Any]) -> None:
    values = {name: getattr(job, name) for name in (*CHANGEABLE, *FIXED, "runtime_constraints")}
    for name, value in given.items():
        values[name] = _stored(ctx, JOBS.attributes[name], value)
    _check_work(values)
    changed = ctx.tx.run(
        "job_update",
        job_id=job.id,
        state=job.state,
        now=ctx.now,
        user_uuid=caller.user_uuid,
        **values,
    )
    assert changed, "the job changed within the transaction that read it"
    ctx.wake.add("manager")


def delete(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Delete a job with its tasks; rows go later, in slices (R24)."""
    job = access.own_job(ctx, caller, uuid, "delete")
    state = JobState(job.state)
    if state == JobState.RUNNING or job.live:
        raise Invalid("A job can be deleted when it is queued, or over with no process left (R24).")
    retention.remove_job(ctx, job.id, uuid, job.state)
    return job


def cancel(ctx: Context, caller: Caller, uuid: str, reason: str | None) -> JobRecord:
    """Cancel a job: nothing starts any more and nothing is accepted after this (R17, R21)."""
    job = access.own_job(ctx, caller, uuid, "cancel")
    if job.state == JobState.CANCELLED:
        return job
    ctx.tx.lock_jobs([job.id])
    log = f"cancelled: {reason}" if reason else "cancelled"
    if not ctx.tx.run(
        "job_cancel", job_id=job.id, now=ctx.now, user_uuid=caller.user_uuid, log=log
    ):
        raise Invalid(f"State invalid change from {job.state} to {JobState.CANCELLED.value}")
    _close_attempts(ctx, job, log)
    ctx.wake.update({"nodes", uuid})
    return show(ctx, caller, uuid)


def _close_attempts(ctx: Context, job: JobRecord, reason: str) -> None:
    """Close every open attempt of a cancelled job; processes end when their agents hear of it."""
    ledger = Ledger(ctx)
    for attempt in ctx.tx.all(LiveAttempt, "attempts_live_of_job", job_id=job.id):
        facts = ctx.tx.one(ends.EndFacts, "attempt_end_facts", attempt_id=attempt.id)
        assert facts is not None
        ends.wait_again(ctx, ledger, facts)
        ctx.measured.append(("attempts_ended", Cause.CANCELLED.value, 1))
        ctx.tx.run(
            "attempt_close", attempt_id=attempt.id, cause=Cause.CANCELLED.value, reason=reason
        )
    ledger.touch(job.id)
    ledger.flush()


def start_queued(ctx: Context) -> None:
    """Start the queued jobs for which a node is large enough, oldest first (R1, R18)."""
    nodes = fleet.usable_nodes(ctx)
    after_job = 0
    while nodes:
        page = ctx.tx.all(QueuedJob, "jobs_queued", after_job=after_job, limit=START_PAGE)
        for job in page:
            constraints = shapes.job_constraints(job.runtime_constraints)
            needs = shapes.needs_of_job(job.runtime_constraints)
            if fleet.may_start(nodes, needs, constraints.min_nodes or 1):
                _start(ctx, job)
        if len(page) < START_PAGE:
            return
        after_job = page[-1].id


def _start(ctx: Context, job: QueuedJob) -> None:
    ctx.tx.lock_jobs([job.id])
    if not ctx.tx.run("job_start", job_id=job.id, now=ctx.now):
        return
    ledger = Ledger(ctx)
    ledger.touch(job.id)
    if not job.seeded:
        _seed(ctx, ledger, job.id)
    ledger.flush()
    ctx.wake.add(job.uuid)


def _seed(ctx: Context, ledger: Ledger, job_id: int) -> None:
    """Seed a job that starts for the first time with its one task (R1)."""
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=job_id)
    assert job is not None
    ctx.tx.value("tally_take_qsequences", job_id=job_id, count=1)
    head = task_id(job_id, 0)
    batch_id = creation.add_batch(
        ctx, job, 0, Constraints(), None, head, BatchState.PUBLISHED, size=1
    )
    uuid = ctx.world.uuids.make("job_task", ctx.now)
    row = (head, uuid, batch_id, 0, EMPTY_OBJECT, EMPTY_OBJECT, None, ctx.now, ctx.now)
    ctx.tx.run_many("task_add", [row])
    ledger.add(job_id, 0, TaskState.WAITING)
    ledger.make_ready(job_id, 0, shapes.shape_of(ctx, shapes.needs_of_job(job.runtime_constraints)))


def levels(ctx: Context, caller: Caller, uuid: str) -> list[LevelRecord]:
    """Return how many tasks of each sequence are where, in order of sequence."""
    job = access.visible_job(ctx, caller, uuid)
    found = ctx.tx.all(LevelRecord, "levels_of_job", job_id=job.id)
    return [level for level in found if any(level[1:])]


def output_page(
    ctx: Context, caller: Caller, uuid: str, after: tuple[int, int] | None
) -> tuple[list[str], tuple[int, int] | None]:
    """Return the next pieces of a job's whole output, and the cursor to go on from (R20)."""
    return endings.output_page(ctx, access.visible_job(ctx, caller, uuid), after)
