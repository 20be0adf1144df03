"""``GET jobs/UUID/export``: a job as one stream, for another server (core/job_stream.py).

Read page by page, in threads, while it is sent: what is held is one page, or a piece of a file. Who
reads slowly is waited for; nobody else waits for him.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge
from jobtasks.api.packing import is_kept
from jobtasks.core import job_stream
from jobtasks.core.errors import JobTasksError, NotFound, Unavailable
from jobtasks.core.job_stream import (
    AttachmentLine,
    AttemptLine,
    Line,
    PackLine,
    ProblemLine,
    Tail,
)
from jobtasks.service import attachments, exports, logs
from jobtasks.service.context import Caller, Context
from jobtasks.service.exports import Departure

MEDIA = "application/octet-stream"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
PIECE_BYTES = 256 * 1024
Page = tuple[Sequence[Line], int | None]
Reader = Callable[[Context, Caller, int, int], Page]


class Exporting:
    """The request handler of ``jobs/{uuid}/export``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(f"{BASE}/jobs/{{uuid}}/export", self.export, methods=["GET"])]

    async def export(self, request: Request) -> Response:
        """Answer with a job, its tasks, its attempts and their logs."""
        uuid = request.path_params["uuid"]
        departure = await self._edge.read(
            request, lambda ctx, caller: exports.begin(ctx, caller, uuid)
        )
        if request.method == "HEAD":
            return Response(None, 200, NO_SNIFFING, media_type=MEDIA)
        pieces = self._pieces(request, departure)
        return StreamingResponse(pieces, 200, NO_SNIFFING, media_type=MEDIA)

    async def _pieces(self, request: Request, departure: Departure) -> AsyncIterator[bytes]:
        """Yield the stream; what goes wrong on the way is its last line."""
        sent = _Sent(self._edge.world.log_dir, departure)
        try:
            async for piece in self._parts(request, departure, sent):
                yield piece
        except JobTasksError as problem:
            yield job_stream.encoded(ProblemLine(message=str(problem)))
        else:
            yield job_stream.encoded(sent.tail.end())

    async def _parts(
        self, request: Request, departure: Departure, sent: _Sent
    ) -> AsyncIterator[bytes]:
        yield sent.lines([departure.line])
        if pack := departure.job.script_hash:
            is_there = await is_kept(self._edge, pack)
            path = self._edge.packs.path_of(pack) if is_there else None
            async for piece in self._in_thread(sent.pack(path)):
                yield piece
        async for piece in self._in_thread(sent.attachment()):
            yield piece
        if departure.families:
            yield sent.lines(departure.families)
        async for page in self._pages(request, departure, exports.tasks_after):
            yield await self._edge.in_thread(sent.lines, page)
        async for page in self._pages(request, departure, exports.attempts_after):
            async for piece in self._in_thread(sent.attempts(page)):
                yield piece
        await self._edge.read(
            request, lambda ctx, caller: exports.check_unchanged(ctx, caller, departure.job)
        )

    async def _pages(
        self, request: Request, departure: Departure, read: Reader
    ) -> AsyncIterator[Sequence[Any]]:
        """Yield page after page, each of a snapshot of its own."""
        job_id = departure.job.id

        async def after(place: int) -> Page:
            return await self._edge.read(
                request, lambda ctx, caller: read(ctx, caller, job_id, place)
            )

        page, last = await after(0)
        while last is not None:
            if page:
                yield page
            page, last = await after(last)

    async def _in_thread(self, pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
        while (piece := await self._edge.in_thread(next, pieces, None)) is not None:
            yield piece


class _Sent:
    """What was sent so far, and how more of it is written."""

    def __init__(self, log_dir: Path, departure: Departure) -> None:
        self._log_dir = log_dir
        self._job_uuid = departure.job.uuid
        self.tail = Tail()

    def lines(self, lines: Sequence[Line]) -> bytes:
        """Return records as they are sent."""
        return self._told(b"".join(map(self._line, lines)))

    def _line(self, line: Line) -> bytes:
        self.tail.count(line)
        return job_stream.encoded(line)

    def _told(self, data: bytes) -> bytes:
        self.tail.add(data)
        return data

    def pack(self, path: Path | None) -> Iterator[bytes]:
        """Yield the directory of the job's script; None: it is not there any more."""
        size = path.stat().st_size if path is not None and path.exists() else 0
        yield self.lines([PackLine(file_bytes=size)])
        if path is not None and size:
            yield from self._file(path, size)

    def attachment(self) -> Iterator[bytes]:
        """Yield the job's attachment, if it has one."""
        path = attachments.path_of(self._log_dir, self._job_uuid)
        try:
            size = attachments.size_of(path)
        except NotFound:
            return
        yield self.lines([AttachmentLine(file_bytes=size)])
        if size:
            yield from self._file(path, size)

    def attempts(self, attempts: Sequence[AttemptLine]) -> Iterator[bytes]:
        """Yield attempts, each with its log as far as it is here."""
        gathered = bytearray()
        for attempt in attempts:
            path = logs.path_in(
                self._log_dir, self._job_uuid, attempt.job_task_uuid, attempt.number
            )
            extent = logs.extent_of(path)
            attempt.file_bytes = extent.file_bytes
            self.tail.logs_incomplete += extent.output_bytes < attempt.log_bytes
            gathered += self.lines([attempt])
            for piece in self._file(path, extent.file_bytes) if extent.file_bytes else ():
                gathered += piece
                if len(gathered) >= PIECE_BYTES:
                    yield bytes(gathered)
                    gathered.clear()
        if gathered:
            yield bytes(gathered)

    def _file(self, path: Path, size: int) -> Iterator[bytes]:
        left = size
        try:
            for piece in logs.read_frames(path, size):
                left -= len(piece)
                yield self._told(piece)
        except OSError as error:
            raise Unavailable(f"A file of the job cannot be read: {error.strerror}") from None
        if left:
            raise Unavailable("A file of the job was cut while it was exported; export it again.")
        yield self._told(b"\n")
