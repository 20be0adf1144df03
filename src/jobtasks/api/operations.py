"""What a route does not say of itself: parameters, body and answer of each operation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from starlette.routing import Route

from jobtasks.api import schemas
from jobtasks.api.answers import JSON, MSGPACK
from jobtasks.api.collection import BASE
from jobtasks.api.edge import CALLS_OF_PEOPLE
from jobtasks.api.schemas import COUNT, NULLABLE_COUNT, NULLABLE_TEXT, TEXT, query
from jobtasks.api.view_schemas import VIEWS
from jobtasks.core.families import RAM_FACTOR_MAX
from jobtasks.core.filters import LIMIT_DEFAULT
from jobtasks.core.resources import RESOURCES, Resource

Json = dict[str, Any]
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
PLAIN = "text/plain"
EVENT_STREAM = "text/event-stream"
CHANGING = ("POST", "PUT", "PATCH", "DELETE")
BYTES = "application/octet-stream"
OBJECT: Json = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Details:
    """One operation."""

    answer: Json = field(default_factory=lambda: OBJECT)
    media: str = JSON
    """Of the answer."""
    parameters: tuple[Json, ...] = ()
    body: Json | None = None
    example: Json | None = None
    """A body."""
    media_in: str = JSON
    """Of the body."""
    is_record: bool = False
    """Whether the body is a record, which may come as a form."""
    is_public: bool = False
    """Whether it needs no token."""
    statuses: Mapping[int, str] = field(default_factory=dict)
    """Statuses that no other operation has."""


def details(route: Route, method: str, resource: Resource | None) -> Details:
    """Return what is known of one operation; of one that is not known, that it is an object."""
    found = _known(route, method, resource)
    if method in CHANGING and route.path.startswith(CALLS_OF_PEOPLE):
        return replace(found, parameters=(*found.parameters, DRY_RUN))
    return found


def _known(route: Route, method: str, resource: Resource | None) -> Details:
    known = SPECIAL.get(f"{method} {route.path}")
    if known is not None:
        return known
    general = GENERAL.get(route.endpoint.__name__)
    if resource is not None and general is not None:
        return general(resource)
    return Details()


def _header(name: str, text: str) -> Json:
    return {"name": name, "in": "header", "required": False, "schema": TEXT, "description": text}


def _json_text(kind: str) -> Json:
    """Return the schema of text that is JSON of a kind."""
    return {**TEXT, "contentMediaType": JSON, "contentSchema": {"type": kind}}


DISCOVERY = "/discovery/v1/apis/arvados/v1/rest"
SELECT = query("select", _json_text("array"), "A JSON list: only these attributes, and `kind`.")
CLUSTER = query("cluster_id", TEXT, "Ignored: there is one cluster.")
UNIQUE = query("ensure_unique_name", {"type": "boolean"}, "Ignored: nothing here has a name.")
LIST = (
    query("limit", {**COUNT, "default": LIMIT_DEFAULT}, "Items of a page."),
    query("offset", {**COUNT, "maximum": 2**63 - 1, "default": 0}, "Items before the page."),
    query(
        "filters",
        _json_text("array"),
        "A JSON list of [attribute, operator, operand]; all must hold.",
    ),
    query(
        "where",
        _json_text("object"),
        "The old form of filters: a JSON object of attributes and what they must be.",
    ),
    query(
        "order",
        _json_text("array"),
        "Attributes, each with asc or desc; a JSON list or one text.",
    ),
    SELECT,
    query(
        "count",
        {"enum": ["exact", "none"], "default": "exact"},
        "Whether to say how many there are in all.",
    ),
    query("distinct", {"type": "boolean", "default": False}, "Whether equal rows are shown once."),
    CLUSTER,
)
CASCADE = query("cascade", {"type": "boolean"}, "Whether to cancel what `components` names, too.")
DRY_RUN = query("dry_run", {"type": "boolean"}, "Say what would happen; change nothing.")
"""Every call that changes something takes it."""
REUSE = (
    query("find_or_create", {"type": "boolean"}, "Whether a job that does the same will do."),
    query("filters", _json_text("array"), "With find_or_create: which jobs will do."),
    query("minimum_script_version", TEXT, "With find_or_create: a version that will do, too."),
    query(
        "exclude_script_versions",
        _json_text("array"),
        "With find_or_create: versions that will not do.",
    ),
)
KEY = _header("Idempotency-Key", "Repeated with the same body, a create makes one thing.")
CREATE = (SELECT, UNIQUE, CLUSTER, KEY)
KNOWN = _header("If-None-Match", "`ETag` of an answer that the client has.")
UNCHANGED = {304: "The client has it already."}


EXAMPLES: Mapping[str, Json] = {
    "jobs": {"command": ["echo", "hello"], "priority": 1},
    "job_tasks": {"sequence": 1, "parameters": {"input": "a"}},
    "users": {"user": {"username": "ada", "email": "ada@example.com"}},
    "api_client_authorizations": {"label": "dashboard", "scopes": ["GET /"]},
    "logs": {"event_type": "note", "summary": "looked at by hand", "properties": {"text": "fine"}},
}
"""A body of a create, by the name of the resource."""


def _index(resource: Resource) -> Details:
    return Details(schemas.reference(resource, "List"), parameters=LIST)


def _show(resource: Resource) -> Details:
    return Details(schemas.reference(resource), parameters=(SELECT,))


def _get(resource: Resource) -> Details:
    return replace(_show(resource), parameters=(SELECT, KNOWN), statuses=UNCHANGED)


def _create(resource: Resource) -> Details:
    body = schemas.given(resource, create=True)
    answer = schemas.reference(resource)
    return Details(
        answer,
        parameters=CREATE,
        body=body,
        example=EXAMPLES.get(resource.name),
        is_record=True,
    )


def _update(resource: Resource) -> Details:
    body = schemas.given(resource, create=False)
    answer = schemas.reference(resource)
    return Details(answer, parameters=(SELECT,), body=body, is_record=True)


GENERAL: Mapping[str, Callable[[Resource], Details]] = {
    "index": _index,
    "create": _create,
    "show": _get,
    "update": _update,
    "delete": _show,
    "current": _get,
}
"""By the name of a collection's handler."""

