"""The messages between an agent and the server, version 1.

An agent makes three kinds of call, each a POST with a MessagePack body and the agent token:

- ``/agent/v1/join`` (`Join` → `Joined`), once, after it has settled what its predecessor left;
- ``/agent/v1/sync`` (`Sync` → `Orders`), all the time: at most one call waits at the server; when
  something ended, the agent sends the next one beside it at once;
- ``/agent/v1/logs`` (`LogChunks` → `LogStored`), when an attempt has output.

Beside these it fetches the directories of scripts (`packs`).

Sizes are in KiB where the name says so, durations in seconds. No message carries an absolute time:
the clocks of server and agent need not agree.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

VERSION = 3
"""Goes up when an older peer would misread a message; the server refuses other versions."""

STDERR_TAIL_BYTES_MAX = 64 * 1024
"""The end of stderr that an end report carries (R13, R42)."""

STDERR_LIVE_BYTES_MAX = 4 * 1024
"""The end of stderr that goes along with a renewal when it changed."""

LOG_CHUNK_BYTES_MAX = 1024 * 1024
"""The most log bytes in one `LogChunks` call."""


class EndKind(StrEnum):
    """What ended an attempt, as far as the agent can tell."""

    EXIT = "exit"
    """The process ended by itself, with an exit code or by a signal."""
    STOPPED = "stopped"
    """Ended by an ordered stop: a cancel, a drain, an agent or server that ends in good order."""
    TIME_LIMIT = "time_limit"
    """It ran past ``max_run_seconds``."""
    OUT_OF_MEMORY = "out_of_memory"
    """The kernel or a control group said so, or signal and measured peak together do."""
    UNABLE_TO_START = "unable_to_start"
    """The program could not be executed: missing, not executable, bad interpreter."""
    AGENT_LOST = "agent_lost"
    """The agent that ran it died; its keeper or its successor ended the process."""


class Ended(msgspec.Struct, omit_defaults=True):
    """How one attempt ended; repeated until a sync acknowledges it."""

    attempt: int
    kind: EndKind
    exit_code: int | None = None
    signal: int | None = None
    peak_memory_kib: int | None = None
    run_seconds: float | None = None
    stderr_tail: bytes = b""
    """At most `STDERR_TAIL_BYTES_MAX`."""
    reason: str = ""
    """One line of the agent's own, added to the failure's log as its marked last line (R13)."""
    log_bytes: int = 0
    """Size of the attempt's whole log, both streams, after the cap."""
    log_dropped_bytes: int = 0


class Alive(msgspec.Struct, omit_defaults=True):
    """One attempt that runs; its lease is renewed by being named here."""

    attempt: int
    pid: int = 0
    stderr_tail: bytes | None = None
    """At most `STDERR_LIVE_BYTES_MAX`; None when it did not change since the last sync."""


class Join(msgspec.Struct, omit_defaults=True):
    """A new agent presents itself, holding the lock of its node."""

    version: int
    node: str
    """The node's lasting id, made once and kept in the node's directory."""
    hostname: str
    incarnation: str
    """Random, made at each start of an agent."""
    slots: int
    memory_kib: int
    cores: int
    scratch_mb: int
    running: list[Alive] = []
    """Attempts that go on under this agent (a hand-over); all others of the node have ended."""
    ended: list[Ended] = []
    """Ends that the predecessor wrote down but that were not acknowledged."""
    request: str = ""
    """The engine's request by which the node was granted; "": somebody started the agent."""
    place: str = ""
    """The node as its engine names it."""


class Joined(msgspec.Struct):
    """The server's answer to `Join`."""

    agent: int
    """The agent's id for `Sync`."""
    lease_seconds: float
    renew_seconds: float
    """How long a sync may wait at the server: the agent is heard at least this often."""
    patience_seconds: float
    """How long attempts go on without an acknowledged renewal (R34)."""
    grace_seconds: float
    """Between TERM and KILL (R21)."""
    freeze_seconds: float
    """How long exclusive attempts go on after the sending of a renewal that was acknowledged
    (R34); shorter than the lease."""
    log_bytes_max: int
    """Cap of one attempt's log; past it the first and the last half are kept (R38)."""
    acknowledged: list[int] = []
    """Attempts among `Join.ended` whose end is on record."""
    leave: bool = False
    """The request by which the node was granted is over: the agent is not let in, and goes."""


class Sync(msgspec.Struct, omit_defaults=True):
    """The agent's state of affairs."""

    agent: int
    number: int
    """Grows with each sync of this agent; one that is not newer is answered `stale`."""
    running: list[Alive] = []
    ended: list[Ended] = []
    refused: list[int] = []
    """Assignments that came after their time (`Assignment.start_within_seconds`)."""
    unknown: list[int] = []
    """Attempts the server asked about that this agent has never heard of, or no longer has."""
    free_slots: list[int] = []
    """Numbers of the slots, from 1, that may take an attempt now; [] when draining."""
    places: int = 1
    """How many attempts each slot may have: one runs, the others start as it ends."""
    held: list[int] = []
    """Attempts that wait behind a slot, or began just now: it need not be said again to start them,
    and it is too early to call them running."""
    jobs_known: list[str] = []
    """UUIDs of the jobs whose `JobBrief` this agent holds or whose JOB_WORK exists."""
    wait_seconds: float = 0.0
    """How long the server may hold the answer back when it has nothing to order."""
    trust: str = ""
    """`Trust.mark` of what the agent was last told."""
    leaving: bool = False
    """The agent has ended everything and goes; its lease ends with this sync."""


