"""Attempts' logs on the server: files of frames, named by uuids only (R13, R38)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobtasks.core.errors import Invalid
from jobtasks.protocol.frames import HEADER, NOTE, STDERR, STDOUT
from jobtasks.protocol.messages import LogChunk
from jobtasks.store.records import AttemptRecord

PIECE_BYTES = 256 * 1024
"""What is held in memory of a log that is read."""
STREAMS = {
    None: frozenset({STDOUT, STDERR, NOTE}),
    "stdout": frozenset({STDOUT}),
    "stderr": frozenset({STDERR}),
}
"""Frames by the name of a stream; None: both, and what the agent remarked."""
OVERHEAD = 3
"""A file may be so many times its log: many short frames have long headers."""


def streams_named(name: str | None) -> frozenset[bytes]:
    """Return the marks of the frames that parameter `stream` asks for.

    Raises:
        Invalid: there is no such stream.
    """
    if name not in STREAMS:
        raise Invalid("stream must be stdout or stderr")
    return STREAMS[name]


def log_path(log_dir: Path, attempt: AttemptRecord) -> Path:
    """Return where an attempt's log is kept."""
    return path_in(log_dir, attempt.job_uuid, attempt.task_uuid, attempt.number)


def path_in(log_dir: Path, job_uuid: str, task_uuid: str, number: int) -> Path:
    """Return where the log of one attempt of a task is kept."""
    return log_dir / job_uuid / f"{task_uuid}.{number}.log"


def remove_job_logs(log_dir: Path, job_uuid: str) -> None:
    """Remove the logs of a deleted job."""
    shutil.rmtree(log_dir / job_uuid, ignore_errors=True)


def remove_task_logs(log_dir: Path, job_uuid: str, task_uuid: str) -> None:
    """Remove the logs of a deleted task."""
    for path in (log_dir / job_uuid).glob(f"{task_uuid}.*.log"):
        path.unlink(missing_ok=True)


def store_chunks(
    log_dir: Path, attempts: Iterable[AttemptRecord], chunks: Iterable[LogChunk], log_bytes_max: int
) -> list[int]:
    """Write the chunks of known attempts, put them on disk, and return the attempts' ids.

    A repeated chunk overwrites the same bytes; one outside the limits of a log is left out; one
    that comes after the log was removed is dropped, and the agent need not keep it either.
    """
    known = {attempt.id: attempt for attempt in attempts}
    end_max = log_bytes_max * OVERHEAD
    stored: list[int] = []
    for chunk in chunks:
        attempt = known.get(chunk.attempt)
        if attempt is not None and 0 <= chunk.offset <= end_max - len(chunk.data):
            if attempt.log_removed_at is None:
                _store_chunk(log_path(log_dir, attempt), chunk)
            stored.append(chunk.attempt)
    return stored


def _store_chunk(path: Path, chunk: LogChunk) -> None:
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _write_all(file, chunk.data, chunk.offset)
        if chunk.final:
            os.ftruncate(file, chunk.offset + len(chunk.data))
        os.fsync(file)
    finally:
        os.close(file)


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def log_size(path: Path, streams: frozenset[bytes]) -> int:
    """Return how many bytes the streams have in the log so far; 0 when there is no log."""
    try:
        with path.open("rb") as file:
            return sum(length for length in _spans(file, streams))
    except FileNotFoundError:
        return 0


class Extent(NamedTuple):
    """How much of a log is here, in whole frames."""

    file_bytes: int
    output_bytes: int
    """What the process wrote to both streams: without headers and remarks."""


def extent_of(path: Path) -> Extent:
    """Return how much there is of a log; nothing when there is no file."""
    size = output = 0
    try:
        with path.open("rb") as file:
            end = os.fstat(file.fileno()).st_size
            while len(header := file.read(HEADER.size)) == HEADER.size:
                stream, length = HEADER.unpack(header)
                if size + HEADER.size + length > end:
                    break
                size += HEADER.size + length
                output += length if stream != NOTE else 0
                file.seek(size)
    except FileNotFoundError:
        pass
    return Extent(size, output)


def read_frames(path: Path, file_bytes: int, start: int = 0) -> Iterator[bytes]:
    """Yield `file_bytes` of a log's file as it is, from `start` on, in pieces."""
    with path.open("rb") as file:
        file.seek(start)
        while file_bytes and (piece := file.read(min(file_bytes, PIECE_BYTES))):
            file_bytes -= len(piece)
            yield piece


def read_log(path: Path, streams: frozenset[bytes], start: int, stop: int) -> Iterator[bytes]:
    """Yield the streams' bytes from `start` up to `stop`, in order of arrival, in pieces."""
    gathered: list[bytes] = []
    size = position = 0
    with path.open("rb") as file:
        for length in _spans(file, streams):
            skipped = min(max(start - position, 0), length)
            file.seek(skipped, os.SEEK_CUR)
            wanted = min(length, stop - position) - skipped
            position += length
            while wanted > 0 and (piece := file.read(min(wanted, PIECE_BYTES))):
                gathered.append(piece)
                wanted -= len(piece)
                size += len(piece)
                if size >= PIECE_BYTES:
                    yield b"".join(gathered)
                    gathered, size = [], 0
            if position >= stop:
                break
    if gathered:
        yield b"".join(gathered)


def _spans(file: BinaryIO, streams: frozenset[bytes]) -> Iterator[int]:
    """Yield the length of each frame of `streams`, the file standing at its first byte.

    A frame that has not arrived whole counts as far as it has; what arrives meanwhile does not.
    """
    end = os.fstat(file.fileno()).st_size
    position = 0
    while position + HEADER.size <= end:
        if len(header := file.read(HEADER.size)) < HEADER.size:
            # It was cut off meanwhile.
            return
        stream, length = HEADER.unpack(header)
        position += HEADER.size
        length = min(length, end - position)
        if stream in streams:
            yield length
        position += length
        file.seek(position)
