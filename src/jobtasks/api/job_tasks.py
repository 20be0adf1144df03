"""Job tasks over HTTP: the five methods, bulk create, attempts and their logs, explain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.bulk import create_in_slices
from jobtasks.api.collection import BASE, Collection, Methods
from jobtasks.api.edge import Edge, is_rehearsal, token_in
from jobtasks.api.items import Items
from jobtasks.api.parsing import (
    Body,
    parse_fields,
    parse_record,
    parse_records,
    raw_fields,
    read_body,
)
from jobtasks.api.ranges import Span, asked_span, range_headers
from jobtasks.api.rendering import render_attempt, render_task
from jobtasks.api.reports import Report
from jobtasks.core.errors import Invalid, NotFound, NotLoggedIn
from jobtasks.core.filters import parse_select
from jobtasks.core.resources import RESOURCES, is_digits
from jobtasks.core.scopes import call_of
from jobtasks.core.states import AttemptState
from jobtasks.core.timestamps import render_time
from jobtasks.service import explain, listing, logs, tasks
from jobtasks.service.creation import BulkCreated
from jobtasks.service.idempotency import Name
from jobtasks.store.records import TaskRecord

TEXT = "text/plain; charset=utf-8"
BRIEF_ITEMS = 32
"""A create of more tasks is left to the writer's thread."""

METHODS = Methods(
    page=listing.list_tasks,
    create=tasks.create,
    show=tasks.show,
    update=tasks.update,
    delete=tasks.delete,
    render=render_task,
)


class JobTasks(Collection[TaskRecord]):
    """Request handlers of ``/arvados/v1/job_tasks``."""

    updates_are_brief = True

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["job_tasks"], METHODS)

    def routes(self) -> list[Route]:
        """Return the routes of job tasks."""
        member = f"{BASE}/job_tasks/{{uuid}}"
        return [
            *super().routes(),
            Route(member + "/attempts", self.attempts, methods=["GET"]),
            Route(member + "/explain", self.explain, methods=["GET"]),
            Route(member + "/log", self.log, methods=["GET"]),
        ]

    def forget(self, record: TaskRecord) -> None:
        """Remove the logs of a deleted task."""
        logs.remove_task_logs(self.edge.world.log_dir, record.job_uuid, record.uuid)

    async def create(self, request: Request) -> Response:
        """Create one task and answer with it, or many and answer with their uuids (R2)."""
        body = await self._records(request)
        if body.large is not None:
            return json_answer(await self._create_large(request, body.large, body.key))
        if body.items is not None:
            return json_answer(await self._create_many(request, body.items, body.key))
        names = self.selected(request, body.parameters)
        task = await self.edge.write_once(
            request,
            body.key,
            lambda ctx, caller: tasks.create(ctx, caller, body.attributes, body.key),
            brief=True,
        )
        return self.answer(task, names)

    async def report(self, report: Report) -> Response:
        """Do as `update` for a request that says nothing else (api/reports.py)."""
        token = token_in(report.authorization)
        if token is None:
            raise NotLoggedIn
        body = parse_record(self.resource, report.body, self.settings)
        names = parse_select(self.resource, body.parameters.get("select"))
        whole = report.method == "PUT"
        record = await self.edge.write_as(
            token,
            call_of(report.method, report.path),
            lambda ctx, caller: tasks.update(
                ctx, caller, report.uuid, body.attributes, whole=whole
            ),
        )
        return self.answer(record, names)

    async def _create_large(self, request: Request, items: Items, key: Name | None) -> BulkCreated:
        if not is_rehearsal(request):
            created = await create_in_slices(self.edge, request, items, key)
            if created is not None:
                return created
        decoded = await self.edge.in_thread(items.decoded, 0, len(items))
        return await self._create_many(request, decoded, key)

    async def _create_many(
        self, request: Request, items: list[dict[str, Any]], key: Name | None
    ) -> BulkCreated:
        return await self.edge.write_once(
            request,
            key,
            lambda ctx, caller: tasks.create_many(ctx, caller, items, key),
            brief=len(items) <= BRIEF_ITEMS,
        )

    async def _records(self, request: Request) -> Body:
        self.edge.admit_body(request)
        fields = parse_fields(self.resource, request, self.settings)
        if fields is not None:
            return self.named(request, fields, raw_fields(request))
        raw = await read_body(request, self.settings.bulk_body_bytes_max)
        return await self.parsed(request, parse_records, raw)

    async def attempts(self, request: Request) -> Response:
        """Answer with every attempt of a task, first to last (R13)."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(request, lambda ctx, caller: tasks.attempts(ctx, caller, uuid))
        return json_answer({"items": [render_attempt(attempt) for attempt in found]})

    async def explain(self, request: Request) -> Response:
        """Answer with the reasons why a task does not run (R31)."""
        uuid = request.path_params["uuid"]
        reasons = await self.edge.read(
            request, lambda ctx, caller: explain.task_reasons(ctx, caller, uuid)
        )
        return json_answer({"reasons": reasons})

    async def log(self, request: Request) -> Response:
        """Answer with an attempt's log, the newest one's by default: whole, or a part."""
        uuid = request.path_params["uuid"]
        number = _attempt_number(request.query_params.get("attempt"))
        streams = logs.streams_named(request.query_params.get("stream"))
        attempt = await self.edge.read(
            request, lambda ctx, caller: tasks.attempt(ctx, caller, uuid, number)
        )
        if attempt.log_removed_at is not None:
            raise NotFound(
                f"The log of this attempt was removed at {render_time(attempt.log_removed_at)}:"
                " it was too old to be kept."
            )
        if attempt.state < AttemptState.ENDED:
            self.edge.follow(attempt.id)
        path = logs.log_path(self.edge.world.log_dir, attempt)
        size = await self.edge.in_thread(logs.log_size, path, streams)
        span = asked_span(request, size)
        headers = range_headers(span, size)
        if span is None or span.stop == span.start or request.method == "HEAD":
            return Response(None, 416 if span is None else span.status, headers, media_type=TEXT)
        pieces = _pieces(path, streams, span)
        return StreamingResponse(pieces, span.status, headers, media_type=TEXT)


def _pieces(path: Path, streams: frozenset[bytes], span: Span) -> Iterator[bytes]:
    return logs.read_log(path, streams, span.start, span.stop)


def _attempt_number(value: str | None) -> int | None:
    if not value:
        return None
    if not is_digits(value) or int(value) < 1:
        raise Invalid("attempt must be a number, from 1")
    return int(value)
