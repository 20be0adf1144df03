"""A job carried from one service in process to another, as the interface does it over HTTP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from jobtasks.core.job_stream import (
    AttemptLine,
    EndLine,
    FamilyLine,
    JobLine,
    Line,
    Splitter,
    Tail,
    TaskLine,
    encoded,
)
from jobtasks.service import exports, imported_attempts, imported_tasks, imports
from jobtasks.service.import_under_way import Import
from jobtasks.service.imports import Imported
from jobtasks.testing.service import LocalService

LINE_BYTES_MAX = 1_000_000


def lines_of(service: LocalService, uuid: str) -> list[Line]:
    """Return what is exported of a job, but for the last line and files."""
    departure = service.call(exports.begin, uuid)
    found: list[Line] = [departure.line, *departure.families]
    reads: list[Any] = [exports.tasks_after, exports.attempts_after]
    for read in reads:
        page, last = service.call(read, departure.job.id, 0)
        while last is not None:
            found += page
            page, last = service.call(read, departure.job.id, last)
    service.call(exports.check_unchanged, departure.job)
    return found


def whole(lines: Iterable[Line]) -> bytes:
    """Return lines as a stream with its end."""
    tail, data = Tail(), b""
    for line in lines:
        tail.count(line)
        tail.add(encoded(line))
        data += encoded(line)
    return data + encoded(tail.end())


def parts(data: bytes) -> list[Line | bytes]:
    """Return what a stream has before its end."""
    return [item for item in Splitter(LINE_BYTES_MAX).feed(data) if not isinstance(item, EndLine)]


def with_files(items: Iterable[Line | bytes]) -> bytes:
    """Return lines, and files in one piece each, as a stream with its end."""
    tail, data = Tail(), b""
    for item in items:
        piece = item + b"\n" if isinstance(item, bytes) else encoded(item)
        if not isinstance(item, bytes):
            tail.count(item)
        tail.add(piece)
        data += piece
    return data + encoded(tail.end())


def changed(line: JobLine, **attributes: Any) -> JobLine:
    """Return a job's record with other attributes."""
    return msgspec.structs.replace(line, attributes={**line.attributes, **attributes})


def stream_of(service: LocalService, uuid: str) -> bytes:
    """Return a job as it is exported, without files."""
    return whole(lines_of(service, uuid))


def ended(data: bytes) -> EndLine:
    """Return the last line of a stream."""
    splitter = Splitter(LINE_BYTES_MAX)
    assert list(splitter.feed(data))
    return splitter.close()


def begin(service: LocalService, data: bytes, *, resumes: bool = False) -> Import | None:
    """Begin to take a stream."""
    line: Any = next(Splitter(LINE_BYTES_MAX).feed(data))
    return service.call(imports.begin, line, resumes=resumes)


def add(service: LocalService, arriving: Import, data: bytes) -> Splitter:
    """Take all records of a stream but the first and the last."""
    splitter = Splitter(LINE_BYTES_MAX)
    items = list(splitter.feed(data))
    families = [item for item in items if isinstance(item, FamilyLine)]
    tasks = [item for item in items if isinstance(item, TaskLine)]
    attempts = [item for item in items if isinstance(item, AttemptLine)]
    service.call(imports.add_families, arriving, families)
    checked = imported_tasks.checked_tasks(service.world, arriving, tasks)
    service.call(imported_tasks.add_tasks, arriving, checked)
    service.call(imported_attempts.add_attempts, arriving, attempts)
    return splitter


def bring(service: LocalService, data: bytes, *, resumes: bool = False) -> Imported:
    """Import a stream."""
    arriving = begin(service, data, resumes=resumes)
    assert arriving is not None
    splitter = add(service, arriving, data)
    service.call(imports.check_whole, arriving)
    return service.call(imports.finish, arriving, splitter.close())
