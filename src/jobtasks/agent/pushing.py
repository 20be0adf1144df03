"""Brings logs to the server: many small ones in one call, large ones in bounded pieces."""

from __future__ import annotations

import logging

import msgspec

from jobtasks.agent.channel import Connection, Server
from jobtasks.agent.logs import Log
from jobtasks.agent.loop import Loop
from jobtasks.protocol.messages import LOG_CHUNK_BYTES_MAX, LogChunk, LogChunks, LogStored

logger = logging.getLogger(__name__)

PUSH_SECONDS_MAX = 60.0
"""How long one call may take."""

CHUNKS_MAX = 256
"""Logs in one call."""

FOLLOW_SECONDS = 0.2
"""How often a log that somebody reads is looked at for more."""

RETRY_SECONDS = 1.0

_decoder = msgspec.msgpack.Decoder(LogStored)


class Pusher:
    """A queue of logs and one connection; a log leaves when the server has all of it.

    A repeated chunk overwrites the same bytes, so a call that came to nothing is sent again.
    """

    def __init__(self, loop: Loop, server: Server) -> None:
        self._loop = loop
        self._connection = Connection(loop, server)
        self._queue: dict[int, Log] = {}
        self._stored: dict[int, Log] = {}
        self._sent: list[LogChunk] = []
        self._not_before = 0.0
        self._failures = 0
        self.agent = 0
        """The agent's id for the server; 0 before it has joined."""

    def add(self, log: Log) -> None:
        """Push what there is of a log, all of it when it is final."""
        self._queue[log.attempt] = log

    def ended(self, attempts: list[int]) -> None:
        """The ends of these are on record: files that are stored may go."""
        for attempt in attempts:
            if log := self._stored.pop(attempt, None):
                log.remove()
            elif log := self._queue.get(attempt):
                log.ended = True

    @property
    def idle(self) -> bool:
        """Is there nothing to push?"""
        return not self._queue

    def pump(self) -> None:
        """Send the next call if there is something to send and none is under way."""
        if not self._queue or self._connection.busy or not self.agent:
            return
        if self._loop.now() < self._not_before:
            return
        self._sent = self._chunks()
        if self._sent:
            body = msgspec.msgpack.encode(LogChunks(self.agent, self._sent))
            self._connection.post(
                "/agent/v1/logs", body, PUSH_SECONDS_MAX, self._answered, self._failed
            )

    def _chunks(self) -> list[LogChunk]:
        room = LOG_CHUNK_BYTES_MAX
        chunks: list[LogChunk] = []
        for log in list(self._queue.values()):
            if room <= 0 or len(chunks) == CHUNKS_MAX:
                break
            if (chunk := self._chunk(log, room)) is not None:
                chunks.append(chunk)
                room -= len(chunk.data)
        return chunks

    def _chunk(self, log: Log, room: int) -> LogChunk | None:
        try:
            data = log.read(log.pushed, min(room, log.size - log.pushed))
        except OSError as error:
            logger.warning("attempt %d: its log is gone: %s", log.attempt, error)
            self._drop(log)
            return None
        if not data and not log.final:
            del self._queue[log.attempt]
            return None
        # A file that is shorter than it was ends here, too.
        final = log.final and (log.pushed + len(data) >= log.size or not data)
        return LogChunk(log.attempt, log.pushed, data, final)

    def _drop(self, log: Log) -> None:
        self._queue.pop(log.attempt, None)
        log.remove()

    def _answered(self, status: int, body: bytes) -> None:
        try:
            if status != 200:
                raise ValueError(f"status {status}")
            stored = set(_decoder.decode(body).stored)
        except (ValueError, msgspec.DecodeError) as error:
            self._failed(str(error))
            return
        if self._failures:
            logger.info("logs are pushed again")
        self._failures = 0
        for chunk in self._sent:
            if (log := self._queue.get(chunk.attempt)) is not None:
                self._take_answer(log, chunk, chunk.attempt in stored)

    def _take_answer(self, log: Log, chunk: LogChunk, stored: bool) -> None:
        if not stored:
            logger.warning("attempt %d: the server does not want its log", log.attempt)
            if log.final:
                self._drop(log)
            else:
                del self._queue[log.attempt]
            return
        log.pushed = chunk.offset + len(chunk.data)
        if not chunk.final:
            return
        del self._queue[log.attempt]
        if log.ended:
            log.remove()
        else:
            self._stored[log.attempt] = log

    def _failed(self, reason: str) -> None:
        self._failures += 1
        if self._failures == 1:
            logger.info("cannot push logs: %s", reason)
        self._not_before = self._loop.now() + RETRY_SECONDS
        self._loop.at(self._not_before, lambda: None)
