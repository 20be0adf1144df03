"""Records as they look on the wire (R41, R42); JSON kept as text goes out as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from jobtasks.core.filters import KINDS
from jobtasks.core.identifiers import base36, is_uuid
from jobtasks.core.resources import RESOURCES, Resource
from jobtasks.core.states import AttemptState, JobState, TaskState, job_flags
from jobtasks.core.timestamps import render_time
from jobtasks.service.changes import tasks_summary
from jobtasks.service.listing import Page
from jobtasks.service.log_space import Space
from jobtasks.service.sizes import JobSize
from jobtasks.store.records import (
    AttemptRecord,
    JobAttemptRecord,
    JobRecord,
    LevelRecord,
    LogRecord,
    NodeRecord,
    OccupyingRecord,
    TaskRecord,
    TokenRecord,
    UserRecord,
    flag,
)

R = TypeVar("R", JobRecord, TaskRecord, UserRecord, TokenRecord, NodeRecord, LogRecord)
JOB_KIND = RESOURCES["jobs"].kind
TASK_KIND = RESOURCES["job_tasks"].kind
USER_KIND = RESOURCES["users"].kind
TOKEN_KIND = RESOURCES["api_client_authorizations"].kind
NODE_KIND = RESOURCES["nodes"].kind
LOG_KIND = RESOURCES["logs"].kind
SLURM_STATES = {"busy": "alloc", "idle": "idle", "down": "down"}
"""What Arvados' nodes tell of themselves in `info`, by attribute `crunch_worker_state`."""
TASK_WORDS = tuple(state.word for state in TaskState)
MICROSECONDS = 1_000_000


def etag(record: tuple[Any, ...]) -> str:
    """Return 25 digits that change whenever the record does."""
    digest = hashlib.md5(repr(record).encode("utf-8", "replace"), usedforsecurity=False).digest()
    return base36(int.from_bytes(digest, "big"), 25)


def _time(microseconds: int | None) -> str | None:
    return None if microseconds is None else render_time(microseconds)


def _json(text: str | None) -> msgspec.Raw | None:
    return None if text is None else msgspec.Raw(text.encode())


def render_task(task: TaskRecord) -> dict[str, Any]:
    """Return a task's attributes, in the order of the resource table."""
    failed_at = None if task.failed_at is None else task.failed_at / MICROSECONDS
    return {
        "href": f"/job_tasks/{task.uuid}",
        "kind": TASK_KIND,
        "etag": etag(task),
        "uuid": task.uuid,
        "owner_uuid": task.owner_uuid,
        "created_at": render_time(task.created_at),
        "modified_by_client_uuid": task.modified_by_client_uuid,
        "modified_by_user_uuid": task.modified_by_user_uuid,
        "modified_at": render_time(task.modified_at),
        "job_uuid": task.job_uuid,
        "created_by_job_task_uuid": task.created_by_job_task_uuid,
        "sequence": task.sequence,
        "qsequence": task.qsequence,
        "parameters": _json(task.parameters),
        "output": task.output,
        "progress": task.progress,
        "success": flag(task.success),
        "started_at": _time(task.started_at),
        "finished_at": _time(task.finished_at),
        "runtime_constraints": _json(task.runtime_constraints),
        "command": _json(task.command),
        "state": TASK_WORDS[task.state],
        "attempts": task.attempts,
        "failed_count": task.failed_count,
        "failed_at": failed_at,
        "failed_log": task.failed_log if task.failed_count else None,
        "log": task.log,
    }


def render_job(job: JobRecord) -> dict[str, Any]:
    """Return a job's attributes, in the order of the resource table."""
    state = JobState(job.state)
    running, success = job_flags(state)
    return {
        "href": f"/jobs/{job.uuid}",
        "kind": JOB_KIND,
        "etag": etag(job),
        "uuid": job.uuid,
        "owner_uuid": job.owner_uuid,
        "created_at": render_time(job.created_at),
        "modified_by_client_uuid": job.modified_by_client_uuid,
        "modified_by_user_uuid": job.modified_by_user_uuid,
        "modified_at": render_time(job.modified_at),
        "submit_id": job.submit_id,
        "priority": job.priority,
        "script": job.script,
        "script_parameters": _json(job.script_parameters),
        "script_version": job.script_version,
        "cancelled_at": _time(job.cancelled_at),
        "cancelled_by_client_uuid": job.cancelled_by_client_uuid,
        "cancelled_by_user_uuid": job.cancelled_by_user_uuid,
        "started_at": _time(job.started_at),
        "finished_at": _time(job.finished_at),
        "output": job.output,
        "log": job.log,
        "success": success,
        "running": running,
        "state": job.state,
        "is_locked_by_uuid": job.is_locked_by_uuid,
        "runtime_constraints": _json(job.runtime_constraints),
        "tasks_summary": tasks_summary(job),
        "nondeterministic": flag(job.nondeterministic),
        "repository": job.repository,
        "supplied_script_version": job.supplied_script_version,
        "arvados_sdk_version": job.arvados_sdk_version,
        "docker_image_locator": job.docker_image_locator,
        "queue_position": 0 if state is JobState.QUEUED else None,
        "node_uuids": _json(job.node_uuids) or [],
        "description": job.description,
        "components": _json(job.components),
        "command": _json(job.command),
        "output_truncated": bool(job.output_truncated),
        "logs_removed_at": _time(job.logs_removed_at),
        "script_hash": job.script_hash,
    }


