"""The logs of running tasks as they grow, for streams of events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from starlette.requests import Request

from jobtasks.api.edge import Edge
from jobtasks.core.errors import NotFound
from jobtasks.core.filters import Condition
from jobtasks.core.identifiers import is_uuid
from jobtasks.core.matching import matches
from jobtasks.core.states import AttemptState
from jobtasks.protocol.frames import HEADER, STDERR, STDOUT
from jobtasks.service import logs, tasks
from jobtasks.store.records import AttemptRecord

TASKS_MAX = 16
"""Tasks whose logs one stream follows."""
PIECE_BYTES = 64 * 1024
STREAMS = {"stdout": STDOUT, "stderr": STDERR}


@dataclass(slots=True)
class Place:
    """How far the log of a task has been told."""

    number: int = 0
    """Of the attempt; 0: none yet."""
    offset: int = 0
    """In bytes of the log's file."""


@dataclass(frozen=True, slots=True)
class Line:
    """What a process wrote, as much as arrived together."""

    task_uuid: str
    job_uuid: str
    number: int
    stream: str
    text: str
    end: int
    """Where it ends in the log's file."""


class _Kind:
    """Stands for an entry of which only the type is known."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type


def streams_wanted(conditions: Sequence[Condition]) -> dict[bytes, str]:
    """Return which streams of output the filters ask for: none unless they speak of event_type."""
    about = [
        condition
        for condition in conditions
        if all(term.attribute.name == "event_type" for term in condition)
    ]
    return {mark: name for name, mark in STREAMS.items() if about and matches(about, _Kind(name))}


def tasks_named(conditions: Sequence[Condition]) -> list[str]:
    """Return the tasks that the filters name as objects, in order."""
    named: set[str] = set()
    for condition in conditions:
        term = condition[0]
        if len(condition) == 1 and term.attribute.name == "object_uuid":
            if term.operator == "=" and term.operand is not None:
                named.add(term.operand)
            elif term.operator == "in":
                named.update(term.operand)
    return sorted(uuid for uuid in named if uuid and is_uuid(uuid, "job_task"))[:TASKS_MAX]


class Tails:
    """The logs that one stream follows."""

    def __init__(self, edge: Edge, conditions: Sequence[Condition], places: str) -> None:
        self._edge = edge
        self._streams = streams_wanted(conditions)
        named = tasks_named(conditions) if self._streams else []
        self._places = {uuid: Place() for uuid in named}
        _take_up(list(self._places.values()), places)
        self._told = {uuid: replace(place) for uuid, place in self._places.items()}

    def __bool__(self) -> bool:
        return bool(self._places)

    def cursor(self) -> str:
        """Return how far each log has been told, for a reader that comes back."""
        return "".join(f",{place.number}.{place.offset}" for place in self._told.values())

    def tell(self, line: Line) -> None:
        """Take note that a line is sent next."""
        self._told[line.task_uuid] = Place(line.number, line.end)

    async def read(self, request: Request) -> list[Line]:
        """Return what has arrived since the last call, at most a piece of each log.

        Raises:
            JobTasksError: the reader may not read any more.
        """
        lines: list[Line] = []
        for uuid, place in self._places.items():
            attempt = self._attempt(request, uuid, place)
            if attempt is not None:
                lines += await self._edge.in_thread(self._piece, attempt, place)
        return lines

    def _attempt(self, request: Request, uuid: str, place: Place) -> AttemptRecord | None:
        """Return the attempt to read: the one begun, or when that is told the next."""
        try:
            found = self._edge.glance(
                request, lambda ctx, caller: tasks.attempts(ctx, caller, uuid)
            )
        except NotFound:
            return None
        later = [attempt for attempt in found if attempt.number >= place.number]
        for attempt in later:
            if attempt.number > place.number:
                place.number, place.offset = attempt.number, 0
            if attempt.state < AttemptState.ENDED:
                self._edge.follow(attempt.id)
                return attempt
            path = logs.log_path(self._edge.world.log_dir, attempt)
            if logs.extent_of(path).file_bytes > place.offset:
                return attempt
        return None

    def _piece(self, attempt: AttemptRecord, place: Place) -> list[Line]:
        path = logs.log_path(self._edge.world.log_dir, attempt)
        size = logs.extent_of(path).file_bytes - place.offset
        if size <= 0:
            return []
        data = b"".join(logs.read_frames(path, min(size, PIECE_BYTES), place.offset))
        frames = list(_frames(data))
        if not frames:
            # A frame larger than a piece; agents write smaller ones.
            data = b"".join(logs.read_frames(path, size, place.offset))
            frames = list(_frames(data))[:1]
        begin, place.offset = place.offset, place.offset + frames[-1].end
        return [
            Line(
                attempt.task_uuid,
                attempt.job_uuid,
                attempt.number,
                self._streams[frame.mark],
                frame.text,
                begin + frame.end,
            )
            for frame in frames
            if frame.mark in self._streams
        ]


class _Frame(NamedTuple):
    mark: bytes
    text: str
    end: int


def _frames(data: bytes) -> Iterator[_Frame]:
    """Yield each whole frame."""
    start = 0
    while start + HEADER.size <= len(data):
        mark, length = HEADER.unpack_from(data, start)
        end = start + HEADER.size + length
        if end > len(data):
            return
        yield _Frame(mark, data[start + HEADER.size : end].decode(errors="replace"), end)
        start = end


def _take_up(places: list[Place], text: str) -> None:
    """Put places where an earlier stream had told to; text that is none says nothing."""
    words = text.split(",")[1:]
    if len(words) != len(places):
        return
    for place, word in zip(places, words, strict=True):
        number, _, offset = word.partition(".")
        if number.isdecimal() and offset.isdecimal():
            place.number, place.offset = int(number), int(offset)


def as_entry(line: Line) -> Mapping[str, Any]:
    """Return what was written as an entry of the log."""
    return {
        "kind": "arvados#log",
        "object_uuid": line.task_uuid,
        "object_kind": "arvados#jobTask",
        "event_type": line.stream,
        "properties": {"text": line.text, "attempt": line.number, "job_uuid": line.job_uuid},
    }
