"""``/openapi.json``: the interface described for machines (OpenAPI 3.1).

Made of the routes themselves and of the table of resources (core/resources.py), so that it cannot
say anything else than the program. What neither of them knows stands in api/operations.py.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api import operations, schemas
from jobtasks.api.answers import JSON
from jobtasks.api.collection import Collection
from jobtasks.api.forms import CONTENT_TYPE
from jobtasks.api.operations import Details
from jobtasks.core.resources import RESOURCES, Resource

Json = dict[str, Any]
BODY_METHODS = ("POST", "PUT", "PATCH")
REFUSALS = {
    400: "Not HTTP, or a body that is not JSON.",
    401: "No token, or one that is unknown, expired or revoked.",
    403: "This token may not do that.",
    404: "No such record, or none that is yours to see.",
    405: "The method that a POST asks to be taken for does not exist here.",
    408: "The request did not arrive in time.",
    413: "Past a limit of size, depth or number.",
    415: "The body has an encoding that is not understood.",
    422: "A value or a change that the rules refuse; nothing was stored.",
    429: "Too many requests are under way; repeat it after `Retry-After` seconds.",
    431: "Address and headers are too large.",
    500: "A fault of the server; its log says more.",
    503: "The server cannot do this now; repeat it after `Retry-After` seconds.",
}
WITH_BODY = frozenset({405, 413, 415})
WITH_TOKEN = frozenset({401, 403})


class Description:
    """The handler of ``/openapi.json``; describes `routes` and itself."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [*routes, *self.routes()]
        self._text: bytes | None = None

    def routes(self) -> list[Route]:
        """Return the route of the description."""
        return [Route("/openapi.json", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """Answer with the description of this interface; needs no token."""
        if self._text is None:
            self._text = msgspec.json.encode(describe(self._routes))
        return Response(self._text, media_type=JSON)


def describe(routes: Iterable[Route]) -> Json:
    """Return the document that describes these routes."""
    paths: Json = {}
    for route in routes:
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, method)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "JobTasks",
            "version": version("jobtasks"),
            "description": "Jobs made of tasks, by the conventions of the Arvados REST API.",
        },
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Error": schemas.ERROR,
                **{schemas.name_of(row): schemas.record(row) for row in RESOURCES.values()},
                **{f"{schemas.name_of(row)}List": schemas.page(row) for row in RESOURCES.values()},
            },
        },
    }


def _operation(route: Route, method: str) -> Json:
    resource = _resource_of(route)
    details = operations.details(route, method, resource)
    summary = (route.endpoint.__doc__ or "").strip().splitlines()[0]
    operation: Json = {
        "operationId": _name(route, method),
        "summary": summary,
        "parameters": [*_path_parameters(route), *details.parameters],
        "responses": _responses(details, has_body=method in BODY_METHODS),
    }
    if details.is_public:
        operation["security"] = []
    if details.body is not None:
        operation["requestBody"] = {"content": _body(details, resource)}
    return operation


def _resource_of(route: Route) -> Resource | None:
    owner = getattr(route.endpoint, "__self__", None)
    return owner.resource if isinstance(owner, Collection) else None


def _name(route: Route, method: str) -> str:
    """Return a name that no other operation has: ``jobs.show``, ``job_tasks.update.put``."""
    words = [word for word in route.path.split("/") if word and "{" not in word]
    place = words[2] if words[:1] == ["arvados"] else words[0].removesuffix(".json")
    several = f".{method.lower()}" if len(set(route.methods or ()) - {"HEAD"}) > 1 else ""
    return f"{place}.{route.endpoint.__name__}{several}"


def _path_parameters(route: Route) -> list[Json]:
    uuid = {"type": "string", "minLength": 1, "example": "zzzzz-8i9sb-000000000000000"}
    return [
        {"name": name, "in": "path", "required": True, "schema": uuid}
        for name in sorted(route.param_convertors)
    ]


def _responses(details: Details, *, has_body: bool) -> Json:
    media: Json = {details.media: {"schema": details.answer}}
    responses: Json = {"200": {"description": "What was asked for.", "content": media}}
    for status, text in details.statuses.items():
        responses[str(status)] = {"description": text}
        if status != 304:
            responses[str(status)]["content"] = media
    error = {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, text in REFUSALS.items():
        if status in WITH_BODY and not has_body:
            continue
        if status in WITH_TOKEN and details.is_public:
            continue
        responses[str(status)] = {"description": text, "content": error}
    return dict(sorted(responses.items()))


def _body(details: Details, resource: Resource | None) -> Json:
    if details.media_in != JSON:
        return {details.media_in: {"schema": details.body}}
    content: Json = {JSON: {"schema": details.body}}
    if details.example is not None:
        content[JSON]["example"] = details.example
    if resource is not None and details.is_record:
        field = {"type": "string", "description": "The record as JSON text."}
        content[CONTENT_TYPE] = {
            "schema": {
                "type": "object",
                "properties": {resource.singular: field, "_method": {"type": "string"}},
            }
        }
    return content
