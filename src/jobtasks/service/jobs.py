"""Jobs: created, changed, cancelled, started and read (R1, R7, R17, R18, R20, R21, R24)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, NamedTuple

from jobtasks.core import resources, states
from jobtasks.core.constraints import Constraints, Needs
from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.identifiers import task_id
from jobtasks.core.packs import NO_SCRIPT, Pack
from jobtasks.core.placement import is_large_enough
from jobtasks.core.reuse import Reuse
from jobtasks.core.states import BatchState, JobState, TaskState
from jobtasks.service import (
    access,
    changes,
    creation,
    endings,
    engines,
    events,
    fleet,
    foreign_jobs,
    retention,
    reusing,
    shapes,
    tree,
)
from jobtasks.service.cancelling import cancel
from jobtasks.service.context import Caller, Context
from jobtasks.service.foreign_jobs import lock
from jobtasks.service.idempotency import Name, once, submit_key
from jobtasks.service.job_retry import retry
from jobtasks.service.job_values import CHANGEABLE, EMPTY_OBJECT, FIXED, JOBS, checked, stored
from jobtasks.service.ledger import Ledger
from jobtasks.service.repeats import RequestName
from jobtasks.store.records import JobRecord, LevelRecord

__all__ = [
    "cancel",
    "create",
    "delete",
    "levels",
    "lock",
    "output_page",
    "queue_size",
    "require_creator",
    "retry",
    "show",
    "start_queued",
    "update",
]

STATE_ATTRIBUTES = ("state", "cancelled_at")
"""What a user's update may name to cancel (R17)."""
FORBIDDEN = frozenset(
    {"running", "success", "started_at", "finished_at", "tasks_summary", "output"}
)
"""What follows the state or the tasks: a change is 403 (R17)."""
START_PAGE = 1000
STARTS_MAX = 100
"""Jobs that one transaction starts: when the first node joins, thousands may wait for it."""


class QueuedJob(NamedTuple):
    """A job that waits to be started."""

    id: int
    uuid: str
    runtime_constraints: str
    seeded: int
    priority: int


def create(
    ctx: Context,
    caller: Caller,
    attributes: dict[str, Any],
    key: Name | None = None,
    reuse: Reuse | None = None,
    pack: Pack = NO_SCRIPT,
) -> JobRecord:
    """Create a job, once a key (R22); it starts as soon as a node is large enough for it.

    With `reuse` an earlier job that does the same is returned in its place (core/reuse.py). `pack`
    is what its script's directory holds now.

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
        lambda: _submit(ctx, caller, attributes, reuse, pack),
        lambda job: job.uuid,
        lambda uuid: _made_before(ctx, caller, uuid),
    )


def _submit(
    ctx: Context, caller: Caller, attributes: dict[str, Any], reuse: Reuse | None, pack: Pack
) -> JobRecord:
    """Create a job, once a ``submit_id`` of its user, for ever (R22)."""
    submit_id = resources.coerce(JOBS.attributes["submit_id"], attributes.get("submit_id"))
    return once(
        ctx,
        caller,
        submit_key(submit_id, attributes) if submit_id else None,
        lambda: _create(ctx, caller, attributes, reuse, pack),
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


def _create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], reuse: Reuse | None, pack: Pack
) -> JobRecord:
    foreign = foreign_jobs.is_begun(ctx.world, attributes)
    begun = (
        foreign_jobs.beginning(ctx, caller, attributes)
        if foreign
        else {**foreign_jobs.OURS, "managed": 1, "state": JobState.QUEUED.value}
    )
    values = checked(_create_values(ctx, attributes, foreign=foreign), foreign=foreign)
    found = reusing.find(ctx, caller, values, reuse) if reuse else None
    if found is not None:
        return show(ctx, caller, found)
    if not foreign:
        engines.refuse_impossible(ctx, values["runtime_constraints"])
    uuid = ctx.world.uuids.make("job", ctx.now)
    owner: dict[str, Any] = {"uuid": uuid, "owner_uuid": caller.user_uuid, "now": ctx.now}
    job_id = ctx.tx.add(
        "job_add", **owner, **begun, **values, script_hash=pack.hash, script_remark=pack.remark
    )
    ctx.tx.run("tally_add", job_id=job_id)
    events.job_created(ctx, job_id, uuid, str(begun["state"]))
    ctx.wake.add("manager")
    return show(ctx, caller, uuid)


def _create_values(ctx: Context, attributes: dict[str, Any], *, foreign: bool) -> dict[str, Any]:
    values = {
        "priority": 0,
        "script": None,
        "script_version": None,
        "supplied_script_version": None,
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
            values[attribute.name] = stored(ctx, attribute, value)
        elif not (attribute.ignored or (foreign and attribute.foreign)):
            _refuse_at_create(attribute.name, value)
    return values


def _refuse_at_create(name: str, value: Any) -> None:
    """Refuse what a new job cannot be told, unless the value says nothing."""
    if value in (None, "", 0, {}, []) or (name == "state" and value == JobState.QUEUED):
        return
    raise Invalid(f"{name} is given by the server")


def show(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Return a job."""
    return access.visible_job(ctx, caller, uuid)


