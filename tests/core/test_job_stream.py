"""A job's stream is known to be whole, or refused; which jobs may go, and what cannot be."""

from __future__ import annotations

import msgspec
import pytest

from jobtasks.core import moving
from jobtasks.core.errors import Conflict, Invalid, RequestError, TooLarge
from jobtasks.core.job_stream import (
    AttachmentLine,
    EndLine,
    JobLine,
    Line,
    Owner,
    PackLine,
    Splitter,
    Tail,
    TaskLine,
    encoded,
)

LINE_BYTES_MAX = 2000
JOB = JobLine(
    format=1,
    program="a test",
    uuid="zzzzz-8i9sb-00000000000000j",
    owner=Owner(uuid="zzzzz-tpzed-00000000000000u"),
    tasks=2,
    next_qsequence=2,
    attributes={"state": "Cancelled", "managed": 1, "seeded": 1},
)
FILE = b"two\nlines \xff\0"


def task(number: int) -> TaskLine:
    return TaskLine(
        uuid=f"zzzzz-ot0gb-{number:015}",
        qsequence=number,
        sequence=0,
        state="waiting",
        created_at=1,
        modified_at=2,
    )


def stream() -> bytes:
    """Return a stream with a file and two tasks."""
    tail, data = Tail(), b""
    lines: list[Line] = [JOB, PackLine(), AttachmentLine(file_bytes=len(FILE)), task(0), task(1)]
    for line in lines:
        tail.count(line)
        piece = encoded(line) + (FILE + b"\n" if isinstance(line, AttachmentLine) else b"")
        tail.add(piece)
        data += piece
    return data + encoded(tail.end())


def read(data: bytes, piece_bytes: int = LINE_BYTES_MAX) -> list[Line | bytes]:
    """Return all of a stream that comes in pieces."""
    splitter = Splitter(LINE_BYTES_MAX)
    found: list[Line | bytes] = []
    for first in range(0, len(data), piece_bytes):
        found += splitter.feed(data[first : first + piece_bytes])
    splitter.close()
    return found


def test_pieces_of_any_size() -> None:
    """The records and the file are the same."""
    data = stream()
    whole = read(data)
    assert [*whole[:2], *whole[4:6]] == [JOB, PackLine(), task(0), task(1)]
    end = whole[-1]
    assert isinstance(end, EndLine) and (end.packs, end.packs_missing) == (0, 1)
    for size in (1, 2, 7, 100):
        found = read(data, size)
        assert b"".join(item for item in found if isinstance(item, bytes)) == FILE
        assert [item for item in found if not isinstance(item, bytes)] == [*whole[:3], *whole[4:]]


def test_no_cut_and_no_flip_goes_unnoticed() -> None:
    """Wherever it is."""
    data = stream()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 4
        for damaged in (data[:place], bytes(flipped)):
            with pytest.raises(RequestError):
                read(damaged)


def test_what_is_too_long_or_too_new() -> None:
    """A line is never held beyond its limit, and another format is told."""
    with pytest.raises(TooLarge):
        read(encoded(JOB) + b"x" * (LINE_BYTES_MAX + 1))
    with pytest.raises(Invalid, match="format 2"):
        read(encoded(JOB).replace(b'"format":1', b'"format":2'))
    with pytest.raises(Invalid, match="follows the end"):
        read(stream() + b"\n")


@pytest.mark.rule("R7b", "R17")
def test_which_jobs_may_go() -> None:
    """What our manager would start, or has a process, may not; a foreign job may at any time."""
    for state in ("Queued", "Running"):
        with pytest.raises(Conflict, match=state):
            moving.refuse_at_work(state, managed=True, live=0)
    with pytest.raises(Conflict, match="not ended"):
        moving.refuse_at_work("Cancelled", managed=True, live=1)
    moving.refuse_at_work("Failed", managed=True, live=0)
    moving.refuse_at_work("Running", managed=False, live=0)


def test_what_can_be_resumed() -> None:
    """A job of ours that is not complete; the others come as they are."""
    moving.state_of_job(JOB)
    assert moving.can_resume(JOB)
    for changed in ({"state": "Complete"}, {"managed": 0}):
        line = msgspec.structs.replace(JOB, attributes={**JOB.attributes, **changed})
        moving.state_of_job(line)
        assert not moving.can_resume(line)
