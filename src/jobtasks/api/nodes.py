"""Nodes over HTTP: list, show, delete; what runs there; hold, drain, release."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE, Collection, Methods
from jobtasks.api.edge import Edge
from jobtasks.api.rendering import render_node, render_occupying
from jobtasks.api.view_rendering import render_node_use
from jobtasks.core.resources import RESOURCES
from jobtasks.service import listing, node_history, steering
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import NodeRecord

METHODS = Methods(
    page=listing.list_nodes,
    show=steering.show,
    render=render_node,
    delete=steering.delete,
)


class Nodes(Collection[NodeRecord]):
    """Request handlers of ``/arvados/v1/nodes``."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["nodes"], METHODS)

    def routes(self) -> list[Route]:
        """Return the routes of nodes."""
        member = f"{BASE}/nodes/{{uuid}}"
        return [
            *super().routes(),
            Route(member + "/attempts", self.attempts, methods=["GET"]),
            Route(member + "/usage", self.usage, methods=["GET"]),
            Route(member + "/hold", self.hold, methods=["POST"]),
            Route(member + "/drain", self.drain, methods=["POST"]),
            Route(member + "/release", self.release, methods=["POST"]),
        ]

    async def attempts(self, request: Request) -> Response:
        """Answer with what has the slots of a node: of a user, his own."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(
            request, lambda ctx, caller: steering.attempts(ctx, caller, uuid)
        )
        return json_answer({"items": [render_occupying(attempt) for attempt in found]})

    async def usage(self, request: Request) -> Response:
        """Answer with how much of a node was taken in the last day."""
        uuid = request.path_params["uuid"]
        found = await self.edge.read(
            request, lambda ctx, caller: node_history.of_node(ctx, caller, uuid)
        )
        return json_answer({"items": [render_node_use(row) for row in found]})

    async def hold(self, request: Request) -> Response:
        """Start nothing new on a node, for a while or until it is released."""
        return await self._steer(request, steering.hold, "seconds", "reason")

    async def drain(self, request: Request) -> Response:
        """Start nothing new on a node until it is released."""
        return await self._steer(request, steering.drain, "reason")

    async def release(self, request: Request) -> Response:
        """End hold and draining of a node."""
        return await self._steer(request, steering.release)

    async def _steer(
        self, request: Request, method: Callable[..., NodeRecord], *names: str
    ) -> Response:
        """Answer with a node as a method leaves it, which takes these of the body's arguments."""
        uuid = request.path_params["uuid"]
        body = await self.arguments(request)
        given = [body.get(name) for name in names]

        def work(ctx: Context, caller: Caller) -> NodeRecord:
            return method(ctx, caller, uuid, *given)

        selected = self.selected(request, body)
        return self.answer(await self.edge.write(request, work), selected)