def update(
    ctx: Context,
    caller: Caller,
    uuid: str,
    attributes: dict[str, Any],
    *,
    whole: bool,
    pack: Pack | None = None,
) -> JobRecord:
    """Change what an owner may change of a job; ``state: Cancelled`` cancels it (R17).

    A queued job that is set running or over, locked or marked is foreign from then on (R7b). `pack`
    goes with a script that is another than the job's.
    """
    job = access.own_job(ctx, caller, uuid, "change")
    if not job.managed or foreign_jobs.takes_over(job, attributes, whole=whole):
        return foreign_jobs.update(ctx, caller, job, attributes, whole=whole)
    if job.state == JobState.CANCELLED and attributes.get("cancelled_at"):
        attributes = _without_time(attributes)
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
        _store_changes(ctx, caller, job, given, pack)
    return show(ctx, caller, uuid)


def _without_time(attributes: dict[str, Any]) -> dict[str, Any]:
    """Return what an update of a cancelled job says besides when: the first time stands."""
    resources.coerce(JOBS.attributes["cancelled_at"], attributes["cancelled_at"])
    return {name: value for name, value in attributes.items() if name != "cancelled_at"}


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


def _store_changes(
    ctx: Context, caller: Caller, job: JobRecord, given: dict[str, Any], pack: Pack | None
) -> None:
    values = {name: getattr(job, name) for name in (*CHANGEABLE, *FIXED, "runtime_constraints")}
    for name, value in given.items():
        values[name] = stored(ctx, JOBS.attributes[name], value)
    values = checked(values, foreign=False)
    if "runtime_constraints" in given:
        engines.refuse_impossible(ctx, values["runtime_constraints"])
    changed = ctx.tx.run(
        "job_update",
        job_id=job.id,
        state=job.state,
        now=ctx.now,
        user_uuid=caller.user_uuid,
        **values,
    )
    assert changed, "the job changed within the transaction that read it"
    if pack is not None:
        ctx.tx.run("job_packed", job_id=job.id, script_hash=pack.hash, script_remark=pack.remark)
    ctx.tx.run("lanes_outrank", job_id=job.id, priority=values["priority"])
    ctx.wake.add("manager")


def delete(ctx: Context, caller: Caller, uuid: str) -> JobRecord:
    """Delete a job with its tasks; rows go later, in slices (R24)."""
    job = access.own_job(ctx, caller, uuid, "delete")
    state = JobState(job.state)
    if state == JobState.RUNNING or job.live:
        raise Invalid("A job can be deleted when it is queued, or over with no process left (R24).")
    retention.remove_job(ctx, job.id, uuid, job.state, job.owner_uuid)
    return job


def start_queued(ctx: Context) -> bool:
    """Start the queued jobs that enough nodes would do for, oldest first (R1, R18).

    For most one node is enough, busy or not, if it is large enough. Return whether there may be
    more of them than one transaction starts; what waits for several nodes is looked at when not.
    """
    started = 0
    waiting: list[fleet.WaitingJob] = []
    room = Room(ctx)
    for job in _queued(ctx):
        if not room.is_there:
            break
        wanted = room.wanted(job.runtime_constraints, job.id)
        if wanted.may_start:
            _start(ctx, job)
            started += 1
            if started == STARTS_MAX:
                return True
        elif wanted.min_nodes > 1:
            waiting.append(fleet.WaitingJob(job.id, job.priority, wanted.needs, wanted.min_nodes))
    fleet.keep_for_start(ctx, room.nodes if waiting else [], waiting)
    return False


def start_at_once(ctx: Context, uuid: str) -> None:
    """Start a job that was just created, if none was queued before it and one node would do (R18).

    Nobody has to wait for the manager then. What is left to that is so as if it had not been asked.
    """
    queued = ctx.tx.all(QueuedJob, "jobs_queued", after_job=0, limit=2) if ctx.world.manages else []
    if [job.uuid for job in queued] != [uuid]:
        return
    wanted = Room(ctx).wanted(queued[0].runtime_constraints, queued[0].id)
    if wanted.may_start and wanted.min_nodes == 1:
        _start(ctx, queued[0])
        ctx.wake.discard("manager")


class Wanted(NamedTuple):
    """What jobs with these constraints need, and whether that is there."""

    min_nodes: int
    needs: Needs
    may_start: bool


