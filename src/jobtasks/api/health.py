"""``/healthz``: whether the server serves."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import json_answer
from jobtasks.api.edge import Edge
from jobtasks.core.errors import Unavailable


class Health:
    """The handler of ``/healthz``."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    def routes(self) -> list[Route]:
        """Return the route of the health."""
        return [Route("/healthz", self.health, methods=["GET"])]

    async def health(self, request: Request) -> Response:
        """Say that the server serves, or what it cannot write now; needs no token."""
        pauses = self._edge.pauses
        if troubles := [f"The {pause.what} cannot be written" for pause in pauses if pause.reason]:
            # Why stands in the log and in answers to those who have a token.
            raise Unavailable(*troubles)
        return json_answer({"health": "OK"})
