"""Attempts of a job that comes from another server: over, and of nodes that are not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from jobtasks.core import moving
from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import task_id
from jobtasks.core.job_stream import AttemptLine, Node
from jobtasks.service.context import Caller, Context
from jobtasks.service.import_under_way import Import, hear, keep

NO_TOKEN = b""
"""In place of the hash of a token: nothing has it."""
Facts = dict[str, Any]


class Place(NamedTuple):
    """A task of which an attempt arrives."""

    id: int
    uuid: str
    shape_id: int


def add_attempts(
    ctx: Context, caller: Caller, arriving: Import, attempts: Sequence[AttemptLine]
) -> None:
    """Take the next attempts; their order is kept.

    Raises:
        Invalid: an attempt that cannot be, of no task that came, that came before, or of an
            unknown family.
        Unavailable: the import was given up.
    """
    hear(ctx, caller, arriving)
    for attempt in attempts:
        moving.check_attempt(attempt)
    places = _places(ctx, arriving, attempts)
    first_id = int(ctx.tx.value("attempt_last_id") or 0) + 1
    rows = [
        _attempt_row(ctx, arriving, attempt, attempt_id, places[attempt.qsequence])
        for attempt_id, attempt in enumerate(attempts, first_id)
    ]
    if ctx.tx.run_many("import_attempt_add", rows) != len(rows):
        raise Invalid("Two attempts of the stream are of one task and have one number.")
    _add_parts(ctx, arriving, list(zip(rows, attempts, strict=True)))


def _places(ctx: Context, arriving: Import, attempts: Sequence[AttemptLine]) -> Mapping[int, Place]:
    wanted = {attempt.qsequence: attempt for attempt in attempts}
    ids = [task_id(arriving.job.id, qsequence) for qsequence in wanted]
    found = {
        place.id: place
        for place in ctx.tx.all(Place, "import_places", task_ids=msgspec.json.encode(ids).decode())
    }
    places = {}
    for qsequence in wanted:
        place = found.get(task_id(arriving.job.id, qsequence))
        if place is None:
            raise Invalid(f"An attempt is of task {qsequence}, which did not come before it.")
        places[qsequence] = place
    for attempt in attempts:
        if places[attempt.qsequence].uuid != attempt.job_task_uuid:
            raise Invalid(f"Task {attempt.qsequence} is not {attempt.job_task_uuid}.")
    return places


def _attempt_row(
    ctx: Context, arriving: Import, attempt: AttemptLine, attempt_id: int, place: Place
) -> Facts:
    if attempt.family is not None and attempt.family not in arriving.families:
        raise Invalid(f"An attempt is of the family {attempt.family}, which did not come.")
    return {
        **msgspec.structs.asdict(attempt),
        "id": attempt_id,
        "task_id": place.id,
        "job_id": arriving.job.id,
        "node_id": _node(ctx, arriving, attempt.node),
        "shape_id": place.shape_id,
        "token_hash": NO_TOKEN,
        "counted": int(attempt.counted),
        "node_fault": int(attempt.node_fault),
        "family_id": arriving.families.get(attempt.family or ""),
        "seats": None,
    }


def _add_parts(ctx: Context, arriving: Import, stored: Sequence[tuple[Facts, AttemptLine]]) -> None:
    """Take what belongs to attempts: their stderr, further nodes, and that tasks know them."""
    tails, newest, failed, seats = [], [], [], []
    for row, attempt in stored:
        known = {"attempt_id": row["id"], "task_id": row["task_id"]}
        if attempt.stderr is not None:
            tails.append({"attempt_id": row["id"], "stderr": attempt.stderr})
        if attempt.is_newest:
            newest.append(known)
        if attempt.is_failed_log:
            failed.append(known)
        for seat in attempt.seats:
            node_id = _node(ctx, arriving, seat.node)
            seats.append({"attempt_id": row["id"], "node_id": node_id, "slot": seat.slot})
    ctx.tx.run_many("tail_put", tails)
    ctx.tx.run_many("import_seat_add", seats)
    for query, rows in (("import_task_newest", newest), ("import_task_failed", failed)):
        if ctx.tx.run_many(query, rows) != len(rows):
            raise Invalid("Two attempts of the stream are the newest of one task, or its failure.")


def _node(ctx: Context, arriving: Import, node: Node) -> int:
    """Return the id of a node; one that was never here is on record as one that is gone."""
    known = arriving.nodes.get(node.uuid)
    if known is None:
        found = ctx.tx.value("import_node", uuid=node.uuid)
        known = int(found) if found is not None else _add_node(ctx, node)
        keep(arriving.nodes, node.uuid, known)
    return known


def _add_node(ctx: Context, node: Node) -> int:
    return ctx.tx.add(
        "import_node_add",
        uuid=node.uuid,
        # No agent joins by it: the machine would be a new node here.
        lasting_id=f"elsewhere {node.uuid}",
        hostname=node.hostname,
        now=ctx.now,
    )
