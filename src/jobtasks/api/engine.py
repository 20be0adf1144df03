"""For administrators: whether the engine answers, and what became of what it was asked for."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge
from jobtasks.api.engine_line import EngineLine
from jobtasks.core.timestamps import render_time
from jobtasks.service import access, engines
from jobtasks.service.engines import Asked


class EngineState:
    """The handler of ``/arvados/v1/sys/engine``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the route of the engine's state."""
        return [Route(f"{BASE}/sys/engine", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """Answer with what is known; the engine is asked when it has not been lately."""
        self._edge.glance(
            request, lambda ctx, caller: access.require_admin(caller, "see how the engine does")
        )
        line = self._edge.engine_line
        if line is not None:
            rows = await self._edge.look(engines.open_requests)
            names = [row.name for row in rows]
            await line.check(names, self._edge.world.settings.engine_poll_seconds)
        asked = await self._edge.read(request, lambda ctx, caller: engines.asked(ctx))
        return json_answer(_rendered(self._edge.world.engine, line, asked))


def _rendered(name: str, line: EngineLine | None, asked: Asked) -> dict[str, Any]:
    heard_at = line.heard_at if line else None
    silence = line.silence if line else None
    return {
        "engine": name,
        "heard_at": None if heard_at is None else render_time(heard_at),
        "silence": silence and silence.reason,
        "silent_since": silence and render_time(silence.since),
        "requests": asked.requests,
        "failures": [
            {
                "reason": failure.reason,
                "requests": failure.requests,
                "last_at": render_time(failure.last_at),
            }
            for failure in asked.failures
        ],
    }
