"""What sums up jobs and nodes, as it looks on the wire."""

from __future__ import annotations

from typing import Any

from jobtasks.core.timestamps import render_time
from jobtasks.store.records import FamilyRecord


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
