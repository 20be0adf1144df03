"""A job on its way to another server: one stream, whose lines are records (docs/how-to/moving.md).

A line is a JSON object; `record` says what it is. They come in this order: one `job`, at most one
`pack`, at most one `attachment`, each `family`, each `task` by qsequence, each `attempt` in the
order in which they began, one `end`. After a line that says how many, so many bytes of a file
follow, and a newline.
The last line has the SHA-256 of all bytes before it: a stream that was cut or changed is known.

Times are Unix microseconds. Nothing names a row of a database: a task is its qsequence, an attempt
its task and number, a node its UUID.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from jobtasks.core.errors import Invalid, TooLarge
from jobtasks.core.identifiers import TYPES
from jobtasks.core.resources import INTEGER_MAX

FORMAT = 1
"""Goes up when an older program would misread a stream."""
TIME_MIN = -62_135_596_800_000_000
TIME_MAX = 253_402_300_799_999_999
"""From the year 1 to 9999: other times have no text."""
SEQUENCE_MAX = 2**31 - 1
QSEQUENCE_MAX = 2**32 - 1
NUMBER_MAX = 2**31 - 1
TEXT_CHARACTERS_MAX = 128 * 1024
"""Of what is said of an attempt or a family: its reason, the end of its stderr."""
NAME_CHARACTERS_MAX = 1000


def _uuid(kind: str) -> Meta:
    return Meta(pattern=rf"\A[0-9a-z]{{5}}-{TYPES[kind]}-[0-9a-z]{{15}}\Z")


JobUuid = Annotated[str, _uuid("job")]
TaskUuid = Annotated[str, _uuid("job_task")]
NodeUuid = Annotated[str, _uuid("node")]
UserUuid = Annotated[str, _uuid("user")]
Time = Annotated[int, Meta(ge=TIME_MIN, le=TIME_MAX)]
Count = Annotated[int, Meta(ge=0, le=INTEGER_MAX)]
Sequence = Annotated[int, Meta(ge=0, le=SEQUENCE_MAX)]
Qsequence = Annotated[int, Meta(ge=0, le=QSEQUENCE_MAX)]
Number = Annotated[int, Meta(ge=1, le=NUMBER_MAX)]
Small = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Seconds = Annotated[float, Meta(ge=0.0, le=1e12)]
Name = Annotated[str, Meta(max_length=NAME_CHARACTERS_MAX)]
Words = Annotated[str, Meta(max_length=TEXT_CHARACTERS_MAX)]


class _Record(
    Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="record"
):
    """One line."""


class _Part(Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A part of one."""


class Owner(_Part, kw_only=True):
    """Whose the job is, so that the same user is found elsewhere."""

    uuid: UserUuid
    username: Name | None = None
    email: Name | None = None


class JobLine(_Record, kw_only=True, tag="job"):
    """The first line: what follows, and the job's own record."""

    format: int
    program: Name
    """Name and version of the program that wrote it."""
    uuid: JobUuid
    owner: Owner
    tasks: Count
    """How many follow, unless one is deleted meanwhile: to show how far it is."""
    next_qsequence: Count
    attributes: dict[str, Any]
    """The columns of the job that are carried (core/moving.py)."""
    submit_hash: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")] | None = None
    """What its `submit_id` was given with, in hexadecimal."""


class PackLine(_Record, kw_only=True, tag="pack"):
    """The directory of the job's script follows, as nodes fetch it (protocol/packs.py).

    Its SHA-256 is the job's `script_hash`. No bytes: who wrote the stream did not have it any more.
    """

    file_bytes: Count = 0


class AttachmentLine(_Record, kw_only=True, tag="attachment"):
    """The job's attachment follows."""

    file_bytes: Count


class FamilyLine(_Record, kw_only=True, tag="family"):
    """One kind of failure (core/families.py); how many is counted again."""

    name: Name
    cause: Name | None = None
    exit_code: Small | None = None
    signal: Small | None = None
    message: Words
    first_at: Time
    last_at: Time
    sample_message: Words