def render_job_size(size: JobSize, logs: Space, attachment_bytes: int) -> dict[str, Any]:
    """Return how much room a job takes."""
    return {
        "tasks": size.tasks,
        "record_bytes": size.record_bytes,
        "log_files": logs.files,
        "log_bytes": logs.bytes,
        "attachment_bytes": attachment_bytes,
        "logs_removed_at": _time(size.job.logs_removed_at),
    }


def render_attempt(attempt: AttemptRecord) -> dict[str, Any]:
    """Return one attempt: where it ran, when, and how it ended (R13)."""
    return {
        "number": attempt.number,
        "node": attempt.node,
        "other_nodes": _json(attempt.other_nodes),
        "slot": attempt.slot,
        "state": AttemptState(attempt.state).word,
        "assigned_at": render_time(attempt.assigned_at),
        "started_at": _time(attempt.started_at),
        "finished_at": _time(attempt.ended_at),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "cause": attempt.cause,
        "counted": bool(attempt.counted),
        "node_fault": bool(attempt.node_fault),
        "memory_kib": attempt.memory_kib,
        "peak_memory_kib": attempt.peak_memory_kib,
        "run_seconds": attempt.run_seconds,
        "reason": attempt.reason,
        "log_bytes": attempt.log_bytes,
        "log_dropped_bytes": attempt.log_dropped_bytes,
        "log_removed_at": _time(attempt.log_removed_at),
    }


def render_user(user: UserRecord) -> dict[str, Any]:
    """Return a user's attributes, in the order of the resource table."""
    names = (name for name in (user.first_name, user.last_name) if name)
    return {
        "href": f"/users/{user.uuid}",
        "kind": USER_KIND,
        "etag": etag(user),
        "uuid": user.uuid,
        "owner_uuid": user.owner_uuid,
        "created_at": render_time(user.created_at),
        "modified_by_client_uuid": user.modified_by_client_uuid,
        "modified_by_user_uuid": user.modified_by_user_uuid,
        "modified_at": render_time(user.modified_at),
        "username": user.username,
        "email": user.email,
        "full_name": " ".join(names),
        "first_name": user.first_name,
        "last_name": user.last_name,
        "is_active": bool(user.is_active),
        "is_admin": bool(user.is_admin),
        "is_invited": True,
        "identity_url": None,
        "prefs": {},
        "writable_by": [],
    }


def render_token(token: TokenRecord) -> dict[str, Any]:
    """Return a token's attributes, in the order of the resource table."""
    return {
        "href": f"/api_client_authorizations/{token.uuid}",
        "kind": TOKEN_KIND,
        "etag": etag(token._replace(api_token=None)),
        "uuid": token.uuid,
        "created_at": render_time(token.created_at),
        "modified_by_client_uuid": token.modified_by_client_uuid,
        "modified_by_user_uuid": token.modified_by_user_uuid,
        "modified_at": render_time(token.modified_at),
        "owner_uuid": token.owner_uuid,
        "user_id": None,
        "api_client_id": None,
        "api_token": token.api_token,
        "created_by_ip_address": None,
        "default_owner_uuid": None,
        "expires_at": _time(token.expires_at),
        "last_used_at": _time(token.last_used_at),
        "last_used_by_ip_address": None,
        "scopes": _json(token.scopes),
        "label": token.label,
        "role": token.role,
    }


