"""The nodes: what runs where, who takes nothing new and why, and how it was before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.states import NodeState
from jobtasks.service import listing, node_history, steering
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import NodeRecord, NodeUseRecord
from jobtasks.web import charts
from jobtasks.web.pages import Pages, field, then

NODES_MAX = 500
DAY = 86_400_000_000
"""Microseconds."""


class NodesPages:
    """Request handlers of ``/nodes``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return the routes."""
        path = "/nodes/{uuid}"
        return [
            self._pages.route("/nodes", self.index),
            self._pages.route("/parts/nodes", self.index_part),
            self._pages.route(path, self.show),
            self._pages.route(path + "/part", self.part),
            self._pages.route(path + "/hold", self.hold, "POST"),
            self._pages.route(path + "/drain", self.drain, "POST"),
            self._pages.route(path + "/release", self.release, "POST"),
        ]

    async def index(self, request: Request) -> Response:
        """Answer with the page of all nodes."""
        return await self._pages.page(request, "nodes.html", _all(request))

    async def index_part(self, request: Request) -> Response:
        """Answer with the nodes as they are now."""
        return await self._pages.part(request, "_nodes.html", _all(request))

    async def show(self, request: Request) -> Response:
        """Answer with the page of one node."""
        return await self._pages.page(request, "node.html", _one(request))

    async def part(self, request: Request) -> Response:
        """Answer with one node as it is now."""
        return await self._pages.part(request, "_node.html", _one(request))

    async def hold(self, request: Request) -> Response:
        """Start nothing new there, perhaps for some minutes."""
        seconds, reason = _seconds(field(request, "minutes").strip()), field(request, "reason")
        return await self._steer(request, "is held", steering.hold, seconds, reason)

    async def drain(self, request: Request) -> Response:
        """Start nothing new there until it is released."""
        return await self._steer(request, "drains", steering.drain, field(request, "reason"))

    async def release(self, request: Request) -> Response:
        """Let it take work again."""
        return await self._steer(request, "takes work again", steering.release)

    async def _steer(
        self, request: Request, done: str, method: Callable[..., NodeRecord], *arguments: Any
    ) -> Response:
        uuid = request.path_params["uuid"]
        node = await self._pages.edge.write(
            request, lambda ctx, caller: method(ctx, caller, uuid, *arguments)
        )
        return then(request, f"Node {node.hostname} {done}.")


def _seconds(minutes: str) -> float | str:
    """Return the seconds of a hold, "" for none; what is no number stays, and is refused."""
    try:
        return float(minutes) * 60
    except ValueError:
        return minutes


def _all(request: Request) -> Callable[[Context, Caller], Mapping[str, Any]]:
    state = request.query_params.get("state", "")
    state = state if state in set(NodeState) else ""

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        asked = {"order": "hostname", "limit": str(NODES_MAX), "filters": "[]"}
        if state:
            asked["filters"] = json.dumps([["state", "=", state]])
        page = listing.list_nodes(ctx, caller, parse_query(RESOURCES["nodes"], asked, NODES_MAX))
        running = {node.uuid: steering.attempts(ctx, caller, node.uuid) for node in page.items[:50]}
        ids = [node.id for node in page.items]
        used = node_history.of_nodes(ctx, caller, ids)
        return {
            "nodes": page.items,
            "drawn": {id: _drawn(rows, ctx.now) for id, rows in used.items()},
            "available": page.items_available or 0,
            "state": state,
            "states": [each.value for each in NodeState],
            "running": running,
        }

    return load


class Drawn(NamedTuple):
    """The last day of a node."""

    slots: str
    """Paths of the shares that were taken (web/charts.py); "": nothing is known."""
    memory: str
    since: int


def _drawn(rows: list[NodeUseRecord], now: int) -> Drawn:
    """Return how much of a node was taken: of the last day, or since the first that is known."""
    since = max(now - DAY, rows[0].at) if rows else now
    slots = [(row.at, row.slots_taken / row.slots if row.slots else 0.0) for row in rows]
    memory = [
        (row.at, row.memory_taken_kib / row.memory_kib if row.memory_kib else 0.0) for row in rows
    ]
    return Drawn(charts.steps(slots, since, now), charts.steps(memory, since, now), since)


def _one(request: Request) -> Callable[[Context, Caller], Mapping[str, Any]]:
    uuid = request.path_params["uuid"]

    def load(ctx: Context, caller: Caller) -> Mapping[str, Any]:
        node = steering.show(ctx, caller, uuid)
        attempts = steering.attempts(ctx, caller, uuid)
        drawn = _drawn(node_history.of_node(ctx, caller, uuid), ctx.now)
        return {"node": node, "attempts": attempts, "drawn": drawn}

    return load