class Creation(_Part, kw_only=True):
    """Which task created one."""

    qsequence: Qsequence
    sequence: Sequence | None = None
    """Null in a foreign job, where it may change."""


class Spending(_Part, kw_only=True):
    """Budgets that a task has used (core/retry.py), but for nodes: those are elsewhere."""

    own: Count = 0
    asked: Count = 0
    memory: Count = 0
    lost: Count = 0
    memory_kib: Count = 0


class TaskLine(_Record, kw_only=True, tag="task"):
    """A task that exists: published, or of a foreign job."""

    uuid: TaskUuid
    qsequence: Qsequence
    sequence: Sequence
    state: Name
    created_at: Time
    modified_at: Time
    created_by: Creation | None = None
    parameters: dict[str, Any] = {}
    runtime_constraints: dict[str, Any] = {}
    command: list[str] | None = None
    progress: Share | None = None
    success: bool | None = None
    output: str | None = None
    started_at: Time | None = None
    finished_at: Time | None = None
    attempts: Count = 0
    failed_count: Count = 0
    failed_at: Time | None = None
    failed_log: str | None = None
    """Of a foreign job's task alone, and so is `log`: others have that of their attempts."""
    log: str | None = None
    spent: Spending | None = None
    waits_until: Time | None = None
    """When its next attempt was to begin at the earliest, if it waits for one."""


class Node(_Part, kw_only=True):
    """Where an attempt ran, for those who look."""

    uuid: NodeUuid
    hostname: Name


class Seat(_Part, kw_only=True):
    """A further node of a gang (R25)."""

    node: Node
    slot: Count


class AttemptLine(_Record, kw_only=True, tag="attempt"):
    """An attempt, which has ended; its log follows, as it is stored."""

    job_task_uuid: TaskUuid
    qsequence: Qsequence
    number: Number
    node: Node
    slot: Count
    assigned_at: Time
    ended_at: Time | None = None
    started_at: Time | None = None
    memory_kib: Count = 0
    children: Count = 0
    cause: Name | None = None
    exit_code: Small | None = None
    signal: Small | None = None
    peak_memory_kib: Count | None = None
    run_seconds: Seconds | None = None
    reason: Words | None = None
    counted: bool = False
    node_fault: bool = False
    stderr: Words | None = None
    family: Name | None = None
    is_newest: bool = False
    """The task's newest one."""
    is_failed_log: bool = False
    """The one whose stderr is the task's `failed_log`."""
    seats: list[Seat] = []
    log_bytes: Count = 0
    log_dropped_bytes: Count = 0
    file_bytes: Count = 0


class EndLine(_Record, kw_only=True, tag="end"):
    """The last line: how many of each there were."""

    tasks: Count
    attempts: Count
    logs: Count
    logs_incomplete: Count = 0
    """Attempts whose log had not come to the server whole, or was removed."""
    packs: Count = 0
    packs_missing: Count = 0
    sha256: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ProblemLine(_Record, kw_only=True, tag="problem"):
    """In place of the rest: why there is none."""

    message: Words


Record = JobLine | PackLine | AttachmentLine | FamilyLine | TaskLine | AttemptLine
Line = Record | EndLine | ProblemLine
_decoder: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)
_encode = msgspec.json.Encoder().encode


def encoded(line: Line) -> bytes:
    """Return a record as its line."""
    return _encode(line) + b"\n"