class JobBrief(msgspec.Struct, omit_defaults=True):
    """What an agent needs to know of a job; sent once per agent and job. Never changes."""

    uuid: str
    script: str | None = None
    """Name of an executable below `script_version`; None when tasks bring a command."""
    script_version: str | None = None
    """An absolute directory."""
    command: list[str] | None = None
    script_parameters: str = "{}"
    """A JSON object as text, as `Assignment.parameters`."""


class Assignment(msgspec.Struct, omit_defaults=True):
    """One attempt to start, on one slot; repeated until a sync names it running, ended, refused."""

    attempt: int
    token: str
    """The attempt's own API token (R32)."""
    job: str
    task: str
    number: int
    """Counts the task's attempts from 1 (TASK_ATTEMPT)."""
    sequence: int
    qsequence: int
    slot: int
    start_within_seconds: float
    """Counted from when this answer was made: not after that (see `Orders.held_seconds`)."""
    parameters: str = "{}"
    """A JSON object as text, for JSON has integers of any size and MessagePack has not."""
    command: list[str] | None = None
    """The task's own command; it wins over the job's script and command (R39)."""
    memory_kib: int = 0
    """Memory reserved on the node for this attempt (R28); 0: none."""
    max_run_seconds: float = 0.0
    """0: no limit."""
    exclusive: bool = False
    """It must not run beside another attempt of its task (R34)."""
    nodes: list[str] = []
    """Hostnames of a gang (R25); empty for a task of one node."""
    log_bytes_max: int = 0
    """Cap of its log, as `Joined.log_bytes_max`, where that is to be smaller; 0: as that says."""
    preload: list[str] = []
    """Modules that its Python may find imported already when it starts, in order."""
    script_hash: str = ""
    """Under which the directory of its job's script is fetched (`packs`); "": it is not, and the
    script is started where it is. Not in `JobBrief`: after a retry it may be another."""
    script_remark: str = ""
    """Why it is not, as part of a sentence; "": not known."""


class Stop(msgspec.Struct, omit_defaults=True):
    """One attempt to end: TERM to its tree, KILL after the grace."""

    attempt: int
    reason: str = ""
    discard: bool = False
    """The server has closed its record already: end it, do not report it."""


class Trust(msgspec.Struct):
    """What tasks need to call the server as clients of Arvados do: by https, at a known address.

    Not in `Joined`: certificates change while agents live.
    """

    mark: str
    """Changes with the rest."""
    api_host: str
    """``HOST[:PORT]`` (ARVADOS_API_HOST)."""
    authorities: str
    """PEM of the certificates that a client needs beside what its system trusts; may be empty."""


class Orders(msgspec.Struct, omit_defaults=True):
    """The server's answer to `Sync`, sent after its transaction is on disk."""

    number: int
    """Of the sync that this answers."""
    stale: bool = False
    """The sync was not newer than one already served; nothing was changed, nothing is ordered."""
    rejoin: bool = False
    """The server does not know this agent (any more): end what runs, report it by a new `Join`."""
    renewed: bool = False
    """The leases of `Sync.running` were renewed."""
    held_seconds: float = 0.0
    """How long the server held the call: an answer was made no earlier, by the agent's clock, than
    the sending of its sync plus this."""
    acknowledged: list[int] = []
    """Ended attempts that are on record: the agent may forget them."""
    start: list[Assignment] = []
    jobs: list[JobBrief] = []
    """Briefs of the jobs in `start` that were not in `Sync.jobs_known`."""
    stop: list[Stop] = []
    ask: list[int] = []
    """Attempts on record as running here that the sync did not name: running, ended or unknown?"""
    jobs_over: list[str] = []
    """Jobs of `Sync.jobs_known` that are final: forget them and remove their JOB_WORK."""
    follow: list[int] = []
    """Running attempts whose log somebody reads now: push what there is."""
    leave: bool = False
    """The node is given back to its engine: the agent goes, as at TERM, and its keeper with it."""
    trust: Trust | None = None
    """What holds now, when `Sync.trust` named something else; it holds for `start` already."""


class LogChunk(msgspec.Struct, omit_defaults=True):
    """A piece of an attempt's log file, as the agent keeps it (see `frames`)."""

    attempt: int
    offset: int
    """Position in the attempt's log file; a repeated chunk overwrites the same bytes."""
    data: bytes
    final: bool = False
    """Nothing follows; the file ends at offset + len(data)."""


class LogChunks(msgspec.Struct):
    """Pieces of the logs of one agent's attempts, at most `LOG_CHUNK_BYTES_MAX` of data."""

    agent: int
    chunks: list[LogChunk]


class LogStored(msgspec.Struct):
    """The chunks are on the server's disk."""

    stored: list[int]
    """Attempts of the chunks that were kept, in the order sent; others were not of this agent."""
