"""``/discovery/v1/apis/arvados/v1/rest``: the interface described for clients of Arvados (R41).

Those clients make their methods of this document. It is made of the routes of collections, of the
table of resources (core/resources.py) and of what api/operations.py knows of each operation: of
what ``/openapi.json`` is made of, so that the two cannot differ.

Its readers are strict in ways of their own: a method without ``response`` gives bytes instead of
records, a property of type ``array`` without ``items`` ends the Python client, a schema without a
resource the one for Ruby, and defaults must be text. Hence the spellings below.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api import operations, schemas
from jobtasks.api.answers import JSON
from jobtasks.api.collection import BASE, Collection
from jobtasks.api.conditional import is_known, tag_of
from jobtasks.api.edge import Edge, now
from jobtasks.api.operations import DISCOVERY, Details
from jobtasks.core.identifiers import TYPES
from jobtasks.core.resources import Attribute, Kind, Resource
from jobtasks.core.timestamps import render_time

Json = dict[str, Any]
MAX_AGE_SECONDS = 3600
"""How long a client may go by what it has: so long it may miss what a new version offers."""
REVISION = "20161103"
"""Clients compare it as text; those that know a later one would expect what is not here."""
KEPT_SECONDS = 14 * 86400
COLLECTIONS = {
    "defaultCollectionReplication": 2,
    "defaultTrashLifetime": KEPT_SECONDS,
    "blobSignatureTtl": KEPT_SECONDS,
}
"""Of Arvados' collections, which are not here; clients look the numbers up without asking."""
METHODS = {"index": ("list", "index"), "show": ("get", "show"), "delete": ("delete", "destroy")}
"""What clients call a handler, where they do not call it by its own name; newest first."""
VERBS = ("GET", "POST", "PUT", "DELETE")
"""Which of a handler's methods is published: the first of these."""
TYPES_OF_KINDS = {Kind.OBJECT: "Hash", Kind.LIST: "Array"}
"""Where Arvados does not call a type as we do."""
SCHEMA_TYPES: dict[str, str] = {"number": "float"}
"""The same of JSON schemas; the command `arv` knows no numbers."""
IN_PATH = {
    "type": "string",
    "required": True,
    "location": "path",
    "description": "Which one: its UUID.",
}
EVERYWHERE = {
    "alt": "The format of answers; JSON whatever is said.",
    "fields": "Ignored.",
    "key": "Ignored.",
    "oauth_token": "The token, for clients that cannot send headers.",
}


class Discovery:
    """The handler of the discovery document; describes `routes`."""

    def __init__(self, edge: Edge, routes: Iterable[Route]) -> None:
        self._edge = edge
        self._routes = list(routes)
        self._text: bytes | None = None
        self._tag = ""

    def routes(self) -> list[Route]:
        """Return the route of the document; old clients fetch it by POST."""
        return [Route(DISCOVERY, self.discover, methods=["GET", "POST"])]

    async def discover(self, request: Request) -> Response:
        """Answer with what clients of Arvados make their methods of; needs no token."""
        if self._text is None:
            self._text = msgspec.json.encode(self._document())
            self._tag = tag_of(self._text)
        headers = {"Cache-Control": f"max-age={MAX_AGE_SECONDS}, public", "ETag": self._tag}
        if is_known(request, self._tag):
            return Response(None, 304, headers)
        return Response(self._text, 200, headers, media_type=JSON)

    def _document(self) -> Json:
        world = self._edge.world
        settings = world.settings
        return {
            **_heading(world.external_url + "/"),
            **COLLECTIONS,
            "generatedAt": render_time(now()),
            "uuidPrefix": world.uuids.prefix,
            "maxRequestSize": max(settings.body_bytes_max, settings.bulk_body_bytes_max),
            "maxItemsPerResponse": settings.list_items_max,
            **describe(self._routes),
        }


def _heading(root: str) -> Json:
    """Return what the document says of the whole; `root` is the server's address and a slash."""
    service = BASE.removeprefix("/") + "/"
    return {
        "kind": "discovery#restDescription",
        "discoveryVersion": "v1",
        "id": "arvados:v1",
        "name": "arvados",
        "version": "v1",
        "revision": REVISION,
        "source_version": version("jobtasks"),
        "title": "JobTasks",
        "description": "Jobs made of tasks, by the conventions of the Arvados REST API.",
        "documentationLink": f"{root}openapi.json",
        "protocol": "rest",
        "rootUrl": root,
        "baseUrl": root + service,
        "basePath": f"/{service}",
        "servicePath": service,
        "batchPath": "batch",
        "parameters": {
            name: {"type": "string", "location": "query", "description": text}
            for name, text in EVERYWHERE.items()
        },
        "auth": {
            "oauth2": {
                "scopes": {f"{root}auth/arvados": {"description": "Everything a token may do."}}
            }
        },
    }


