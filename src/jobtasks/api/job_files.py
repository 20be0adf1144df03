"""What of a job is files: its attachment, and the logs of many of its tasks in one answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge, is_rehearsal
from jobtasks.api.forms import FORM
from jobtasks.core.errors import Invalid, TooLarge
from jobtasks.core.states import AttemptState
from jobtasks.core.timestamps import render_time
from jobtasks.protocol.frames import TASK, frame
from jobtasks.service import access, attachments, logs, tasks
from jobtasks.service.context import Caller, Context
from jobtasks.service.tasks import NewestAttempt

BYTES = "application/octet-stream"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
WRITE_BYTES = 1024 * 1024
"""So much of an attachment is gathered before a thread writes it."""
QSEQUENCE_MAX = 2**32 - 1
T = TypeVar("T")
_Count = Annotated[int, msgspec.Meta(ge=0, le=QSEQUENCE_MAX)]


class JobFiles:
    """Request handlers of ``jobs/{uuid}/attachment`` and ``jobs/{uuid}/logs``."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.settings = edge.world.settings

    def routes(self) -> list[Route]:
        """Return the routes."""
        member = f"{BASE}/jobs/{{uuid}}"
        return [
            Route(member + "/attachment", self.attach, methods=["PUT"]),
            Route(member + "/attachment", self.attachment, methods=["GET"]),
            Route(member + "/logs", self.logs, methods=["GET"]),
        ]

    async def attach(self, request: Request) -> Response:
        """Keep bytes that the job's tasks will read, in place of any that were sent before."""
        uuid = request.path_params["uuid"]
        job = self.edge.glance(
            request, lambda ctx, caller: attachments.receiving_job(ctx, caller, uuid)
        )
        if FORM in request.scope:
            raise Invalid(f"An attachment is no form: send it as {BYTES}.")
        self._check_size(int(_digits(request.headers.get("content-length", ""))))
        incoming = await self.edge.in_thread(
            attachments.Incoming, self.edge.world.log_dir, job.uuid
        )
        with incoming:
            size = await self._receive(request, incoming)
            if not is_rehearsal(request):
                await self.edge.in_thread(incoming.keep)
        return json_answer({"attachment_bytes": size})

    async def _receive(self, request: Request, incoming: attachments.Incoming) -> int:
        gathered = bytearray()
        size = 0
        async for piece in request.stream():
            size += len(piece)
            self._check_size(size)
            gathered += piece
            if len(gathered) >= WRITE_BYTES:
                await self.edge.in_thread(incoming.write, bytes(gathered))
                gathered.clear()
        await self.edge.in_thread(incoming.write, bytes(gathered))
        return size

    def _check_size(self, size: int) -> None:
        limit = self.settings.attachment_bytes_max
        if size > limit:
            raise TooLarge(f"An attachment must have at most {limit} bytes.")

    async def attachment(self, request: Request) -> Response:
        """Answer with the bytes that were attached to the job."""
        uuid = request.path_params["uuid"]
        self.edge.glance(request, lambda ctx, caller: access.visible_job(ctx, caller, uuid))
        path = attachments.path_of(self.edge.world.log_dir, uuid)
        size = await self.edge.in_thread(attachments.size_of, path)
        headers = {**NO_SNIFFING, "Content-Length": str(size)}
        if request.method == "HEAD":
            return Response(None, 200, headers, media_type=BYTES)
        return StreamingResponse(attachments.read(path), 200, headers, media_type=BYTES)

    async def logs(self, request: Request) -> Response:
        """Answer with the logs of attempts of many tasks, in frames."""
        uuid = request.path_params["uuid"]
        wanted = _wanted(request.query_params, self.settings.list_items_max)
        found = await self.edge.read(request, lambda ctx, caller: wanted.read(ctx, caller, uuid))
        for attempt in found:
            if attempt.state < AttemptState.ENDED:
                self.edge.follow(attempt.id)
        frames = _frames(self.edge.world.log_dir, uuid, found, wanted.starts)
        if request.method == "HEAD":
            frames = iter(())
        return StreamingResponse(frames, 200, NO_SNIFFING, media_type=BYTES)


class _Wanted(NamedTuple):
    """Which attempts' logs a call asks for."""

    read: Callable[[Context, Caller, str], list[NewestAttempt]]
    starts: Mapping[tuple[int, int], int] = {}
    """How much of an attempt's log, given by (qsequence, number), the caller has: `file_bytes`."""


def _wanted(parameters: Mapping[str, str], items_max: int) -> _Wanted:
    places = parameters.get("places")
    which = parameters.get("attempts") or "newest"
    if which not in ("newest", "all"):
        raise Invalid("attempts must be newest or all")
    if places:
        given = _numbers("places", places, list[tuple[_Count, _Count, int]], items_max)
        starts = {(qsequence, number): max(start, 0) for qsequence, number, start in given}
        named = list(starts)
        return _Wanted(
            lambda ctx, caller, uuid: tasks.named_attempts(ctx, caller, uuid, named), starts
        )
    text = parameters.get("qsequences")
    chosen = _numbers("qsequences", text, list[_Count], items_max) if text else range(items_max)
    read = tasks.all_attempts if which == "all" else tasks.newest_attempts
    return _Wanted(lambda ctx, caller, uuid: read(ctx, caller, uuid, list(chosen)))


def _frames(
    log_dir: Path,
    job_uuid: str,
    attempts: list[NewestAttempt],
    starts: Mapping[tuple[int, int], int],
) -> Iterator[bytes]:
    """Yield for each attempt a frame about it, then its log as far as it is here."""
    for attempt in attempts:
        path = logs.path_in(log_dir, job_uuid, attempt.task_uuid, attempt.number)
        start = starts.get((attempt.qsequence, attempt.number), 0)
        extent = logs.extent_of(path)
        yield frame(TASK, msgspec.json.encode(_about(attempt, extent)))
        if extent.file_bytes > start:
            yield from logs.read_frames(path, extent.file_bytes - start, start)


def _about(attempt: NewestAttempt, extent: logs.Extent) -> dict[str, Any]:
    return {
        "job_task_uuid": attempt.task_uuid,
        "qsequence": attempt.qsequence,
        "sequence": attempt.sequence,
        "attempt": attempt.number,
        "state": AttemptState(attempt.state).word,
        "log_bytes": attempt.log_bytes,
        "stored_bytes": extent.output_bytes,
        "file_bytes": extent.file_bytes,
        "log_removed_at": attempt.log_removed_at and render_time(attempt.log_removed_at),
    }


def _digits(text: str) -> str:
    return text if text.isascii() and text.isdigit() else "0"


def _numbers(name: str, text: str, shape: type[list[T]], items_max: int) -> list[T]:
    """Return the list of numbers that a parameter spells in JSON."""
    try:
        found = msgspec.json.decode(text, type=shape)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Invalid(f"{name} must be a JSON list of numbers below {QSEQUENCE_MAX + 1}") from None
    if len(found) > items_max:
        raise Invalid(f"{name} must have at most {items_max} items")
    return found
