"""The nodes: what runs where, who takes nothing new and why, and how it was before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.states import AttemptState, NodeState
from jobtasks.service import listing, steering
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import NodeRecord
from jobtasks.web.rooms import Rooms, field, then

NODES_MAX = 500
ATTEMPT_STATES = tuple(state.word for state in AttemptState)


class NodesPages:
    """Request handlers of ``/nodes``."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/nodes/{uuid}"
        return [
            self._rooms.route("/nodes", self.index),
            self._rooms.route("/parts/nodes", self.index_part),
            self._rooms.route(path, self.show),
            self._rooms.route(path + "/part", self.part),
            self._rooms.route(path + "/hold", self.hold, "POST"),
            self._rooms.route(path + "/drain", self.drain, "POST"),
            self._rooms.route(path + "/release", self.release, "POST"),
        ]

    async def index(self, request: Request) -> Response:
        """Answer with the page of all nodes."""
        return await self._rooms.page(request, "nodes.html", _all(request))

    async def index_part(self, request: Request) -> Response:
        """Answer with the nodes as they are now."""
        return await self._rooms.part(request, "_nodes.html", _all(request))

    async def show(self, request: Request) -> Response:
        """Answer with the page of one node."""
        return await self._rooms.page(request, "node.html", _one(request))

    async def part(self, request: Request) -> Response:
        """Answer with one node as it is now."""
        return await self._rooms.part(request, "_node.html", _one(request))

    async def hold(self, request: Request) -> Response:
        """Start nothing new there, perhaps for some minutes."""
        minutes = field(request, "minutes").strip()
        seconds = float(minutes) * 60 if minutes.replace(".", "", 1).isdigit() else None
        reason = field(request, "reason").strip() or None
        return await self._steer(request, "is held", steering.hold, seconds, reason)

    async def drain(self, request: Request) -> Response:
        """Start nothing new there until it is released."""
        reason = field(request, "reason").strip() or None
        return await self._steer(request, "drains", steering.drain, reason)

    async def release(self, request: Request) -> Response:
        """Let it take work again."""
        return await self._steer(request, "takes work again", steering.release)

    async def _steer(
        self, request: Request, done: str, method: Callable[..., NodeRecord], *arguments: Any
    ) -> Response:
        uuid = request.path_params["uuid"]
        node = await self._rooms.edge.write(
            request, lambda ctx, caller: method(ctx, caller, uuid, *arguments)
        )
        return then(request, f"Node {node.hostname} {done}.")


def _all(request: Request) -> Callable[[Context, Caller], Mapping[str, Any]]:
    state = request.query_params.get("state", "")
    state = state if state in set(NodeState) else ""

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        asked = {"order": "hostname", "limit": str(NODES_MAX), "filters": "[]"}
        if state:
            asked["filters"] = json.dumps([["state", "=", state]])
        page = listing.list_nodes(ctx, caller, parse_query(RESOURCES["nodes"], asked, NODES_MAX))
        running = {node.uuid: steering.attempts(ctx, caller, node.uuid) for node in page.items[:50]}
        return {
            "nodes": page.items,
            "available": page.items_available or 0,
            "state": state,
            "states": [each.value for each in NodeState],
            "running": running,
        }

    return load


def _one(request: Request) -> Callable[[Context, Caller], Mapping[str, Any]]:
    uuid = request.path_params["uuid"]

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        node = steering.show(ctx, caller, uuid)
        attempts = steering.attempts(ctx, caller, uuid)
        return {"node": node, "attempts": attempts, "attempt_states": ATTEMPT_STATES}

    return load
