"""The five methods that every resource has: list, create, show, update, delete (R41)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.conditional import if_changed
from jobtasks.api.edge import Edge, is_rehearsal
from jobtasks.api.keys import key_of
from jobtasks.api.parsing import (
    Body,
    parse_fields,
    parse_record,
    raw_fields,
    read_arguments,
    read_body,
)
from jobtasks.api.rendering import render_page, select
from jobtasks.core.filters import Query, parse_query, parse_select
from jobtasks.core.resources import Resource
from jobtasks.core.settings import Settings
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import Name
from jobtasks.service.listing import Page
from jobtasks.store.records import (
    JobRecord,
    LogRecord,
    NodeRecord,
    TaskRecord,
    TokenRecord,
    UserRecord,
)

R = TypeVar("R", JobRecord, TaskRecord, UserRecord, TokenRecord, NodeRecord, LogRecord)
BASE = "/arvados/v1"
LARGE_BYTES = 64 * 1024
"""From this size on a body is decoded, or an answer rendered, outside the event loop's thread."""
LARGE_ITEMS = 50


@dataclass(frozen=True, slots=True)
class Methods(Generic[R]):
    """The service's methods for one resource."""

    page: Callable[[Context, Caller, Query], Page[R]]
    show: Callable[[Context, Caller, str], R]
    render: Callable[[R], dict[str, Any]]
    create: Callable[[Context, Caller, dict[str, Any], Name | None], R] | None = None
    """None: no client creates any."""
    update: Callable[..., R] | None = None
    """None: its records are never changed."""
    delete: Callable[[Context, Caller, str], R] | None = None
    """None: they are never deleted."""


class Collection(Generic[R]):
    """Request handlers of one resource."""

    updates_are_brief = False
    """Whether an update takes a few statements, whatever it changes (`Edge.write`)."""

    def __init__(self, edge: Edge, resource: Resource, methods: Methods[R]) -> None:
        self.edge = edge
        self.resource = resource
        self.methods: Methods[R] = methods
        self.settings = edge.world.settings

    def routes(self) -> list[Route]:
        """Return the routes of the collection and its members."""
        collection = f"{BASE}/{self.resource.name}"
        member = collection + "/{uuid}"
        routes = [
            Route(collection, self.index, methods=["GET"]),
            Route(member, self.show, methods=["GET"]),
        ]
        if self.methods.create is not None:
            routes.append(Route(collection, self.create, methods=["POST"]))
        if self.methods.update is not None:
            routes.append(Route(member, self.update, methods=["PUT", "PATCH"]))
        if self.methods.delete is not None:
            routes.append(Route(member, self.delete, methods=["DELETE"]))
        return routes

    async def index(self, request: Request) -> Response:
        """Answer with one page."""
        items_max = self.settings.list_items_max
        return await self.listed(
            request, parse_query(self.resource, request.query_params, items_max)
        )

    async def listed(self, request: Request, query: Query) -> Response:
        """Answer with the page that `query` asks for."""
        page = await self.edge.read(
            request, lambda ctx, caller: self.methods.page(ctx, caller, query)
        )
        if len(page.items) < LARGE_ITEMS:
            return self._page(page, query)
        return await self.edge.in_thread(self._page, page, query)

    def _page(self, page: Page[R], query: Query) -> Response:
        return json_answer(render_page(self.resource, page, self.methods.render, query.select))

    async def create(self, request: Request) -> Response:
        """Create one record and answer with it."""
        create = self.methods.create
        assert create is not None, "there is no such route"
        body = await self.record(request)
        names = self.selected(request, body.parameters)
        record = await self.edge.write_once(
            request,
            body.key,
            lambda ctx, caller: create(ctx, caller, body.attributes, body.key),
        )
        return self.answer(record, names)

    async def show(self, request: Request) -> Response:
        """Answer with one record."""
        uuid = request.path_params["uuid"]
        names = self.selected(request)
        record = self.edge.glance(request, lambda ctx, caller: self.methods.show(ctx, caller, uuid))
        return self.shown(request, record, names)

    async def update(self, request: Request) -> Response:
        """Change one record and answer with it; a PUT or a form brings a whole record back (R7)."""
        update = self.methods.update
        assert update is not None, "there is no such route"
        uuid = request.path_params["uuid"]
        body = await self.record(request)
        whole = body.whole or request.method == "PUT"
        names = self.selected(request, body.parameters)
        record = await self.edge.write(
            request,
            lambda ctx, caller: update(ctx, caller, uuid, body.attributes, whole=whole),
            brief=self.updates_are_brief,
        )
        return self.answer(record, names)

    async def delete(self, request: Request) -> Response:
        """Delete one record and answer with what it was."""
        delete = self.methods.delete
        assert delete is not None, "there is no such route"
        uuid = request.path_params["uuid"]
        names = self.selected(request)
        record = await self.edge.write(request, lambda ctx, caller: delete(ctx, caller, uuid))
        if not is_rehearsal(request):
            await self.edge.in_thread(self.forget, record)
        return self.answer(record, names)

    def forget(self, record: R) -> None:
        """Remove what is kept of a deleted record outside the database."""

    async def record(self, request: Request) -> Body:
        """Return the record that a request brings."""
        self.edge.admit_body(request)
        fields = parse_fields(self.resource, request, self.settings)
        if fields is not None:
            return self.named(request, fields, raw_fields(request))
        raw = await read_body(request, self.settings.body_bytes_max)
        return await self.parsed(request, parse_record, raw)

    async def parsed(
        self, request: Request, parse: Callable[[Resource, bytes, Settings], Body], raw: bytes
    ) -> Body:
        """Return a body parsed, a large one in a thread, and named."""

        def parse_and_name() -> Body:
            return self.named(request, parse(self.resource, raw, self.settings), raw)

        if len(raw) < LARGE_BYTES:
            return parse_and_name()
        return await self.edge.in_thread(parse_and_name)

    def named(self, request: Request, body: Body, raw: bytes) -> Body:
        """Return a body with what tells its request from a repeat (R22)."""
        return replace(body, key=key_of(request, raw, self.edge.deliveries))

    async def arguments(self, request: Request) -> dict[str, Any]:
        """Return the arguments that a method's body brings."""
        self.edge.admit_body(request)
        return await read_arguments(request, self.settings)

    def selected(
        self, request: Request, parameters: Mapping[str, Any] | None = None
    ) -> tuple[str, ...] | None:
        """Return the attributes that the answer is to show; the address wins over the body."""
        value = request.query_params.get("select")
        if value is None and parameters is not None:
            value = parameters.get("select")
        return parse_select(self.resource, value)

    def shown(self, request: Request, record: R, names: tuple[str, ...] | None) -> Response:
        """Return one record as an answer to a GET, or that the client has it already."""
        return if_changed(request, self.answer(record, names))

    def answer(self, record: R, names: tuple[str, ...] | None) -> Response:
        """Return one record as an answer."""
        return json_answer(select(self.methods.render(record), names))