def render_node(node: NodeRecord) -> dict[str, Any]:
    """Return a node's attributes, in the order of the resource table."""
    return {
        "href": f"/nodes/{node.uuid}",
        "kind": NODE_KIND,
        "etag": etag(node),
        "uuid": node.uuid,
        "owner_uuid": node.owner_uuid,
        "created_at": render_time(node.created_at),
        "modified_by_client_uuid": node.modified_by_client_uuid,
        "modified_by_user_uuid": node.modified_by_user_uuid,
        "modified_at": render_time(node.modified_at),
        "hostname": node.hostname,
        "domain": None,
        "ip_address": None,
        "slot_number": node.slot_number,
        "first_ping_at": render_time(node.first_ping_at),
        "last_ping_at": _time(node.last_ping_at),
        "status": node.status,
        "crunch_worker_state": node.crunch_worker_state,
        "job_uuid": node.job_uuid,
        "properties": _json(node.properties),
        "info": {"slurm_state": SLURM_STATES[node.crunch_worker_state]},
        "nameservers": [],
        "state": node.state,
        "engine": node.engine,
        "slots": node.slots,
        "cores": node.cores,
        "memory_kib": node.memory_kib,
        "scratch_mb": node.scratch_mb,
        "attempts_live": node.attempts_live,
        "free_slots": node.free_slots,
        "free_memory_kib": node.free_memory_kib,
        "draining": bool(node.draining),
        "draining_reason": node.draining_reason,
        "held": bool(node.held),
        "on_trial": bool(node.on_trial),
        "held_until": _time(node.held_until),
        "held_reason": node.held_reason,
        "held_by_user_uuid": node.held_by_user_uuid,
        "kept_for": node.kept_for,
    }


def render_log(entry: LogRecord) -> dict[str, Any]:
    """Return a log entry's attributes, in the order of the resource table."""
    return {
        "href": f"/logs/{entry.uuid}",
        "kind": LOG_KIND,
        "etag": etag(entry),
        "uuid": entry.uuid,
        "owner_uuid": entry.owner_uuid,
        "created_at": render_time(entry.created_at),
        "modified_by_client_uuid": entry.modified_by_client_uuid,
        "modified_by_user_uuid": entry.modified_by_user_uuid,
        "modified_at": render_time(entry.modified_at),
        "id": entry.id,
        "object_uuid": entry.object_uuid,
        "object_owner_uuid": entry.object_owner_uuid,
        "object_kind": kind_of(entry.object_uuid),
        "event_at": render_time(entry.event_at),
        "event_type": entry.event_type,
        "summary": entry.summary,
        "properties": _json(entry.properties),
    }


def kind_of(uuid: str | None) -> str | None:
    """Return the kind of what a UUID names, None when it is none that we know."""
    infix = uuid[6:11] if uuid and is_uuid(uuid) else None
    return next((kind for kind, type_ in KINDS.items() if type_ == infix), None)


def render_occupying(attempt: OccupyingRecord) -> dict[str, Any]:
    """Return an attempt as what has a slot of a node."""
    return {
        "slot": attempt.slot,
        "state": AttemptState(attempt.state).word,
        "job_uuid": attempt.job_uuid,
        "job_task_uuid": attempt.task_uuid,
        "owner_uuid": attempt.owner_uuid,
        "sequence": attempt.sequence,
        "qsequence": attempt.qsequence,
        "number": attempt.number,
        "memory_kib": attempt.memory_kib,
        "assigned_at": render_time(attempt.assigned_at),
        "started_at": _time(attempt.started_at),
    }


def render_job_attempt(attempt: JobAttemptRecord) -> dict[str, Any]:
    """Return an attempt of a job: whose it is, when it ran, how it ended."""
    return {
        "job_task_uuid": attempt.task_uuid,
        "sequence": attempt.sequence,
        "qsequence": attempt.qsequence,
        "number": attempt.number,
        "state": AttemptState(attempt.state).word,
        "node": attempt.node,
        "other_nodes": _json(attempt.other_nodes),
        "slot": attempt.slot,
        "assigned_at": render_time(attempt.assigned_at),
        "started_at": _time(attempt.started_at),
        "finished_at": _time(attempt.ended_at),
        "exit_code": attempt.exit_code,
        "signal": attempt.signal,
        "cause": attempt.cause,
        "run_seconds": attempt.run_seconds,
        "log_bytes": attempt.log_bytes,
    }


def render_levels(levels: Sequence[LevelRecord]) -> dict[str, Any]:
    """Return how far each sequence of a job is."""
    return {"items": [level._asdict() for level in levels]}


def select(rendered: dict[str, Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    """Return only what was asked for, and the kind."""
    if names is None:
        return rendered
    return {key: value for key, value in rendered.items() if key in names or key == "kind"}


def render_page(
    resource: Resource,
    page: Page[R],
    render: Callable[[R], dict[str, Any]],
    names: tuple[str, ...] | None,
) -> dict[str, Any]:
    """Return one page of a list."""
    answer: dict[str, Any] = {
        "kind": f"{resource.kind}List",
        "etag": "",
        "self_link": "",
        "offset": page.offset,
        "limit": page.limit,
        "items": [select(render(record), names) for record in page.items],
    }
    if page.items_available is not None:
        answer["items_available"] = page.items_available
    return answer