EVENT: Json = {
    "type": "object",
    "description": "One event of the stream; data is a record of logs, as JSON text.",
    "properties": {"event": TEXT, "id": TEXT, "data": TEXT},
}
EVENTS = (
    query("filters", _json_text("array"), "As of a list of logs; all must hold."),
    query("cursor", TEXT, "The `id` after which to begin; what happens next otherwise."),
    query("last_log_id", {"type": "integer", "minimum": 0}, "Another name of `cursor`."),
    query("wait", {"type": "number", "minimum": 0}, "Seconds after which the stream ends."),
    _header("Last-Event-ID", "As `cursor`, sent by readers that come back."),
)
JOB = schemas.reference(RESOURCES["jobs"])
TASK = schemas.reference(RESOURCES["job_tasks"])
CREATED: Json = {
    "type": "object",
    "properties": {
        "count": COUNT,
        "first_qsequence": COUNT,
        "uuids": {"type": "array", "items": TEXT},
    },
    "required": ["count", "first_qsequence", "uuids"],
    "additionalProperties": False,
}
ATTEMPTS = schemas.items(
    number=COUNT,
    node=NULLABLE_TEXT,
    other_nodes={"type": "array", "items": TEXT},
    slot=COUNT,
    state=TEXT,
    assigned_at=TEXT,
    started_at=NULLABLE_TEXT,
    finished_at=NULLABLE_TEXT,
    exit_code=NULLABLE_COUNT,
    signal=NULLABLE_COUNT,
    cause=NULLABLE_TEXT,
    counted={"type": "boolean"},
    node_fault={"type": "boolean"},
    memory_kib=COUNT,
    peak_memory_kib=NULLABLE_COUNT,
    run_seconds={"type": ["number", "null"]},
    reason=NULLABLE_TEXT,
    log_bytes=COUNT,
    log_dropped_bytes=COUNT,
    log_removed_at=NULLABLE_TEXT,
)
NODE = schemas.reference(RESOURCES["nodes"])
OCCUPYING = schemas.items(
    slot=COUNT,
    state=TEXT,
    job_uuid=TEXT,
    job_task_uuid=TEXT,
    owner_uuid=TEXT,
    sequence=COUNT,
    qsequence=COUNT,
    number=COUNT,
    memory_kib=COUNT,
    assigned_at=TEXT,
    started_at=NULLABLE_TEXT,
)
REASONS: Json = {
    "type": "object",
    "properties": {"reasons": {"type": "array", "items": OBJECT}},
    "required": ["reasons"],
}
SUBSET: Json = {
    "type": "object",
    "properties": {
        "job_tasks": {"type": ["array", "null"], "items": TEXT},
        "runtime_constraints": {"type": ["object", "null"]},
        "family": NULLABLE_TEXT,
        "ram_factor": {
            "type": ["number", "null"],
            "exclusiveMinimum": 1,
            "maximum": RAM_FACTOR_MAX,
        },
    },
}
SIZES = schemas.flat(
    jobs=COUNT,
    tasks=COUNT,
    database_bytes=COUNT,
    database_free_bytes=COUNT,
    log_files=COUNT,
    log_bytes=COUNT,
    packs=COUNT,
    pack_bytes=COUNT,
    free_bytes=COUNT,
)
ENGINE = schemas.flat(
    engine=TEXT,
    heard_at=NULLABLE_TEXT,
    silence=NULLABLE_TEXT,
    silent_since=NULLABLE_TEXT,
    requests=schemas.flat(wanted=COUNT, unknown=COUNT, asked=COUNT, granted=COUNT),
    failures={
        "type": "array",
        "items": schemas.flat(reason=TEXT, requests=COUNT, last_at=TEXT),
    },
)
AGE: Json = {"type": ["number", "null"], "minimum": 0}
COLLECT: Json = {
    "type": "object",
    "properties": {
        "dry_run": {"type": "boolean"},
        "jobs_older_than_seconds": AGE,
        "logs_older_than_seconds": AGE,
        "shrink": {"type": "boolean"},
    },
    "additionalProperties": False,
}
COLLECTED = schemas.flat(
    dry_run={"type": "boolean"},
    removed=schemas.flat(
        jobs=COUNT, logs=COUNT, log_files=COUNT, log_bytes=COUNT, packs=COUNT, tokens=COUNT
    ),
    more={"type": "boolean"},
    before=SIZES,
    after=SIZES,
)
IMPORTED = schemas.flat(
    uuid=TEXT,
    state=TEXT,
    owner_uuid=TEXT,
    owner={"enum": ["uuid", "email", "importer"]},
    resumed={"type": "boolean"},
    tasks=COUNT,
    attempts=COUNT,
    logs=COUNT,
    logs_incomplete=COUNT,
    scripts={"enum": ["came", "here", "missing", None]},
    left={"type": "array", "items": TEXT},
)
RESUME = query("resume", {"type": "boolean"}, "Whether to queue the job at once, as `retry` does.")
LOG = (
    query("attempt", {"type": "integer", "minimum": 1}, "Its number; the newest one otherwise."),
    query("stream", {"enum": ["stdout", "stderr"]}, "One stream; both otherwise."),
    query("offset", COUNT, "Bytes to leave out."),
    query("limit", COUNT, "Bytes to send."),
    _header("Range", "bytes=FIRST-LAST"),
)
LOG_STATUSES = {206: "The part that Range names.", 416: "The range lies outside of the log."}
QSEQUENCES = query(
    "qsequences", TEXT, "A JSON list of numbers of tasks; the first of the job otherwise."
)
WHICH = query("attempts", {"enum": ["newest", "all"]}, "Of each task; the newest otherwise.")
PLACES = query(
    "places", TEXT, "A JSON list of [qsequence, number, file_bytes]: what follows in these logs."
)
AFTER = query("after", {**COUNT, "maximum": 2**63 - 1}, "`after` of an earlier answer.")
JOB_ATTEMPTS = schemas.items(
    job_task_uuid=TEXT,
    sequence=COUNT,
    qsequence=COUNT,
    number=COUNT,
    state=TEXT,
    node=NULLABLE_TEXT,
    other_nodes={"type": "array", "items": TEXT},
    slot=COUNT,
    assigned_at=TEXT,
    started_at=NULLABLE_TEXT,
    finished_at=NULLABLE_TEXT,
    exit_code=NULLABLE_COUNT,
    signal=NULLABLE_COUNT,
    cause=NULLABLE_TEXT,
    run_seconds={"type": ["number", "null"]},
    log_bytes=COUNT,
)
JOB_ATTEMPTS["properties"]["after"] = COUNT
JOB_ATTEMPTS["required"].append("after")
WAIT = query("wait", {"type": "number", "minimum": 0}, "Seconds to wait for the job's end.")
_MESSAGE = Details(answer={}, media=MSGPACK, body={}, media_in=MSGPACK)


