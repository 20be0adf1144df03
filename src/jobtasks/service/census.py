"""How many of what there are, read from counters and ends of indexes, never from task rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from jobtasks.core.errors import Forbidden
from jobtasks.core.states import JobState, NodeState
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import UserRecord

MICROSECONDS = 1_000_000


class StateCount(NamedTuple):
    """Jobs in one state."""

    state: str
    jobs: int


class NodeCount(NamedTuple):
    """Nodes in one state."""

    state: str
    nodes: int


class Totals(NamedTuple):
    """Sums over the counters of all jobs."""

    todo: int
    running: int
    done: int
    failed: int
    live: int


class Size(NamedTuple):
    """The live nodes together."""

    nodes: int
    slots: int


@dataclass(frozen=True, slots=True)
class Census:
    """What there is at one moment."""

    jobs: dict[str, int]
    """By state."""
    tasks: dict[str, int]
    """By state, in the words of attribute `state`."""
    nodes: dict[str, int]
    """By state; also those that are gone and were not deleted."""
    attempts_live: int
    nodes_live: int
    slots_live: int
    notices_waiting: int
    """Notifications that were not delivered yet."""
    oldest_job_seconds: float
    """Since the oldest queued job was created; 0 when none is."""
    oldest_task_seconds: float
    """The same of tasks that could start were a slot free."""


def take(ctx: Context, caller: Caller) -> Census:
    """Return what there is.

    Raises:
        Forbidden: the caller is no administrator: the numbers are about everyone's work.
    """
    if not caller.is_admin:
        raise Forbidden("Only an administrator's token reads the metrics.")
    counted = {row.state: row.jobs for row in ctx.tx.all(StateCount, "census_jobs")}
    totals = ctx.tx.one(Totals, "census_tasks") or Totals(0, 0, 0, 0, 0)
    size = ctx.tx.one(Size, "census_nodes") or Size(0, 0)
    nodes = {row.state: row.nodes for row in ctx.tx.all(NodeCount, "census_node_states")}
    return Census(
        jobs={state.value: counted.get(state.value, 0) for state in JobState},
        tasks={
            "waiting": totals.todo,
            "running": totals.running,
            "complete": totals.done,
            "failed": totals.failed,
        },
        nodes={state.value: nodes.get(state.value, 0) for state in NodeState},
        attempts_live=totals.live,
        nodes_live=size.nodes,
        slots_live=size.slots,
        notices_waiting=int(ctx.tx.value("notices_waiting")),
        oldest_job_seconds=_age(ctx, "census_oldest_job"),
        oldest_task_seconds=_age(ctx, "census_oldest_task"),
    )


def _age(ctx: Context, query: str) -> float:
    created_at = ctx.tx.value(query)
    return 0.0 if created_at is None else max(0.0, (ctx.now - int(created_at)) / MICROSECONDS)


def jobs_by_state(ctx: Context, caller: Caller) -> dict[str, int]:
    """Return how many jobs that the caller may see are in each state."""
    if caller.is_admin:
        rows = ctx.tx.all(StateCount, "census_jobs")
    else:
        rows = ctx.tx.all(StateCount, "census_jobs_of_user", user_uuid=caller.user_uuid)
    counted = {row.state: row.jobs for row in rows}
    return {state.value: counted.get(state.value, 0) for state in JobState}


def names_of(ctx: Context, user_uuids: Iterable[str]) -> dict[str, str]:
    """Return what users are called, by UUID."""
    found = (ctx.tx.one(UserRecord, "user_by_uuid", uuid=uuid) for uuid in user_uuids)
    return {user.uuid: user.username for user in found if user is not None}
