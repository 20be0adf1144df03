"""What sums up jobs and nodes, as it looks on the wire."""

from __future__ import annotations

from typing import Any

from jobtasks.core.states import TaskState
from jobtasks.core.timestamps import render_time
from jobtasks.service.timelines import Answer, Bar
from jobtasks.service.tree import NO_CREATOR, Branches, Generation
from jobtasks.store.records import ChildRecord, FamilyRecord, NodeUseRecord

MICROSECONDS = 1_000_000


def render_family(family: FamilyRecord) -> dict[str, Any]:
    """Return how many attempts failed in one way, and the newest of them as a sample."""
    return {
        "family": family.name,
        "cause": family.cause,
        "exit_code": family.exit_code,
        "signal": family.signal,
        "message": family.message,
        "attempts": family.attempts,
        "tasks": family.tasks,
        "first_at": render_time(family.first_at),
        "last_at": render_time(family.last_at),
        "sample": _sample(family),
    }


def _sample(family: FamilyRecord) -> dict[str, Any] | None:
    """Return the newest attempt of a family; None when its task was deleted."""
    if family.task_uuid is None:
        return None
    return {
        "job_task_uuid": family.task_uuid,
        "sequence": family.sequence,
        "qsequence": family.qsequence,
        "number": family.number,
        "reason": family.reason,
        "message": family.sample_message,
        "node": family.node,
        "memory_kib": family.memory_kib,
        "peak_memory_kib": family.peak_memory_kib,
        "run_seconds": family.run_seconds,
        "log_bytes": family.log_bytes,
    }


def render_branches(branches: Branches) -> dict[str, Any]:
    """Return what the tasks of each sequence created."""
    items = [
        {**one._asdict(), "creator_sequence": None}
        if one.creator_sequence == NO_CREATOR
        else one._asdict()
        for one in branches.items
    ]
    return {"items": items, "is_whole": branches.is_whole}


def render_generation(generation: Generation) -> dict[str, Any]:
    """Return the children of a task that are in one sequence."""
    return generation._asdict()


def render_child(child: ChildRecord) -> dict[str, Any]:
    """Return a task as one of those that another created."""
    return {
        "uuid": child.uuid,
        "sequence": child.sequence,
        "qsequence": child.qsequence,
        "state": TaskState(child.state).word,
        "attempts": child.attempts,
        "failed_count": child.failed_count,
        "children": child.children,
    }


def render_timeline(answer: Answer) -> dict[str, Any]:
    """Return a part of a job's timeline."""
    column_us = answer.column_us
    return {
        "from": _time(answer.since),
        "until": _time(answer.until),
        "first_at": _time(answer.first_at),
        "last_at": _time(answer.last_at),
        "now": render_time(answer.now),
        "is_behind": answer.is_behind,
        "attempts_read": answer.attempts_read,
        "rows": [row._asdict() for row in answer.rows],
        "bars": None if answer.bars is None else [_render_bar(bar) for bar in answer.bars],
        "cells": answer.cells,
        "column_seconds": None if column_us is None else column_us / MICROSECONDS,
    }


def _render_bar(bar: Bar) -> dict[str, Any]:
    return {
        "row": bar.row,
        "from": render_time(bar.begins_at),
        "until": _time(bar.ends_at),
        "state": bar.state,
        "cause": bar.cause,
        "sequence": bar.sequence,
        "qsequence": bar.qsequence,
        "number": bar.number,
        "job_task_uuid": bar.task_uuid,
        "slot": bar.slot,
    }


def render_node_use(row: NodeUseRecord) -> dict[str, Any]:
    """Return how much of a node was taken from a time on."""
    return {
        "at": render_time(row.at),
        "slots": row.slots,
        "slots_taken": row.slots_taken,
        "memory_kib": row.memory_kib,
        "memory_taken_kib": row.memory_taken_kib,
    }


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else render_time(microseconds)
