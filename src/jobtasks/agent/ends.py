"""Ends of attempts that the server has not acknowledged, kept in a journal on disk."""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import zlib
from pathlib import Path

import msgspec

from jobtasks.protocol.messages import Ended

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("=II")
_STOP = b"\0" * _HEADER.size
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Ended])

COMPACT_BYTES = 16 * 1024 * 1024
"""A journal that has grown to this is written anew with what is still in it."""


class Ends:
    """What the server must still hear; repeated in every sync until it is acknowledged.

    The journal is for the next agent on this node. One write per turn of the loop, no fsync: it has
    to survive the agent, not the machine (the machine's loss is the node's loss). When nothing is
    left it is written from the start again; a record says how long it is and has a checksum, a
    length of 0 ends the journal. A disk that takes no more costs only this: the server then ends
    what the agent cannot tell.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        found, self._position = _read(Path(path).read_bytes())
        self._fresh: list[Ended] = []
        self.pending: dict[int, Ended] = {ended.attempt: ended for ended in found}
        """Attempt → its end, until acknowledged; at first those of the agent before."""
        self.changes = 0
        """Grows when there is something to tell the server."""

    def add(self, ended: Ended) -> None:
        """Take one end; `flush` writes it down."""
        self.pending[ended.attempt] = ended
        self._fresh.append(ended)
        self.changes += 1

    def flush(self) -> None:
        """Write down what was added since the last call."""
        if not self._fresh:
            return
        if self._position > COMPACT_BYTES:
            self._position = 0
            self._fresh = list(self.pending.values())
        body = _encoder.encode(self._fresh)
        self._fresh = []
        record = _HEADER.pack(len(body), zlib.crc32(body)) + body
        try:
            os.pwrite(self._fd, record + _STOP, self._position)
            self._position += len(record)
        except OSError as error:
            logger.warning("cannot write the journal of ends: %s", error)

    def acknowledge(self, attempts: list[int]) -> None:
        """Forget ends that are on record at the server."""
        for attempt in attempts:
            self.pending.pop(attempt, None)
        if not self.pending and not self._fresh:
            self._position = 0


def _read(data: bytes) -> tuple[list[Ended], int]:
    """Return the ends of a journal up to the first record that is not whole, and its position.

    Some may have been acknowledged: the server then only says so again.
    """
    found: list[Ended] = []
    position = 0
    while position + _HEADER.size <= len(data):
        length, checksum = _HEADER.unpack_from(data, position)
        body = data[position + _HEADER.size : position + _HEADER.size + length]
        if not length or len(body) != length or zlib.crc32(body) != checksum:
            break
        with contextlib.suppress(msgspec.DecodeError):
            found += _decoder.decode(body)
        position += _HEADER.size + length
    return found, position
