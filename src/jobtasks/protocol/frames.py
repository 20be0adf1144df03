"""The format of an attempt's log: chunks of output, each marked with its stream.

A log file is a run of frames in order of arrival. A frame is a header of 5 bytes (one byte for the
stream, the length as 32 bits, big-endian) and the bytes themselves. Agents write it, the server
stores it as it came and reads it back by stream.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import BinaryIO

HEADER = struct.Struct(">cI")
STDOUT = b"o"
STDERR = b"e"
NOTE = b"n"
"""A remark of the agent's own: bytes that were dropped."""
TASK = b"t"
"""In answers with the logs of many tasks: JSON about the task whose frames follow."""


def frame(stream: bytes, data: bytes) -> bytes:
    """Return one frame of the log file."""
    return HEADER.pack(stream, len(data)) + data


def read_frames(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Yield (stream, data) of each whole frame; a frame cut off at the end yields what is there."""
    while len(header := file.read(HEADER.size)) == HEADER.size:
        stream, length = HEADER.unpack(header)
        yield stream, file.read(length)


def parse_frames(pieces: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Do the same for bytes that come in pieces of any size; a frame cut off is left out."""
    rest = b""
    for piece in pieces:
        rest += piece
        start = 0
        while start + HEADER.size <= len(rest):
            stream, length = HEADER.unpack_from(rest, start)
            end = start + HEADER.size + length
            if end > len(rest):
                break
            yield stream, rest[start + HEADER.size : end]
            start = end
        rest = rest[start:]
