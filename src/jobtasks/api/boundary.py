"""The outermost layer: tidy addresses, a name for every request, and no error without an answer."""

from __future__ import annotations

import logging
import re
import secrets

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobtasks.api.answers import error_answer, failure
from jobtasks.core.errors import JobTasksError, MethodNotAllowed, NotFound
from jobtasks.core.identifiers import base36

REQUEST_ID = "jobtasks.request_id"
"""Where a request's scope keeps its name."""
REQUEST_ID_CHARACTERS_MAX = 1024
SLASHES = re.compile("//+")

logger = logging.getLogger(__name__)


class Boundary:
    """ASGI application around another."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope["path"] = tidy(scope["path"])
        scope[REQUEST_ID] = request_id = _request_id(scope)

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode("latin-1")),
                ]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except ClientDisconnect:
            logger.info("a client went away", extra={"request": request_id})
        except Exception:
            # Answered by `on_crash` already, unless it happened in the middle of an answer: then
            # the connection is cut, and the client sees that the answer is not whole.
            extra = {"request": request_id, "path": scope["path"]}
            logger.exception("a request failed", extra=extra)


def tidy(path: str) -> str:
    """Return a path without doubled slashes, a slash at its end, or ``.json``."""
    return SLASHES.sub("/", path).rstrip("/").removesuffix(".json") or "/"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and 1 <= len(value) <= REQUEST_ID_CHARACTERS_MAX:
            return str(value, "latin-1")
    return "req-" + base36(secrets.randbits(100), 20)


async def on_refusal(request: Request, error: Exception) -> Response:
    """Answer what the service or the edge refused."""
    assert isinstance(error, JobTasksError)
    return error_answer(error)


async def on_no_route(request: Request, error: Exception) -> Response:
    """Answer an address, or a method of one, that does not exist."""
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        answer = error_answer(MethodNotAllowed())
        answer.headers.update(error.headers or {})
        return answer
    if error.status_code == 404:
        return error_answer(NotFound())
    return failure(error.status_code, (error.detail,))


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer what nobody expected; the traceback goes into the server's log, not to the client."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    name = request.scope[REQUEST_ID]
    return failure(500, (f"Something went wrong in the server; its log says more ({name}).",))
