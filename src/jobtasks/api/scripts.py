"""Scripts' directories as agents fetch them, by their hashes (ADR 0025)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api.edge import Edge
from jobtasks.api.packing import is_kept
from jobtasks.core.errors import NotFound, Unavailable
from jobtasks.protocol.packs import ADDRESS, is_hash
from jobtasks.service import access, packs

BYTES = "application/octet-stream"
GONE = "The server does not have the directory of this script any more."


class Scripts:
    """Request handler of ``/agent/v1/scripts``."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [Route(ADDRESS + "{hash}", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """Answer with a pack; one that is gone is made anew, if its directory is as it was."""
        self.edge.glance(request, lambda ctx, caller: access.require_agent(caller))
        pack = request.path_params["hash"]
        if not is_hash(pack) or not await is_kept(self.edge, pack):
            raise NotFound(GONE)
        path = self.edge.packs.path_of(pack)
        try:
            size = (await self.edge.in_thread(path.stat)).st_size
        except OSError as error:
            raise Unavailable(f"The scripts cannot be read: {error.strerror}") from None
        headers = {"Content-Length": str(size)}
        return StreamingResponse(packs.read(path), 200, headers, media_type=BYTES)
