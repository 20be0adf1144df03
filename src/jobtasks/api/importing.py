"""``POST jobs/import``: a job from another server, taken as it comes (ADR 0026).

Held are the records of one slice and one piece of a file. Each slice is a short write; the job is
seen when its last line has come and is right.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge, is_rehearsal, require_token
from jobtasks.api.forms import FORM
from jobtasks.api.packing import pack_of
from jobtasks.core import job_stream
from jobtasks.core.errors import Invalid
from jobtasks.core.job_stream import (
    AttachmentLine,
    AttemptLine,
    EndLine,
    FamilyLine,
    JobLine,
    Line,
    PackLine,
    Splitter,
    TaskLine,
)
from jobtasks.core.resources import as_boolean
from jobtasks.service import (
    access,
    arrivals,
    import_under_way,
    imported_attempts,
    imported_tasks,
    imports,
)
from jobtasks.service.import_under_way import Import
from jobtasks.service.imported_files import ImportedFiles
from jobtasks.service.imports import Imported

PATH = f"{BASE}/jobs/import"
SLICE_LINES = 500
SLICE_BYTES = 4 * 1024 * 1024
"""A slice is written when it has so many records, or so much of them has come."""
HEAR_SECONDS = 10.0
"""So often at least an import is heard whose files take long."""


class Importing:
    """The request handler of ``jobs/import``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route(PATH, self.take, methods=["POST"])]

    async def take(self, request: Request) -> Response:
        """Take a job that comes; answer when it is there."""
        require_token(request)
        self._edge.glance(request, lambda ctx, caller: access.require_admin(caller, "import a job"))
        if FORM in request.scope:
            raise Invalid("A job that is imported is no form: send it as application/octet-stream.")
        resumes = as_boolean(request.query_params.get("resume") or False)
        if resumes is None:
            raise Invalid("resume parameter must be a boolean, true or false")
        receiver = Receiver(self._edge, request, resumes=resumes)
        try:
            async for piece in request.stream():
                await receiver.take(piece)
            imported = await receiver.finish()
        finally:
            await receiver.close()
        return json_answer(rendered(imported))


def rendered(imported: Imported) -> dict[str, Any]:
    """Return what is said of a job that was imported."""
    job = imported.job
    facts = {"uuid": job.uuid, "state": job.state, "owner_uuid": job.owner_uuid}
    return {**facts, **imported.facts}


