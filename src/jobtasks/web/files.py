"""The style sheet, the scripts and the icon of the pages."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.conditional import is_known, tag_of
from jobtasks.web import protection

STATIC = Path(__file__).with_name("static")
MEDIA = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Files:
    """The request handler of ``/static/{name}``; read once, as they are part of the program."""

    def __init__(self) -> None:
        self._files = {path.name: path.read_bytes() for path in STATIC.iterdir()}

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/static/{name}", self.show, methods=["GET"])]

    async def show(self, request: Request) -> Response:
        """Answer with a file."""
        name = request.path_params["name"]
        content = self._files.get(name)
        if content is None:
            headers = {**protection.HEADERS, "Cache-Control": "no-store"}
            return Response("There is no such file.", 404, headers, media_type="text/plain")
        headers = {**protection.HEADERS, "ETag": tag_of(content), "Cache-Control": "no-cache"}
        if is_known(request, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(content, 200, headers, media_type=MEDIA[Path(name).suffix])