def _steered(**properties: Json) -> Details:
    return Details(
        NODE, parameters=(SELECT,), body={"type": "object", "properties": properties}, example={}
    )


SPECIAL: Mapping[str, Details] = {
    **{
        f"GET {BASE}{path}": Details(answer, parameters=given)
        for path, (answer, given) in VIEWS.items()
    },
    f"GET {BASE}/jobs/{{uuid}}": Details(JOB, parameters=(WAIT, SELECT, KNOWN), statuses=UNCHANGED),
    f"POST {BASE}/jobs": Details(
        JOB,
        parameters=(*REUSE, *CREATE),
        body=schemas.given(RESOURCES["jobs"], create=True),
        example=EXAMPLES["jobs"],
        is_record=True,
    ),
    f"GET {BASE}/jobs/queue": Details(
        schemas.reference(RESOURCES["jobs"], "List"), parameters=LIST
    ),
    f"GET {BASE}/jobs/queue_size": Details(
        {"type": "object", "properties": {"queue_size": COUNT}, "required": ["queue_size"]}
    ),
    f"POST {BASE}/jobs/{{uuid}}/lock": Details(JOB, parameters=(SELECT,)),
    f"POST {BASE}/jobs/{{uuid}}/cancel": Details(
        JOB,
        parameters=(CASCADE, SELECT),
        body={
            "type": "object",
            "properties": {"reason": NULLABLE_TEXT, "cascade": {"type": "boolean"}},
        },
    ),
    f"POST {BASE}/jobs/{{uuid}}/retry": Details(JOB, parameters=(SELECT,), body=SUBSET),
    f"GET {BASE}/jobs/{{uuid}}/output": Details(TEXT, PLAIN),
    f"GET {BASE}/jobs/{{uuid}}/levels": Details(
        schemas.items(sequence=COUNT, todo=COUNT, running=COUNT, done=COUNT, failed=COUNT)
    ),
    f"GET {BASE}/jobs/{{uuid}}/explain": Details(REASONS),
    f"GET {BASE}/jobs/{{uuid}}/export": Details(TEXT, BYTES),
    f"POST {BASE}/jobs/import": Details(IMPORTED, parameters=(RESUME,), body={}, media_in=BYTES),
    f"PUT {BASE}/jobs/{{uuid}}/attachment": Details(
        {
            "type": "object",
            "properties": {"attachment_bytes": COUNT},
            "required": ["attachment_bytes"],
        },
        body={},
        media_in=BYTES,
    ),
    f"GET {BASE}/jobs/{{uuid}}/attachment": Details(TEXT, BYTES),
    f"GET {BASE}/jobs/{{uuid}}/logs": Details(TEXT, BYTES, parameters=(QSEQUENCES, WHICH, PLACES)),
    f"GET {BASE}/jobs/{{uuid}}/attempts": Details(
        JOB_ATTEMPTS, parameters=(AFTER, query("limit", COUNT, "Attempts of a page."))
    ),
    f"POST {BASE}/job_tasks": Details(
        {"anyOf": [TASK, CREATED]},
        parameters=CREATE,
        body={
            "anyOf": [
                schemas.given(RESOURCES["job_tasks"], create=True),
                schemas.many(RESOURCES["job_tasks"]),
            ]
        },
        example=EXAMPLES["job_tasks"],
        is_record=True,
    ),
    f"GET {BASE}/job_tasks/{{uuid}}/attempts": Details(ATTEMPTS),
    f"GET {BASE}/job_tasks/{{uuid}}/explain": Details(REASONS),
    f"GET {BASE}/job_tasks/{{uuid}}/log": Details(
        TEXT, PLAIN, parameters=LOG, statuses=LOG_STATUSES
    ),
    f"GET {BASE}/events": Details(EVENT, EVENT_STREAM, parameters=EVENTS),
    f"GET {BASE}/nodes/{{uuid}}/attempts": Details(OCCUPYING),
    f"POST {BASE}/nodes/{{uuid}}/hold": _steered(
        seconds={"type": ["number", "null"], "exclusiveMinimum": 0}, reason=NULLABLE_TEXT
    ),
    f"POST {BASE}/nodes/{{uuid}}/release": _steered(),
    f"POST {BASE}/nodes/{{uuid}}/drain": _steered(reason=NULLABLE_TEXT),
    f"GET {BASE}/jobs/{{uuid}}/sizes": Details(
        schemas.flat(
            tasks=COUNT,
            record_bytes=NULLABLE_COUNT,
            log_files=COUNT,
            log_bytes=COUNT,
            attachment_bytes=COUNT,
            logs_removed_at=NULLABLE_TEXT,
        )
    ),
    f"GET {BASE}/sys/sizes": Details(SIZES),
    f"GET {BASE}/sys/engine": Details(ENGINE),
    f"POST {BASE}/sys/gc": Details(
        COLLECTED, body=COLLECT, example={"dry_run": True, "jobs_older_than_seconds": 2592000}
    ),
    "POST /agent/v1/join": _MESSAGE,
    "POST /agent/v1/sync": _MESSAGE,
    "POST /agent/v1/logs": _MESSAGE,
    "GET /agent/v1/scripts/{hash}": Details(TEXT, BYTES),
    "GET /healthz": Details({"const": {"health": "OK"}}, is_public=True),
    "GET /metrics": Details(TEXT, PLAIN),
    "GET /openapi.json": Details(is_public=True),
    f"GET {DISCOVERY}": Details(is_public=True),
    f"POST {DISCOVERY}": Details(is_public=True),
}
"""By method and address."""
