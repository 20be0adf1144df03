"""JSON schemas of what sums up jobs and nodes (api/view_rendering.py)."""

from __future__ import annotations

from jobtasks.api.schemas import COUNT, NULLABLE_COUNT, NULLABLE_TEXT, TEXT, Json, flat, items

NULLABLE_NUMBER: Json = {"type": ["number", "null"]}


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


FAMILIES = items(
    family=TEXT,
    cause=NULLABLE_TEXT,
    exit_code=NULLABLE_COUNT,
    signal=NULLABLE_COUNT,
    message=TEXT,
    attempts=COUNT,
    tasks=COUNT,
    first_at=TEXT,
    last_at=TEXT,
    sample=_nullable(
        flat(
            job_task_uuid=TEXT,
            sequence=COUNT,
            qsequence=COUNT,
            number=COUNT,
            reason=NULLABLE_TEXT,
            message=TEXT,
            node=NULLABLE_TEXT,
            memory_kib=COUNT,
            peak_memory_kib=NULLABLE_COUNT,
            run_seconds=NULLABLE_NUMBER,
            log_bytes=COUNT,
        )
    ),
)
VIEWS: dict[str, Json] = {
    "/jobs/{uuid}/families": FAMILIES,
}
"""Answers of calls that take no parameters, by address."""