class Tail:
    """What the last line says of the lines before it; told of each byte and each record."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self.tasks = self.attempts = self.logs = self.logs_incomplete = 0
        self.packs = self.packs_missing = 0

    def add(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._digest.update(data)

    def count(self, line: Line) -> None:
        """Take a record."""
        if isinstance(line, TaskLine):
            self.tasks += 1
        elif isinstance(line, AttemptLine):
            self.attempts += 1
            self.logs += line.file_bytes > 0
        elif isinstance(line, PackLine):
            self.packs += line.file_bytes > 0
            self.packs_missing += not line.file_bytes

    def end(self) -> EndLine:
        """Return the last line."""
        return EndLine(
            tasks=self.tasks,
            attempts=self.attempts,
            logs=self.logs,
            logs_incomplete=self.logs_incomplete,
            packs=self.packs,
            packs_missing=self.packs_missing,
            sha256=self._digest.hexdigest(),
        )


class Splitter:
    """Takes a stream in pieces of any size, and gives its records and the bytes of its files.

    What it holds is one line at most, of a length that is limited.
    """

    def __init__(self, line_bytes_max: int) -> None:
        self._line_bytes_max = line_bytes_max
        self._rest = bytearray()
        self._looked = 0
        """Bytes of the rest that hold no end of a line."""
        self._file_bytes = 0
        """Of a file, still to come."""
        self._in_file = False
        self._tail = Tail()
        self.count = 0
        """Records so far."""
        self.ended: EndLine | None = None
        """The last line, once it has come and is right."""

    def feed(self, data: bytes) -> Iterator[Line | bytes]:
        """Take the next bytes; yield each record, and after it its file in pieces.

        Raises:
            Invalid: this is no such stream, it was damaged, or its writer gave up.
            TooLarge: a line is too long.
        """
        self._rest += data
        while self._rest:
            if self.ended is not None:
                raise Invalid("Something follows the end of the stream.")
            if self._in_file:
                yield from self._file()
                if self._in_file:
                    return
                continue
            line = self._line()
            if line is None:
                return
            yield line

    def close(self) -> EndLine:
        """Return the last line.

        Raises:
            Invalid: it has not come: the stream was cut off.
        """
        if self.ended is None:
            raise Invalid(f"The stream was cut off after {self.count} records: nothing is kept.")
        return self.ended

    def _file(self) -> Iterator[bytes]:
        piece = bytes(self._rest[: self._file_bytes])
        del self._rest[: len(piece)]
        self._file_bytes -= len(piece)
        self._tail.add(piece)
        if piece:
            yield piece
        if not self._file_bytes and self._rest:
            if self._rest[:1] != b"\n":
                raise Invalid(f"After record {self.count} a file does not end where it must.")
            del self._rest[:1]
            self._tail.add(b"\n")
            self._in_file = False

    def _line(self) -> Line | None:
        end = self._rest.find(b"\n", self._looked)
        if max(end, len(self._rest) if end < 0 else 0) > self._line_bytes_max:
            raise TooLarge(f"A line of the stream is longer than {self._line_bytes_max} bytes.")
        if end < 0:
            self._looked = len(self._rest)
            return None
        text = bytes(self._rest[: end + 1])
        del self._rest[: end + 1]
        self._looked = 0
        line = self._decoded(text)
        self.count += 1
        if isinstance(line, EndLine):
            self._check_end(line)
        else:
            self._tail.add(text)
            self._tail.count(line)
            self._file_bytes = getattr(line, "file_bytes", 0)
            self._in_file = self._file_bytes > 0
        return line

    def _decoded(self, text: bytes) -> Line:
        try:
            line = _decoder.decode(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if not self.count:
                raise Invalid("This is no job that was exported, or another format.") from None
            raise Invalid(f"Record {self.count} of the stream is damaged: {error}") from None
        if isinstance(line, JobLine) != (self.count == 0):
            raise Invalid("The stream must begin with its job, and have one.")
        if isinstance(line, JobLine) and line.format != FORMAT:
            raise Invalid(
                f"The stream has format {line.format}; this program knows format {FORMAT}."
            )
        if isinstance(line, ProblemLine):
            raise Invalid(f"The stream is not whole; who wrote it said: {line.message}")
        return line

    def _check_end(self, line: EndLine) -> None:
        self._tail.logs_incomplete = line.logs_incomplete
        if line != self._tail.end():
            raise Invalid("The stream was damaged on its way: its SHA-256 or counts differ.")
        self.ended = line


def line_bytes_max(record_bytes_max: int) -> int:
    """Return how long a line may be: six attributes, of which each letter may take six bytes."""
    return 40 * record_bytes_max
