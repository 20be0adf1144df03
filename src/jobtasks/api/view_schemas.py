"""JSON schemas of what sums up jobs and nodes (api/view_rendering.py)."""

from __future__ import annotations

from jobtasks.api.schemas import (
    COUNT,
    NULLABLE_COUNT,
    NULLABLE_TEXT,
    TEXT,
    Json,
    flat,
    items,
    query,
)
from jobtasks.service.timelines import COLUMNS_DEFAULT, COLUMNS_MAX

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
BRANCHES = flat(
    items={
        "type": "array",
        "items": flat(creator_sequence=NULLABLE_COUNT, sequence=COUNT, tasks=COUNT, creators=COUNT),
    },
    is_whole={"type": "boolean"},
)
GENERATIONS = items(
    sequence=COUNT,
    tasks=COUNT,
    states=_nullable(flat(waiting=COUNT, running=COUNT, complete=COUNT, failed=COUNT)),
)
CHILDREN = items(
    uuid=TEXT,
    sequence=COUNT,
    qsequence=COUNT,
    state=TEXT,
    attempts=COUNT,
    failed_count=COUNT,
    children=COUNT,
)
TREE_PARAMETERS = (
    query("task", TEXT, "UUID of a task of the job: what it created; the whole job otherwise."),
    query("sequence", {**COUNT, "maximum": 2**31 - 1}, "With task: its children there, by place."),
    query("after", {**COUNT, "maximum": 2**32 - 1}, "`qsequence` of the last child of a page."),
    query("limit", COUNT, "Children of a page."),
)
ROW = flat(node=NULLABLE_TEXT, hostname=TEXT, slot=NULLABLE_COUNT, nodes=COUNT)
BAR = flat(
    **{"row": COUNT, "from": TEXT, "until": NULLABLE_TEXT, "state": TEXT, "cause": NULLABLE_TEXT},
    sequence=COUNT,
    qsequence=COUNT,
    number=COUNT,
    job_task_uuid=TEXT,
    slot=COUNT,
)
CELL = flat(row=COUNT, column=COUNT, busy={"type": "number"}, ended=COUNT, failed=COUNT)
TIMELINE = flat(
    **{"from": NULLABLE_TEXT, "until": NULLABLE_TEXT},
    first_at=NULLABLE_TEXT,
    last_at=NULLABLE_TEXT,
    now=TEXT,
    is_behind={"type": "boolean"},
    attempts_read=COUNT,
    rows={"type": "array", "items": ROW},
    bars={"type": ["array", "null"], "items": BAR},
    cells={"type": ["array", "null"], "items": CELL},
    column_seconds=NULLABLE_NUMBER,
)
TIMELINE_PARAMETERS = (
    query("from", TEXT, "A time; the beginning otherwise."),
    query("until", TEXT, "A time; the end, or now, otherwise."),
    query(
        "columns",
        {**COUNT, "maximum": COLUMNS_MAX, "default": COLUMNS_DEFAULT},
        "Columns of cells.",
    ),
)
USAGE = items(at=TEXT, slots=COUNT, slots_taken=COUNT, memory_kib=COUNT, memory_taken_kib=COUNT)
VIEWS: dict[str, tuple[Json, tuple[Json, ...]]] = {
    "/jobs/{uuid}/families": (FAMILIES, ()),
    "/jobs/{uuid}/tree": ({"anyOf": [BRANCHES, GENERATIONS, CHILDREN]}, TREE_PARAMETERS),
    "/jobs/{uuid}/timeline": (TIMELINE, TIMELINE_PARAMETERS),
    "/nodes/{uuid}/usage": (USAGE, ()),
}
"""What is answered, and the parameters of the call, by address."""
