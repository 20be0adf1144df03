"""Every time and limit of the service, in one frozen value; tests run with smaller ones."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults as the rules give them; each field is documented in docs/reference/settings.md."""

    lease_seconds: float = 30.0
    """How long an attempt is believed to live without a renewal (R33)."""
    renew_seconds: float = 5.0
    """How often an agent is heard at least (R33)."""
    patience_seconds: float = 900.0
    """How long an agent keeps attempts running without an acknowledged renewal (R34)."""
    freeze_seconds: float = 25.0
    """How long exclusive attempts go on without an acknowledged renewal (R34)."""
    grace_seconds: float = 10.0
    """Between TERM and KILL (R21)."""
    start_within_seconds: float = 20.0
    """An assignment that reaches its agent later than this is not started."""
    tick_seconds: float = 1.0
    """How often the manager looks when nothing wakes it."""
    manager_seconds: float = 10.0
    """Where several servers share a database: a manager that is silent for so long has a successor.
    """
    clock_gap_seconds: float = 5.0
    """A tick later than this, or a wall clock that jumped by as much, renews every lease (R33)."""
    delay_seconds: float = 1.0
    """Delay before the second attempt; doubled each time (R15)."""
    delay_seconds_max: float = 300.0
    """The longest delay (R15)."""
    delay_jitter: float = 0.25
    """Share by which a delay varies at random (R15)."""
    avoid_seconds: float = 300.0
    """How long a task waits for a node on which it has not failed (R12)."""
    attempts_own_max: int = 3
    """Attempts when the process itself failed, or ran out of time (R14)."""
    attempts_asked_max: int = 10
    """Attempts when the process asked for another by exit code 111 or 75 (R14)."""
    attempts_memory_max: int = 3
    """Attempts that ran out of memory (R14)."""
    attempts_lost_max: int = 10
    """Attempts lost with node, agent or allocation (R14)."""
    start_nodes_max: int = 3
    """Nodes on which a program that cannot be started is tried (R14)."""
    suspect_attempts: int = 2
    """Failures in a row, beside one for each slot, that make a node suspected (R16)."""
    hold_seconds: float = 60.0
    """How long a suspected node is held at first; doubled each time (R16)."""
    hold_seconds_max: float = 1800.0
    """The longest such hold (R16)."""
    overtaken_seconds: float = 600.0
    """How long a job that waits for several free nodes is overtaken by others (R18)."""
    engine_poll_seconds: float = 10.0
    """How often an engine is looked at that was asked for nodes."""
    engine_command_seconds: float = 30.0
    """How long one command to an engine may take."""
    engine_asks_per_minute: float = 30.0
    """So many requests are made of an engine in a minute at most."""
    engine_settle_seconds: float = 60.0
    """How long a request whose making had no clear outcome is looked for before it is repeated."""
    engine_retry_seconds: float = 10.0
    """Before a job's next request when one brought no node; doubled each time."""
    engine_retry_seconds_max: float = 600.0
    """The longest such time."""
    engine_idle_seconds: float = 60.0
    """How long a job's node that is more than it needs is idle before it is given back."""
    engine_join_seconds: float = 300.0
    """How long an agent may take to join from a node that was granted."""
    engine_drain_seconds: float = 300.0
    """How long before its time is up a node takes nothing new; at most a quarter of that time."""
    engine_avoid_seconds: float = 600.0
    """How long requests avoid a node that was lost."""
    body_bytes_max: int = 8 * 1024 * 1024
    """One request body."""
    bulk_body_bytes_max: int = 256 * 1024 * 1024
    """The body of a bulk create of tasks."""
    attachment_bytes_max: int = 256 * 1024 * 1024
    """A job's attachment."""
    bulk_tasks_max: int = 100_000
    """Tasks in one bulk create."""
    depth_max: int = 64
    """Nesting of a JSON body."""
    form_bytes_max: int = 2 * 1024 * 1024
    """One body in form encoding."""
    form_fields_max: int = 1000
    """Fields of one body in form encoding."""
    head_bytes_max: int = 32 * 1024
    """Address and headers of one request."""
    headers_max: int = 100
    """Headers of one request."""
    head_seconds: float = 10.0
    """How long a client may take to send address and headers."""
    body_seconds: float = 30.0
    """How long a client may take to send a body, beside a second for each 64 KiB of it."""
    answer_seconds: float = 300.0
    """How long a client may take nothing of an answer that it asked for."""
    connections_max: int = 10_000
    """Connections that are open at a time; never more than the process may open files for."""
    requests_open_max: int = 1000
    """Requests that are under way at a time; those of agents are not counted."""
    bodies_bytes_max: int = 256 * 1024 * 1024
    """Bodies of all requests that are under way, together; those of syncs are not counted."""
    turn_seconds: float = 20.0
    """How long a request may wait for its turn at the database."""
    record_bytes_max: int = 2 * 1024 * 1024
    """Parameters, constraints, command or output of one record, each."""
    tasks_per_job_max: int = 10_000_000
    """Tasks in one job."""
    children_per_task_max: int = 2_000_000
    """Tasks that one attempt creates."""
    shapes_per_job_max: int = 10_000
    """Distinct constraints among the tasks of one job."""
    list_items_max: int = 1000
    """Items of one list answer; a larger limit is lowered to this."""
    wait_seconds_max: float = 60.0
    """How long a show with ``wait`` is held."""
    job_output_bytes_max: int = 1024 * 1024
    """Part of a job's output kept in its attribute (R20)."""
    log_bytes_max: int = 64 * 1024 * 1024
    """Log of one attempt (R38)."""
    job_log_bytes_max: int = 64 * 1024 * 1024 * 1024
    """Logs of all attempts of a job; then further ones keep their last words only (R40)."""
    pack_files_max: int = 2000
    """Files, directories and links in a script's directory that is sent to nodes; 0: none is."""
    pack_bytes_max: int = 64 * 1024 * 1024
    """Bytes in all files of such a directory."""
    notify_seconds: float = 30.0
    """How long one try to tell somebody of a job's end may take."""
    notify_delay_seconds: float = 5.0
    """Before the second try; doubled each time."""
    notify_delay_seconds_max: float = 3600.0
    """The longest time between two tries."""
    notify_give_up_seconds: float = 86400.0
    """From a job's end on, how long it is tried to tell of it."""
    retain_jobs_seconds: float = 0.0
    """How long a job is kept after its end; 0: for ever."""
    retain_logs_seconds: float = 0.0
    """How long the logs of a job are kept after its end; 0: as long as the job."""
    retain_packs_seconds: float = 7 * 86400.0
    """How long a script's directory that was sent to nodes is kept when every job that has it is
    over; 0: as long as one of the jobs."""
    retain_tokens_seconds: float = 30 * 86400.0
    """How long a revoked or expired token is remembered; 0: for ever."""
    node_history_seconds: float = 60.0
    """How often it is noted how much of each node is taken."""
    retain_node_history_seconds: float = 86400.0
    """How long that is kept."""
    housekeeping_seconds: float = 60.0
    """How often the server looks for what need not be kept any longer."""
    idempotency_seconds: float = 86400.0
    """How long an Idempotency-Key is remembered (R22)."""
    repeat_seconds: float = 900.0
    """How long a POST may be sent again with its X-Request-Id and be known for a repeat (R22)."""
    events_max: int = 100_000
    """Transactions whose events are kept for those who watch or read `logs`."""
    events_seconds: float = 14 * 86400.0
    """How long they are kept."""
    streams_max: int = 500
    """Streams of events that are open at a time."""
    stream_beat_seconds: float = 15.0
    """How often a stream says that it lives, and its reader's token is looked at again."""
    sweep_rows: int = 2000
    """Rows that one tick removes of children that are gone (R4)."""
