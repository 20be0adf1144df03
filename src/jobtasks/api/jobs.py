"""Jobs over HTTP: the five methods; cancel, retry, output, levels, explain, waiting for the end."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api import packing
from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE, Methods
from jobtasks.api.edge import Edge
from jobtasks.api.job_views import JobViews, chosen_of
from jobtasks.api.keys import key_of
from jobtasks.api.parsing import Body, count_of
from jobtasks.api.rendering import (
    render_job,
    render_job_attempt,
    render_job_size,
    render_levels,
)
from jobtasks.core.errors import Invalid
from jobtasks.core.filters import parse_filters, parse_query
from jobtasks.core.packs import NO_SCRIPT, Pack
from jobtasks.core.resources import RESOURCES, as_boolean
from jobtasks.core.reuse import parse_reuse
from jobtasks.core.states import FINAL, JobState
from jobtasks.service import (
    explain,
    foreign_jobs,
    jobs,
    listing,
    log_space,
    logs,
    scripts,
    sizes,
    tasks,
)
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import JobRecord

LOOK_AGAIN_SECONDS = 5.0
"""A wait reads the job at least so often, whatever was or was not told."""
QUEUE_ORDER = "priority desc, created_at"
TEXT = "text/plain; charset=utf-8"
NO_SNIFFING = {"X-Content-Type-Options": "nosniff"}
Cursor = tuple[int, int] | None

METHODS = Methods(
    page=listing.list_jobs,
    create=jobs.create,
    show=jobs.show,
    update=jobs.update,
    delete=jobs.delete,
    render=render_job,
)


class Jobs(JobViews):
    """Request handlers of ``/arvados/v1/jobs``."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["jobs"], METHODS)

    def routes(self) -> list[Route]:
        """Return the routes of jobs."""
        member = f"{BASE}/jobs/{{uuid}}"
        return [
            Route(f"{BASE}/jobs/queue", self.queue, methods=["GET"]),
            Route(f"{BASE}/jobs/queue_size", self.queue_size, methods=["GET"]),
            *super().routes(),
            Route(member + "/cancel", self.cancel, methods=["POST"]),
            Route(member + "/lock", self.lock, methods=["POST"]),
            Route(member + "/retry", self.retry, methods=["POST"]),
            Route(member + "/output", self.output, methods=["GET"]),
            Route(member + "/levels", self.levels, methods=["GET"]),
            Route(member + "/explain", self.explain, methods=["GET"]),
            Route(member + "/attempts", self.attempts, methods=["GET"]),
            Route(member + "/sizes", self.sizes, methods=["GET"]),
        ]

    def forget(self, record: JobRecord) -> None:
        """Remove the logs of a deleted job's tasks."""
        logs.remove_job_logs(self.edge.world.log_dir, record.uuid)

    async def record(self, request: Request) -> Body:
        """Return the job that a request brings; a new one's script must look fit to be run.

        Whoever may not create jobs learns nothing about files.
        """
        body = await super().record(request)
        if request.method == "POST":
            self.edge.glance(request, jobs.require_creator)
            if foreign_jobs.is_begun(self.edge.world, body.attributes):
                return body
            script, directory = (body.attributes.get(name) for name in ("script", "script_version"))
            if script or directory:
                await self.edge.in_thread(scripts.check, script, directory)
        return body

    async def create(self, request: Request) -> Response:
        """Create a job, or find one that does the same (R41), and answer with it."""
        body = await self.record(request)
        names = self.selected(request, body.parameters)
        parameters = {**body.parameters, **request.query_params}
        reuse, attributes = parse_reuse(parameters, body.attributes)
        pack = NO_SCRIPT
        if not foreign_jobs.is_begun(self.edge.world, attributes):
            pack = await packing.pack_of(self.edge, request, attributes)

        def create(ctx: Context, caller: Caller) -> JobRecord:
            job = jobs.create(ctx, caller, attributes, body.key, reuse, pack)
            jobs.start_at_once(ctx, job.uuid)
            return job

        job = await self.edge.write_once(request, body.key, create, brief=reuse is None)
        return self.answer(job, names)

    async def update(self, request: Request) -> Response:
        """Change a job and answer with it; another script comes with what is beside it."""
        uuid = request.path_params["uuid"]
        body = await self.record(request)
        whole = body.whole or request.method == "PUT"
        names = self.selected(request, body.parameters)
        pack = await self._changed_pack(request, uuid, body.attributes)
        job = await self.edge.write(
            request,
            lambda ctx, caller: jobs.update(
                ctx, caller, uuid, body.attributes, whole=whole, pack=pack
            ),
        )
        return self.answer(job, names)

    async def _changed_pack(
        self, request: Request, uuid: str, attributes: Mapping[str, Any]
    ) -> Pack | None:
        if not {"script", "script_version"} & attributes.keys():
            return None
        job = self.edge.glance(request, lambda ctx, caller: jobs.show(ctx, caller, uuid))
        if job.state != JobState.QUEUED or not job.managed or job.seeded:
            return None
        return await packing.pack_of_changed(self.edge, request, job, attributes)

    async def queue(self, request: Request) -> Response:
        """Answer with one page of the queued jobs, those of the highest priority first."""
        given = {name: value for name, value in request.query_params.items() if value}
        parameters = {"order": QUEUE_ORDER, **given}
        query = parse_query(self.resource, parameters, self.settings.list_items_max)
        queued = parse_filters(self.resource, [["state", "=", JobState.QUEUED]])
        return await self.listed(request, replace(query, filters=query.filters + queued))

    async def queue_size(self, request: Request) -> Response:
        """Answer with the number of queued jobs, whoever's they are."""
        return json_answer({"queue_size": await self.edge.read(request, jobs.queue_size)})

    async def lock(self, request: Request) -> Response:
        """Lock a queued job: a manager of the caller's own runs it from now on (R7b)."""
        uuid = request.path_params["uuid"]
        body = await self.arguments(request)
        names = self.selected(request, body)
        key = key_of(request, msgspec.json.encode(body), self.edge.deliveries)
        job = await self.edge.write_once(
            request, key, lambda ctx, caller: jobs.lock(ctx, caller, uuid, key)
        )
        return self.answer(job, names)

    async def show(self, request: Request) -> Response:
        """Answer with a job; with ``wait``, when it is final or so many seconds are over."""
        seconds = _wait_seconds(request.query_params.get("wait"))
        if not seconds:
            return await super().show(request)
        uuid = request.path_params["uuid"]
        names = self.selected(request)
        until = time.monotonic() + min(seconds, self.settings.wait_seconds_max)
        with self.edge.hub.listen(uuid) as bell:
            while True:
                bell.clear()
                job = self.edge.glance(request, lambda ctx, caller: jobs.show(ctx, caller, uuid))
                left = until - time.monotonic()
                if job.state in FINAL or left <= 0 or self.edge.hub.closing:
                    return self.shown(request, job, names)
                await bell.wait(min(left, LOOK_AGAIN_SECONDS))

    async def cancel(self, request: Request) -> Response:
        """Cancel a job (R21)."""
        uuid = request.path_params["uuid"]
        body = await self.arguments(request)
        reason = body.get("reason")
        if reason is not None and not isinstance(reason, str):
            raise Invalid("reason must be text")
        cascade = as_boolean(request.query_params.get("cascade", body.get("cascade") or False))
        if cascade is None:
            raise Invalid("cascade parameter must be a boolean, true or false")
        names = self.selected(request, body)
        job = await self.edge.write(
            request, lambda ctx, caller: jobs.cancel(ctx, caller, uuid, reason, cascade=cascade)
        )
        return self.answer(job, names)

    async def retry(self, request: Request) -> Response:
        """Queue a failed or cancelled job again: whole, some of its tasks, or a family (R23)."""
        uuid = request.path_params["uuid"]
        body = await self.arguments(request)
        chosen = chosen_of(body)
        constraints = body.get("runtime_constraints")
        if constraints is not None and not isinstance(constraints, dict):
            raise Invalid("runtime_constraints must be a JSON object")
        names = self.selected(request, body)
        key = key_of(request, msgspec.json.encode(body), self.edge.deliveries)
        pack = await packing.pack_of_retried(self.edge, request, uuid)
        job = await self.edge.write_once(
            request,
            key,
            lambda ctx, caller: jobs.retry(ctx, caller, uuid, chosen, constraints, key, pack),
        )
        return self.answer(job, names)

    async def levels(self, request: Request) -> Response:
        """Answer with how many tasks of each sequence are where."""
        uuid = request.path_params["uuid"]
        levels = await self.edge.read(request, lambda ctx, caller: jobs.levels(ctx, caller, uuid))
        return json_answer(render_levels(levels))

    async def explain(self, request: Request) -> Response:
        """Answer with what keeps a job from starting, going on or ending (R31)."""
        uuid = request.path_params["uuid"]
        reasons = await self.edge.read(
            request, lambda ctx, caller: explain.job_reasons(ctx, caller, uuid)
        )
        return json_answer({"reasons": reasons})

    async def sizes(self, request: Request) -> Response:
        """Answer with how much room a job takes."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(request, lambda ctx, caller: sizes.of_job(ctx, caller, uuid))
        log_dir = self.edge.world.log_dir
        uuids = (found.job.uuid,)
        files = await self.edge.in_thread(log_space.space_of, log_dir, uuids)
        only_logs = await self.edge.in_thread(log_space.space_of, log_dir, uuids, log_space.LOG)
        others = max(0, files.bytes - only_logs.bytes)
        return json_answer(render_job_size(found, only_logs, others))

    async def attempts(self, request: Request) -> Response:
        """Answer with a job's attempts in the order in which they began, after a given place."""
        uuid = request.path_params["uuid"]
        items_max = self.settings.list_items_max
        after = count_of(request, "after", 0)
        limit = min(count_of(request, "limit", items_max), items_max)
        found = await self.edge.read(
            request, lambda ctx, caller: tasks.attempts_of_job(ctx, caller, uuid, after, limit)
        )
        last = found[-1].id if found else after
        return json_answer({"items": [render_job_attempt(each) for each in found], "after": last})

    async def output(self, request: Request) -> Response:
        """Answer with the whole collated output (R20), page by page."""
        first, cursor = await self._output_page(request, None)
        if cursor is None:
            return Response("".join(first), media_type=TEXT, headers=NO_SNIFFING)
        return StreamingResponse(
            self._output_pages(request, first, cursor), media_type=TEXT, headers=NO_SNIFFING
        )

    async def _output_page(self, request: Request, after: Cursor) -> tuple[list[str], Cursor]:
        uuid = request.path_params["uuid"]
        return await self.edge.read(
            request, lambda ctx, caller: jobs.output_page(ctx, caller, uuid, after)
        )

    async def _output_pages(
        self, request: Request, pieces: list[str], cursor: Cursor
    ) -> AsyncIterator[bytes]:
        yield "".join(pieces).encode()
        while cursor is not None:
            pieces, cursor = await self._output_page(request, cursor)
            yield "".join(pieces).encode()


def _wait_seconds(value: str | None) -> float:
    """Return parameter `wait` in seconds, 0 when there is none."""
    if not value:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Invalid("wait must be a number of seconds")
    return seconds
