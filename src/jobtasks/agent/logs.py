"""The log of one attempt: frames on disk, a cap, the end of stderr in memory.

The frames (see `jobtasks.protocol.frames`) are in pieces: ``17.log`` has the first half of the cap,
``17.log.000001`` and so on are the ring of the last half. Pieces of the ring that fall out are
deleted whole, so nothing is ever rewritten; the kept end is between 15/16 of the half and the half.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from pathlib import Path

from jobtasks.protocol.frames import HEADER, NOTE, STDERR, frame
from jobtasks.protocol.messages import STDERR_LIVE_BYTES_MAX, STDERR_TAIL_BYTES_MAX

RING_PIECES = 16
_HALF_BYTES_MIN = 64 * RING_PIECES
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_NAME = re.compile(r"([0-9]+)\.log(?:\.([0-9]+))?")


class Piece:
    """One file of a log: `size` bytes of frames with `data` bytes of output in them."""

    __slots__ = ("data", "path", "size")

    def __init__(self, path: str, size: int = 0, data: int = 0) -> None:
        self.path = path
        self.size = size
        self.data = data

    def remove(self) -> None:
        """Delete the file; one that is missing or cannot be deleted is left."""
        with contextlib.suppress(OSError):
            Path(self.path).unlink()


class Log:
    """Output of one attempt on its way to the server.

    A full or read-only disk drops output, counted, and never disturbs the attempt. No file exists
    until there is output. `bytes_max` caps the bytes of frames on disk (R38).
    """

    __slots__ = (
        "_fd", "_gap", "_half", "_made", "_piece", "_ring", "_tail", "attempt", "directory",
        "dropped", "ended", "final", "head", "lost", "pushed", "tail_changed",
    )  # fmt: skip

    def __init__(self, directory: str, attempt: int, bytes_max: int) -> None:
        self.attempt = attempt
        self.directory = directory
        self._half = max(bytes_max // 2, _HALF_BYTES_MIN)
        self.head: Piece | None = None
        self._ring: deque[Piece] = deque()
        self._made = 0
        self._piece: Piece | None = None
        self._fd = -1
        self._gap = 0
        self._tail: bytearray | None = None
        self.tail_changed = False
        self.dropped = 0
        """Bytes of output that are not in the log."""
        self.lost = 0
        """Of these, what the disk did not take."""
        self.pushed = 0
        """Bytes of the log's files that the server has."""
        self.final = False
        """Nothing will be added."""
        self.ended = False
        """The server has the end on record: the files may go when they are pushed."""

    @property
    def kept(self) -> int:
        """Bytes of output in the log."""
        return (self.head.data if self.head else 0) + sum(piece.data for piece in self._ring)

    @property
    def size(self) -> int:
        """Bytes of the log's files that will not move any more, so that they can be pushed."""
        head = self.head.size if self.head else 0
        # The note between head and ring is not written yet, and the ring moves.
        return head + sum(piece.size for piece in self._ring) if self.final else head

    @property
    def tail(self) -> bytes:
        """The end of stderr, at most `STDERR_TAIL_BYTES_MAX`."""
        return bytes(self._tail[-STDERR_TAIL_BYTES_MAX:]) if self._tail else b""

    def live_tail(self) -> bytes | None:
        """Return the last 4 KiB of stderr if they changed since the last call, else None."""
        if not self.tail_changed or self._tail is None:
            return None
        self.tail_changed = False
        return bytes(self._tail[-STDERR_LIVE_BYTES_MAX:])

    def add(self, stream: bytes, data: bytes) -> None:
        """Take what one read from a pipe gave."""
        if stream is STDERR:
            self._keep_tail(data)
        if len(data) > self._half and self._ring:
            # More than the whole ring: only its end can stay.
            self.dropped += len(data) - self._half
            data = data[-self._half :]
        view = memoryview(data)
        while view:
            piece = self._room()
            limit = self._half if piece is self.head else self._half // RING_PIECES
            part = view[: max(limit - piece.size - HEADER.size, 1)]
            self._write(piece, stream, part)
            view = view[len(part) :]

    def remark(self, text: str) -> None:
        """Add a line of the agent's own."""
        self._append(self._room(), frame(NOTE, f"[{text}]\n".encode()))

    def _keep_tail(self, data: bytes) -> None:
        tail = self._tail = bytearray() if self._tail is None else self._tail
        tail += data
        if len(tail) > 2 * STDERR_TAIL_BYTES_MAX:
            del tail[:-STDERR_TAIL_BYTES_MAX]
        self.tail_changed = True

    def forget_tail(self) -> None:
        """The end is reported: a log may wait long for the server, and beside many others."""
        self._tail = None

    def _room(self) -> Piece:
        """Return the piece to write to, a new one when the last is full."""
        if self.head is None:
            self.head = self._piece = Piece(f"{self.directory}/{self.attempt}.log")
            return self.head
        assert self._piece is not None
        limit = self._half if self._piece is self.head else self._half // RING_PIECES
        if self._piece.size + HEADER.size < limit:
            return self._piece
        self._made += 1
        self._close()
        piece = self._piece = Piece(f"{self.directory}/{self.attempt}.log.{self._made:06d}")
        self._ring.append(piece)
        if len(self._ring) > RING_PIECES:
            oldest = self._ring.popleft()
            self.dropped += oldest.data
            oldest.remove()
        return piece

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, piece: Piece, stream: bytes, data: memoryview) -> None:
        if self._gap:
            note = f"[{self._gap} bytes were lost here: the agent's disk took no more]\n".encode()
            if not self._append(piece, frame(NOTE, note)):
                self._lose(len(data))
                return
            self._gap = 0
        if self._append(piece, HEADER.pack(stream, len(data)), data):
            piece.data += len(data)
        else:
            self._lose(len(data))

    def _lose(self, size: int) -> None:
        self._gap += size
        self.lost += size
        self.dropped += size

    def _append(self, piece: Piece, *parts: bytes | memoryview) -> bool:
        """Write all parts or nothing."""
        size = sum(len(part) for part in parts)
        try:
            if self._fd < 0:
                self._fd = os.open(piece.path, _FLAGS, 0o600)
            written = os.writev(self._fd, parts)
            if written != size:
                os.ftruncate(self._fd, piece.size)
                return False
        except OSError:
            return False
        piece.size += size
        return True

    def finish(self) -> None:
        """Nothing follows: say between head and ring how much was dropped there."""
        self._close()
        dropped = self.dropped - self._gap
        if self._ring and dropped and self.head is not None:
            self._append_note(f"[{dropped} bytes were dropped here: the log is over its limit]\n")
        self.final = True

    def _append_note(self, text: str) -> None:
        assert self.head is not None
        self._append(self.head, frame(NOTE, text.encode()))
        self._close()

    def read(self, offset: int, size: int) -> bytes:
        """Return at most `size` bytes of the log's files from `offset`; never past `self.size`.

        Errors: OSError when the files are gone.
        """
        found = bytearray()
        for piece in [self.head, *self._ring] if self.head else []:
            assert piece is not None
            want = min(size - len(found), piece.size - offset)
            if want > 0:
                with Path(piece.path).open("rb") as file:
                    file.seek(offset)
                    found += file.read(want)
                offset += want
            offset -= piece.size
            offset = max(offset, 0)
        return bytes(found)

    def remove(self) -> None:
        """Delete all files."""
        self._close()
        for piece in ([self.head] if self.head else []) + list(self._ring):
            piece.remove()


def left_over(directory: str) -> list[Log]:
    """Return the logs that an earlier agent left behind, finished, in order of attempt."""
    found: dict[int, list[tuple[int, Path]]] = {}
    for path in Path(directory).iterdir():
        if match := _NAME.fullmatch(path.name):
            found.setdefault(int(match[1]), []).append((int(match[2] or 0), path))
    return [_adopted(directory, attempt, sorted(found[attempt])) for attempt in sorted(found)]


def _adopted(directory: str, attempt: int, files: list[tuple[int, Path]]) -> Log:
    log = Log(directory, attempt, 0)
    log.head = Piece(f"{directory}/{attempt}.log")
    for number, path in files:
        size = path.stat().st_size
        if number == 0:
            log.head.size = size
        else:
            log._ring.append(Piece(str(path), size))
    if log._ring and files[-1][0] > len(log._ring):
        log._append_note("[bytes were dropped here: the log is over its limit]\n")
    log.final = log.ended = True
    return log