class Receiver:
    """One import, piece by piece."""

    def __init__(self, edge: Edge, request: Request, *, resumes: bool) -> None:
        self._edge = edge
        self._request = request
        self._resumes = resumes
        self._is_rehearsal = is_rehearsal(request)
        self._settings = edge.world.settings
        self._splitter = Splitter(job_stream.line_bytes_max(self._settings.record_bytes_max))
        self._line: JobLine | None = None
        self._arriving: Import | None = None
        """None also where the job is here already: what comes is compared, and not kept."""
        self._files: ImportedFiles | None = None
        self._is_over = False
        self._slice: list[Line] = []
        self.held_bytes = 0
        """What has come since the last write."""
        self._heard_at = time.monotonic()

    async def take(self, piece: bytes) -> None:
        """Take the next bytes."""
        if self._silent_seconds > arrivals.SILENT_SECONDS:
            # Another import may have its place, and its files, by now.
            raise arrivals.given_up()
        self.held_bytes += len(piece)
        items = self._splitter.feed(piece)
        while line := await self._edge.in_thread(self._collect, items):
            await self._begin(line)
        is_full = len(self._slice) >= SLICE_LINES or self.held_bytes >= SLICE_BYTES
        if is_full or self._silent_seconds > HEAR_SECONDS:
            await self._write()

    @property
    def _silent_seconds(self) -> float:
        return time.monotonic() - self._heard_at

    def _collect(self, items: Iterator[Line | bytes]) -> JobLine | None:
        """Take what comes up to a job's line, and return that; None: there is no more."""
        for item in items:
            if isinstance(item, JobLine):
                return item
            if isinstance(item, bytes):
                if self._files is not None:
                    self._files.write(item)
            elif self._arriving is not None:
                self._begin_file(item)
                if not isinstance(item, EndLine | AttachmentLine | PackLine):
                    self._slice.append(item)
        return None

    def _begin_file(self, line: Line) -> None:
        """Take the file that follows a record, if one does; an attachment may be empty."""
        if self._files is None or self._arriving is None:
            return
        if isinstance(line, PackLine) and line.file_bytes:
            self._files.begin_pack(line, self._arriving.columns["script_hash"])
        elif isinstance(line, AttachmentLine) or (
            isinstance(line, AttemptLine) and line.file_bytes
        ):
            self._files.begin(line)

    async def _begin(self, line: JobLine) -> None:
        self._line = line
        arriving = await self._edge.write(
            self._request,
            lambda ctx, caller: imports.begin(ctx, caller, line, resumes=self._resumes),
        )
        self._arriving = arriving
        if arriving is not None and not self._is_rehearsal:
            self._files = ImportedFiles(
                self._edge.world.log_dir, line.uuid, self._settings, self._edge.packs
            )
            # What a crash left of an earlier import.
            await self._edge.in_thread(self._files.remove)

    async def _write(self) -> None:
        """Write the slice; or say at least that the import goes on."""
        arriving, lines = self._arriving, self._slice
        self._slice, self.held_bytes = [], 0
        if arriving is None:
            self._heard_at = time.monotonic()
            return
        for kind, group in groupby(lines, type):
            alike = list(group)
            for first in range(0, len(alike), SLICE_LINES):
                await self._write_alike(arriving, kind, alike[first : first + SLICE_LINES])
        if not lines and not self._is_rehearsal:
            await self._edge.write(
                self._request, lambda ctx, caller: import_under_way.hear(ctx, caller, arriving)
            )
        if self._files is not None:
            await self._edge.in_thread(self._files.hear)
        self._heard_at = time.monotonic()

    async def _write_alike(self, arriving: Import, kind: type, lines: list[Any]) -> None:
        if kind is TaskLine:
            tasks = await self._edge.in_thread(
                imported_tasks.checked_tasks, self._edge.world, arriving, lines
            )
            if not self._is_rehearsal:
                await self._edge.write(
                    self._request,
                    lambda ctx, caller: imported_tasks.add_tasks(ctx, caller, arriving, tasks),
                )
        elif not self._is_rehearsal:
            add = imports.add_families if kind is FamilyLine else imported_attempts.add_attempts
            await self._edge.write(
                self._request, lambda ctx, caller: add(ctx, caller, arriving, lines)
            )

    async def finish(self) -> Imported:
        """Have the job exist, now that all of it has come."""
        end = self._splitter.close()
        await self._write()
        assert self._line is not None, "a stream begins with its job"
        uuid, arriving = self._line.uuid, self._arriving
        if arriving is None:
            return await self._edge.read(
                self._request,
                lambda ctx, caller: imports.imported_before(ctx, caller, uuid, end),
            )
        if self._is_rehearsal:
            await self._look_for_scripts(arriving, end)
            return Imported(arriving.job, imports.facts_of(arriving, end, []))
        assert self._files is not None
        await self._edge.in_thread(self._files.keep)
        await self._edge.read(
            self._request, lambda ctx, caller: imports.check_whole(ctx, caller, arriving)
        )
        await self._look_for_scripts(arriving, end)
        imported = await self._edge.write(
            self._request, lambda ctx, caller: imports.finish(ctx, caller, arriving, end)
        )
        self._is_over = True
        return imported

    async def _look_for_scripts(self, arriving: Import, end: EndLine) -> None:
        """Find out whether nodes can be sent the very scripts that the job was made with.

        Where they cannot, a job that is queued at once goes by what its directory holds here, as
        in any retry.
        """
        pack = arriving.columns["script_hash"]
        is_coming = self._is_rehearsal and end.packs > 0
        is_here = is_coming or (
            bool(pack) and await self._edge.in_thread(self._edge.packs.keep, pack)
        )
        if pack:
            arriving.scripts = ("came" if end.packs else "here") if is_here else "missing"
        if arriving.resumes and not is_here:
            arriving.pack = await pack_of(self._edge, self._request, arriving.columns)

    async def close(self) -> None:
        """Leave nothing behind of what did not come whole; nor when the client has gone away."""
        arriving, files = self._arriving, self._files
        if self._is_over or arriving is None or files is None:
            return
        await self._edge.in_thread(files.let_go)
        # As long as the import is on record no other of this job begins, which would have files.
        if await self._edge.look(lambda ctx: arrivals.is_there(ctx, arriving.arrival_id)):
            await self._edge.in_thread(files.remove)
        self._edge.submit(lambda ctx: arrivals.leave(ctx, arriving.arrival_id))