def describe(routes: Iterable[Route]) -> Json:
    """Return the ``schemas`` and ``resources`` of the document."""
    found: dict[str, Json] = {}
    described: Json = {}
    for route, resource in _of_collections(routes):
        methods = found.setdefault(resource.name, {"methods": {}})["methods"]
        methods.update(_methods(route, resource))
        name = schemas.name_of(resource)
        described[name] = _record(resource)
        described[f"{name}List"] = _page(resource)
    return {"schemas": described, "resources": found}


def _of_collections(routes: Iterable[Route]) -> Iterator[tuple[Route, Resource]]:
    for route in routes:
        owner = getattr(route.endpoint, "__self__", None)
        if isinstance(owner, Collection):
            yield route, owner.resource


def _record(resource: Resource) -> Json:
    properties = {name: _property(row) for name, row in resource.attributes.items()}
    return {
        "id": schemas.name_of(resource),
        "type": "object",
        "uuidPrefix": TYPES[resource.uuid_kind],
        "properties": properties,
    }


def _property(attribute: Attribute) -> Json:
    return {"type": TYPES_OF_KINDS.get(attribute.kind, attribute.kind.value)}


def _page(resource: Resource) -> Json:
    name = schemas.name_of(resource)
    return {
        "id": f"{name}List",
        "type": "object",
        "properties": {
            "kind": {"type": "string", "default": f"{resource.kind}List"},
            "etag": {"type": "string"},
            "items": {"type": "array", "items": {"$ref": name}},
            "offset": {"type": "integer"},
            "limit": {"type": "integer"},
            "items_available": {"type": "integer"},
            "self_link": {"type": "string"},
        },
    }


def _methods(route: Route, resource: Resource) -> Json:
    """Return what a handler is called, and how; nothing when it takes or gives no JSON."""
    verb = next(verb for verb in VERBS if verb in (route.methods or ()))
    details = operations.details(route, verb, resource)
    if details.media != JSON or details.media_in != JSON:
        return {}
    handler = route.endpoint.__name__
    method = _method(route, verb, details, resource)
    return {
        name: {"id": f"arvados.{resource.name}.{name}", **method}
        for name in METHODS.get(handler, (handler,))
    }


def _method(route: Route, verb: str, details: Details, resource: Resource) -> Json:
    in_path = sorted(route.param_convertors)
    method: Json = {
        "path": route.path.removeprefix(BASE + "/"),
        "httpMethod": verb,
        "description": (route.endpoint.__doc__ or "").strip().splitlines()[0],
        "parameters": {
            **dict.fromkeys(in_path, IN_PATH),
            **{row["name"]: _parameter(row) for row in details.parameters if row["in"] == "query"},
        },
        "parameterOrder": in_path,
        "response": _response(details),
    }
    if details.is_record:
        wrapped = {resource.singular: {"$ref": schemas.name_of(resource)}}
        method["request"] = {"required": True, "properties": wrapped}
    elif details.body is not None:
        method["request"] = {"required": False, "properties": _arguments(details.body)}
    return method


def _parameter(row: Json) -> Json:
    schema = row["schema"]
    found = {
        "type": _type(schema.get("contentSchema", schema)),
        "location": "query",
        "required": False,
        "description": row["description"],
    }
    if "default" in schema:
        default = schema["default"]
        found["default"] = default if isinstance(default, str) else str(default).lower()
    return found


def _arguments(body: Json) -> Json:
    """Return the arguments that a method's body may bring."""
    found = {}
    for name, schema in body["properties"].items():
        found[name] = {"type": _type(schema)}
        if "items" in schema:
            found[name]["items"] = schema["items"]
    return found


def _type(schema: Json) -> str:
    """Return the type of a JSON schema, null left aside; text where it names none."""
    named = schema.get("type", "string")
    names = [named] if isinstance(named, str) else [name for name in named if name != "null"]
    return SCHEMA_TYPES.get(names[0], names[0])


def _response(details: Details) -> Json:
    """Return the schema of an answer: of a record or a list, else of anything."""
    for schema in (details.answer, *details.answer.get("anyOf", ())):
        if "$ref" in schema:
            return {"$ref": schema["$ref"].rpartition("/")[2]}
    return {}
