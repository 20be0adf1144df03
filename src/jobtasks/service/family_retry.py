"""The failed tasks of a family begin anew, with more memory when asked (R14, R23)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.families import RAM_FACTOR_MAX, ram_of
from jobtasks.core.states import BatchState
from jobtasks.service import creation, shapes
from jobtasks.service.context import Context
from jobtasks.service.creation import Creator
from jobtasks.store.base import Value
from jobtasks.store.records import JobRecord

PAGE = 2000
"""Tasks that are read at a time."""
RAM = "min_ram_per_task"


class KnownFamily(NamedTuple):
    """A family of the job."""

    id: int
    tasks: int


class FailedTask(NamedTuple):
    """A task of the family, with the attempt by which it failed for good."""

    attempt_id: int
    memory_kib: int
    """What was reserved for that attempt."""
    id: int
    sequence: int
    runtime_constraints: str
    batch_id: int
    shape_id: int
    creator_task_id: int | None
    creator_attempt_id: int | None
    creator_sequence: int | None


class Place(NamedTuple):
    """Where a task goes that begins anew."""

    batch_id: int
    shape_id: int
    runtime_constraints: str


class Wanted(NamedTuple):
    """What of the constraints of a family's tasks changes."""

    constraints: Mapping[str, Any]
    ram_factor: float | None
    """How much more memory they get than their last attempt had."""
    peak_kib: int
    """What is multiplied where nothing was reserved: the most that one of them was measured to use;
    0: unknown."""

    def of(self, ctx: Context, task: FailedTask) -> str:
        """Return the constraints of a task as text, as they are to be.

        Raises:
            Invalid: it is not known how much memory the task had.
        """
        if not self.constraints and self.ram_factor is None:
            return task.runtime_constraints
        changed = dict(self.constraints)
        if self.ram_factor is not None:
            changed[RAM] = ram_of(task.memory_kib or self.peak_kib, self.ram_factor)
        given = msgspec.json.decode(task.runtime_constraints)
        return creation.object_text(ctx, "runtime_constraints", {**given, **changed})


def reset_family(
    ctx: Context,
    job: JobRecord,
    name: str,
    constraints: Mapping[str, Any],
    ram_factor: float | None,
) -> None:
    """Let the tasks of a family that failed for good begin anew, and no others.

    Raises:
        Invalid: there is no such family or no failed task of it; or a constraint is wrong.
    """
    family = ctx.tx.one(KnownFamily, "family_named", job_id=job.id, name=name)
    if family is None:
        raise Invalid(f"This job has no family {name} of failures")
    if not family.tasks:
        raise Invalid(f"No task of family {name} is failed now")
    wanted = Wanted(constraints, ram_factor, _peak_kib(ctx, family.id, ram_factor))
    places: dict[tuple[int, str], Place] = {}
    after = 0
    while found := ctx.tx.all(
        FailedTask, "family_tasks", family_id=family.id, after=after, limit=PAGE
    ):
        after = found[-1].attempt_id
        _reset(ctx, job, found, wanted, places)
    ctx.tx.run("family_is_reset", family_id=family.id)


def _peak_kib(ctx: Context, family_id: int, ram_factor: float | None) -> int:
    if ram_factor is None:
        return 0
    return int(ctx.tx.value("family_peak", family_id=family_id) or 0)


def _reset(
    ctx: Context,
    job: JobRecord,
    tasks: list[FailedTask],
    wanted: Wanted,
    places: dict[tuple[int, str], Place],
) -> None:
    """Let these tasks begin anew; those of one batch and one text of constraints stay together.

    `places` has what was made for them so far.
    """
    moved: Counter[tuple[int, int]] = Counter()
    resets: list[dict[str, Value]] = []
    requeues: list[dict[str, Value]] = []
    texts: dict[tuple[str, int], str] = {}
    for task in tasks:
        before = (task.runtime_constraints, task.memory_kib)
        text = texts.get(before)
        if text is None:
            text = texts[before] = wanted.of(ctx, task)
        place = places.get((task.batch_id, text)) or _place(ctx, job, task, text)
        places[task.batch_id, text] = place
        if place.batch_id != task.batch_id:
            moved[task.batch_id, place.batch_id] += 1
        resets.append({"task_id": task.id, "now": ctx.now, **_columns(place)})
        requeues.append(_requeued(ctx, job.id, task, place))
    ctx.tx.run_many("task_reset", resets)
    ctx.tx.run_many("requeue_add", requeues)
    for (old, new), count in moved.items():
        ctx.tx.run("batch_resize", batch_id=old, count=-count)
        ctx.tx.run("batch_resize", batch_id=new, count=count)


def _place(ctx: Context, job: JobRecord, task: FailedTask, text: str) -> Place:
    """Return where a task goes: nowhere, or with other constraints to a batch of their own."""
    if text == task.runtime_constraints:
        return Place(task.batch_id, task.shape_id, text)
    creator = Creator(task.creator_task_id, task.creator_attempt_id, task.creator_sequence)
    own = shapes.task_constraints(text)
    batch_id = creation.add_wanted(
        ctx, job, task.sequence, own, creator, task.id, BatchState.PUBLISHED
    )
    return Place(batch_id, int(ctx.tx.value("batch_shape", batch_id=batch_id)), text)


def _columns(place: Place) -> dict[str, Value]:
    return {"batch_id": place.batch_id, "runtime_constraints": place.runtime_constraints}


def _requeued(ctx: Context, job_id: int, task: FailedTask, place: Place) -> dict[str, Value]:
    """Return how a task waits that may start at once."""
    return {
        "task_id": task.id,
        "job_id": job_id,
        "sequence": task.sequence,
        "shape_id": place.shape_id,
        "not_before": ctx.now,
        "due": 1,
        "avoid": None,
        "avoid_until": None,
    }


def checked_factor(value: Any) -> float | None:
    """Return how many times the memory is to be; None: as it is.

    Raises:
        Invalid: it is no number above 1, up to `RAM_FACTOR_MAX`.
    """
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not 1 < value <= RAM_FACTOR_MAX:
        raise Invalid(f"ram_factor must be a number above 1, at most {RAM_FACTOR_MAX}")
    return float(value)
