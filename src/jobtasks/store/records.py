"""Rows as the service sees them; the order of fields is the order of columns in the queries."""

from __future__ import annotations

from typing import NamedTuple


def flag(number: int | None) -> bool | None:
    """Return what a column stands for that is true, false or null: databases have 1 and 0."""
    return None if number is None else bool(number)


class JobRecord(NamedTuple):
    """One row of visible_job; of counted_job when it does not matter where its processes are."""

    id: int
    uuid: str
    owner_uuid: str
    created_at: int
    modified_at: int
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None
    state: str
    managed: int
    priority: int
    submit_id: str | None
    script: str | None
    script_version: str | None
    supplied_script_version: str | None
    repository: str | None
    script_parameters: str
    command: str | None
    runtime_constraints: str
    started_at: int | None
    finished_at: int | None
    cancelled_at: int | None
    cancelled_by_user_uuid: str | None
    cancelled_by_client_uuid: str | None
    is_locked_by_uuid: str | None
    output: str | None
    output_truncated: int
    log: str | None
    description: str | None
    nondeterministic: int | None
    components: str
    arvados_sdk_version: str | None
    docker_image_locator: str | None
    seeded: int
    logs_removed_at: int | None
    has_logs: int
    script_parameters_digest: str | None
    tasks_summary: str | None
    script_hash: str | None
    todo: int
    running_tasks: int
    done: int
    failed: int
    live: int
    halt: str | None
    frontier: int | None
    node_uuids: str | None = None


class TaskRecord(NamedTuple):
    """One row of visible_task."""

    id: int
    uuid: str
    job_id: int
    qsequence: int
    batch_id: int
    sequence: int
    state: int
    parameters: str
    runtime_constraints: str
    command: str | None
    progress: float | None
    success: int | None
    output: str | None
    created_at: int
    modified_at: int
    started_at: int | None
    finished_at: int | None
    attempts: int
    attempt_id: int | None
    failed_count: int
    failed_at: int | None
    failed_log: str | None
    log: str | None
    batch_state: int
    shape_id: int
    creator_attempt_id: int | None
    created_by_job_task_uuid: str | None
    job_uuid: str
    owner_uuid: str
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None


class AttemptRecord(NamedTuple):
    """One attempt with the names of what it belongs to."""

    id: int
    number: int
    state: int
    node: str
    slot: int
    memory_kib: int
    assigned_at: int
    started_at: int | None
    ended_at: int | None
    cause: str | None
    exit_code: int | None
    signal: int | None
    peak_memory_kib: int | None
    run_seconds: float | None
    reason: str | None
    counted: int
    node_fault: int
    log_bytes: int
    log_dropped_bytes: int
    stderr: str | None
    task_uuid: str
    job_uuid: str
    log_removed_at: int | None
    """Set when the log is not kept any more."""
    other_nodes: str
    """JSON array: hostnames of a gang's further nodes (R25)."""


class LogRecord(NamedTuple):
    """One row of visible_log: something that happened, or that a user wrote."""

    id: int
    event_id: int
    uuid: str
    owner_uuid: str
    created_at: int
    modified_at: int
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None
    object_uuid: str | None
    object_owner_uuid: str | None
    event_at: int
    event_type: str | None
    summary: str | None
    properties: str
    """JSON."""
    job_id: int | None
    """Of the job that it is about, or whose task it is about."""


class JobAttemptRecord(NamedTuple):
    """One attempt of a job, with its task's place."""

    id: int
    qsequence: int
    sequence: int
    task_uuid: str
    number: int
    state: int
    node: str
    slot: int
    assigned_at: int
    started_at: int | None
    ended_at: int | None
    cause: str | None
    exit_code: int | None
    signal: int | None
    run_seconds: float | None
    log_bytes: int
    other_nodes: str
    """JSON array: hostnames of a gang's further nodes (R25)."""


class FamilyRecord(NamedTuple):
    """A family of failed attempts of a job, with its newest one (core/families.py).

    What belongs to that attempt is None when its task was deleted.
    """

    name: str
    cause: str | None
    """None: of several."""
    exit_code: int | None
    signal: int | None
    message: str
    """Normalised."""
    attempts: int
    tasks: int
    """That failed for good by it, and are failed now."""
    first_at: int
    last_at: int
    sample_message: str
    """As it was."""
    task_uuid: str | None
    sequence: int | None
    qsequence: int | None
    number: int | None
    reason: str | None
    node: str | None
    memory_kib: int | None
    peak_memory_kib: int | None
    run_seconds: float | None
    log_bytes: int | None


class BranchRecord(NamedTuple):
    """What tasks of one sequence created in another one."""

    creator_sequence: int
    """-1: nobody created them."""
    sequence: int
    tasks: int
    creators: int


class ChildRecord(NamedTuple):
    """A task as one of those that another created."""

    id: int
    uuid: str
    sequence: int
    qsequence: int
    state: int
    attempts: int
    failed_count: int
    children: int
    """How many tasks it created in turn."""


class LevelRecord(NamedTuple):
    """How many tasks of one sequence are where."""

    sequence: int
    todo: int
    running: int
    done: int
    failed: int


class UserRecord(NamedTuple):
    """One row of visible_user."""

    id: int
    uuid: str
    owner_uuid: str
    created_at: int
    modified_at: int
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None
    username: str
    email: str | None
    first_name: str | None
    last_name: str | None
    is_active: int
    is_admin: int


class NodeRecord(NamedTuple):
    """One row of visible_node."""

    id: int
    uuid: str
    owner_uuid: str
    created_at: int
    modified_at: int
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None
    hostname: str
    slot_number: int
    first_ping_at: int
    last_ping_at: int | None
    status: str
    crunch_worker_state: str
    properties: str
    state: str
    engine: str
    slots: int
    cores: int
    memory_kib: int
    scratch_mb: int
    attempts_live: int
    free_slots: int
    free_memory_kib: int
    draining: int
    draining_reason: str | None
    held: int
    on_trial: int
    held_until: int | None
    held_reason: str | None
    held_by_user_uuid: str | None
    kept_for: str | None
    """"job", "gang", or nobody."""
    job_uuid: str | None
    job_owner_uuid: str | None


class NodeUseRecord(NamedTuple):
    """How much of a node was taken from a time on."""

    node_id: int
    at: int
    slots: int
    """0: its agent was not heard."""
    slots_taken: int
    memory_kib: int
    memory_taken_kib: int


class OccupyingRecord(NamedTuple):
    """An attempt that may have a process on a node, with what it belongs to."""

    number: int
    state: int
    slot: int
    memory_kib: int
    assigned_at: int
    started_at: int | None
    task_uuid: str
    sequence: int
    qsequence: int
    job_uuid: str
    owner_uuid: str


class TokenRecord(NamedTuple):
    """One row of visible_token; the secret is there only in the answer that makes it known."""

    id: int
    uuid: str
    owner_uuid: str
    created_at: int
    modified_at: int
    modified_by_user_uuid: str | None
    modified_by_client_uuid: str | None
    api_token: str | None
    scopes: str
    label: str | None
    expires_at: int | None
    last_used_at: int | None
    role: str
