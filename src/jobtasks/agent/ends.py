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

PLACE_BYTES = 1024 * 1024
"""What the journal has of the disk from the start."""

COMPACT_BYTES = 16 * 1024 * 1024
"""A journal that has grown to this is written anew with what is still in it."""


class Ends:
    """What the server must still hear; repeated in every sync until it is acknowledged.

    The journal is for the next agent on this node. One write per turn of the loop, no fsync: it has
    to survive the agent, not the machine (the machine's loss is the node's loss). When nothing is
    left it is written from the start again; a record says how long it is and has a checksum, a
    length of 0 ends the journal. Some of its place is taken beforehand, for the time when the disk
    is full; what the disk does not take is tried again in each turn, and kept in memory until then.
    """

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):
            os.posix_fallocate(self._fd, 0, PLACE_BYTES)
        found, self._position = _read(Path(path).read_bytes())
        self._fresh: list[Ended] = []
        self._away = False
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
        record = _HEADER.pack(len(body), zlib.crc32(body)) + body
        if self._write(record + _STOP):
            self._fresh = []
            self._position += len(record)

    def _write(self, data: bytes) -> bool:
        """Write all of it, or say once that the disk does not take it."""
        try:
            if os.pwrite(self._fd, data, self._position) == len(data):
                self._away = False
                return True
            reason = "no space is left"
        except OSError as error:
            reason = error.strerror or str(error)
        if not self._away:
            logger.warning("cannot write the journal of ends: %s", reason)
        self._away = True
        return False

    def acknowledge(self, attempts: list[int]) -> None:
        """Forget ends that are on record at the server."""
        for attempt in attempts:
            self.pending.pop(attempt, None)
        if self._fresh:
            self._fresh = [ended for ended in self._fresh if ended.attempt in self.pending]
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