class Room:
    """What nodes there are for queued jobs; looked at when it is asked for, and then kept."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._known: dict[str, Wanted] = {}
        """Of thousands of queued jobs most want the same."""

    @cached_property
    def alike(self) -> list[fleet.AlikeNodes]:
        """Nodes by their sizes."""
        return fleet.alike_nodes(self._ctx, on_trial=True)

    @cached_property
    def granted(self) -> set[int]:
        """Jobs that have nodes of their own (R18)."""
        return set(self._ctx.tx.all(int, "jobs_with_nodes"))

    @property
    def is_there(self) -> bool:
        """Whether there is any node."""
        return bool(self.alike or self.granted)

    @cached_property
    def nodes(self) -> list[fleet.UsableNode]:
        """Each node, with what is free there."""
        return fleet.usable_nodes(self._ctx)

    def wanted(self, constraints: str, job_id: int) -> Wanted:
        """Return what a job with these `runtime_constraints` wants."""
        if job_id in self.granted:
            alike = fleet.alike_nodes(self._ctx, job_id, on_trial=True)
            return _look(constraints, alike, lambda: fleet.usable_nodes(self._ctx, job_id))
        found = self._known.get(constraints)
        if found is None:
            found = _look(constraints, self.alike, lambda: self.nodes)
            self._known[constraints] = found
        return found


def _look(
    constraints: str, alike: list[fleet.AlikeNodes], nodes: Callable[[], list[fleet.UsableNode]]
) -> Wanted:
    """Return what a job wants, and whether it is among these nodes."""
    min_nodes = shapes.job_constraints(constraints).min_nodes or 1
    needs = shapes.needs_of_job(constraints)
    if min_nodes == 1:
        may_start = any(is_large_enough(one.size, needs) for one in alike)
    else:
        may_start = fleet.is_enough_free(nodes(), needs, min_nodes)
    return Wanted(min_nodes, needs, may_start)


def _queued(ctx: Context) -> Iterator[QueuedJob]:
    """Yield the jobs that our manager is to start, oldest first, read by pages."""
    after_job = 0
    while ctx.world.manages and (
        page := ctx.tx.all(QueuedJob, "jobs_queued", after_job=after_job, limit=START_PAGE)
    ):
        yield from page
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
    events.job_changed(ctx, job.id, job.uuid, JobState.QUEUED, JobState.RUNNING)
    ctx.wake.add(job.uuid)


def _seed(ctx: Context, ledger: Ledger, job_id: int) -> None:
    """Seed a job that starts for the first time with its one task (R1)."""
    job = ctx.tx.one(JobRecord, "job_by_id", job_id=job_id)
    assert job is not None
    ctx.tx.value("tally_take_qsequences", job_id=job_id, count=1)
    head = task_id(job_id, 0)
    batch_id = creation.add_batch(
        ctx, job, 0, Constraints(), creation.NOBODY, head, BatchState.PUBLISHED, size=1
    )
    uuid = ctx.world.uuids.make("job_task", ctx.now)
    row = (head, uuid, batch_id, 0, EMPTY_OBJECT, EMPTY_OBJECT, None, ctx.now, ctx.now)
    ctx.tx.run_many("task_add", [row])
    ledger.add(job_id, 0, TaskState.WAITING)
    ledger.descend(job_id, tree.NO_CREATOR, 0, 1, 0)
    ledger.make_ready(job_id, 0, shapes.shape_of(ctx, shapes.needs_of_job(job.runtime_constraints)))


def queue_size(ctx: Context, caller: Caller) -> int:
    """Return how many jobs are queued, whoever's they are.

    Raises:
        Forbidden: the caller is an attempt or an agent.
    """
    if caller.role not in ("admin", "user"):
        raise Forbidden("Only people's tokens may ask how long the queue is.")
    return int(ctx.tx.value("jobs_queued_count"))


def levels(ctx: Context, caller: Caller, uuid: str) -> list[LevelRecord]:
    """Return how many tasks of each sequence are where, in order of sequence."""
    job = access.visible_job(ctx, caller, uuid)
    found = ctx.tx.all(LevelRecord, "levels_of_job", job_id=job.id)
    return [level for level in found if any(level[1:])]


def output_page(
    ctx: Context, caller: Caller, uuid: str, after: tuple[int, int] | None
) -> tuple[list[str], tuple[int, int] | None]:
    """Return the next pieces of a job's whole output, and the cursor to go on from (R20).

    Of a foreign job it is what its own manager wrote, if that has written any (R7b).
    """
    job = access.visible_job(ctx, caller, uuid)
    if not job.managed and job.output is not None:
        return [job.output], None
    return endings.output_page(ctx, job, after)
