"""Shapes: each distinct set of effective constraints has one row, shared by all jobs."""

from __future__ import annotations

from functools import lru_cache

import msgspec

from jobtasks.core.constraints import Constraints, Needs, needs_of, parse_job, parse_task
from jobtasks.core.errors import Invalid
from jobtasks.service.context import Context


@lru_cache(maxsize=4096)
def decode_needs(text: str) -> Needs:
    """Return the needs that a shape's text stands for."""
    return msgspec.json.decode(text, type=Needs)


@lru_cache(maxsize=4096)
def job_constraints(text: str) -> Constraints:
    """Return the constraints of a job from its stored `runtime_constraints`."""
    return parse_job(msgspec.json.decode(text))


@lru_cache(maxsize=4096)
def task_constraints(text: str) -> Constraints:
    """Return the constraints of a task from its `runtime_constraints` as JSON text."""
    return parse_task(msgspec.json.decode(text))


def encode(value: msgspec.Struct) -> str:
    """Return the one text of constraints or needs: equal values, equal text."""
    return msgspec.json.encode(value).decode()


def shape_of(ctx: Context, needs: Needs) -> int:
    """Return the id of a shape, made when nobody had it before."""
    text = encode(needs)
    found = ctx.tx.value("shape_id", needs=text)
    return ctx.tx.add("shape_add", needs=text) if found is None else int(found)


def shape_for_job(ctx: Context, job_id: int, job: Constraints, task: Constraints) -> int:
    """Return the shape of a job's tasks with these constraints; count it when it is new (R40).

    Raises:
        Invalid: no node could ever take them, or the job has too many different ones.
    """
    needs = needs_of(job, task)
    if needs.max_nodes and needs.nodes > needs.max_nodes:
        raise Invalid("Runtime constraints: min_nodes of the task is above max_nodes of its job")
    shape_id = shape_of(ctx, needs)
    if ctx.tx.value("batch_has_shape", job_id=job_id, shape_id=shape_id) is None:
        limit = ctx.settings.shapes_per_job_max
        if not ctx.tx.run("tally_shape", job_id=job_id, shapes_max=limit):
            raise Invalid(f"The tasks of one job may have at most {limit} distinct constraints.")
    return shape_id


def needs_of_job(runtime_constraints: str) -> Needs:
    """Return the needs of a job's task that has no constraints of its own, as the seed has none."""
    return needs_of(job_constraints(runtime_constraints), Constraints())


def decode_command(text: str | None) -> list[str] | None:
    """Return the words of a stored command."""
    return None if text is None else msgspec.json.decode(text, type=list[str])
