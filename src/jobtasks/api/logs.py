"""Log entries over HTTP: those that users write, and what happened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from jobtasks.api.collection import Collection, Methods
from jobtasks.api.edge import Edge
from jobtasks.api.rendering import render_log
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.service import listing, user_logs
from jobtasks.store.records import LogRecord

METHODS = Methods(
    page=listing.list_logs,
    create=user_logs.create,
    show=user_logs.show,
    render=render_log,
)


class Logs(Collection[LogRecord]):
    """Request handlers of ``/arvados/v1/logs``."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["logs"], METHODS)

    async def index(self, request: Request) -> Response:
        """Answer with one page; by default in the order in which things happened, newest first."""
        parameters = {**request.query_params, "filters": kinds_as_uuids(request.query_params)}
        query = parse_query(self.resource, parameters, self.settings.list_items_max)
        return await self.listed(request, query)


def kinds_as_uuids(parameters: Mapping[str, str]) -> Any:
    """Return the filters of a request; one on ``object_kind`` asks what ``object_uuid`` is."""
    text = parameters.get("filters")
    if not text or "object_kind" not in text:
        return text
    try:
        filters = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
    if not isinstance(filters, list):
        return text
    return msgspec.json.encode([_kind_as_uuid(element) for element in filters]).decode()


def _kind_as_uuid(element: Any) -> Any:
    if isinstance(element, list) and len(element) == 3 and element[:2] == ["object_kind", "="]:
        return ["object_uuid", "is_a", element[2]]
    return element
