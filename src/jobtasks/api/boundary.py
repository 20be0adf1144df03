"""The outermost layer: tidy addresses, a name for every request, and no error without an answer."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jobtasks.api import renewals, reports
from jobtasks.api.answers import error_answer, failure
from jobtasks.api.bodies import Bodies
from jobtasks.api.connection import HEAD_TOO_LARGE, TakeReport
from jobtasks.api.meters import Meters
from jobtasks.api.requests import prepare
from jobtasks.core.errors import (
    HeadTooLarge,
    JobTasksError,
    MethodNotAllowed,
    NotFound,
    RequestError,
    TooManyRequests,
)
from jobtasks.core.settings import Settings

REQUEST_ID = "jobtasks.request_id"
"""Where a request's scope keeps its name."""
REQUEST_ID_VALUE = re.compile(rb"[\x20-\x7e]{1,1024}")
SLASHES = re.compile("//+")
AGENTS = "/agent/"
RENEWING = ("/agent/v1/sync", "/agent/v1/join")
"""What no load puts off: leases live by it (R33)."""
STREAMED = "/arvados/v1/jobs/import"
"""Of what comes there, at any length, little is held at a time (api/importing.py)."""
OPEN_TO_ALL_SITES = ("/arvados/", "/discovery/", "/openapi.json")
"""Where pages of other sites may read answers: tokens are given by hand here, never by a cookie."""
CROSS_ORIGIN = [
    (b"access-control-allow-origin", b"*"),
    (b"access-control-allow-methods", b"GET, HEAD, PUT, POST, DELETE, PATCH"),
    (
        b"access-control-allow-headers",
        b"Authorization, Content-Type, Idempotency-Key, If-None-Match, Range,"
        b" X-HTTP-Method-Override, X-Request-Id",
    ),
    (b"access-control-expose-headers", b"Content-Range, ETag, Retry-After, X-Request-Id"),
    (b"access-control-max-age", b"86486400"),
]

logger = logging.getLogger(__name__)


class Boundary:
    """ASGI application around another."""

    def __init__(
        self,
        app: ASGIApp,
        direct: Iterable[Route],
        settings: Settings,
        meters: Meters,
        bodies: Bodies,
        take_report: TakeReport,
    ) -> None:
        """`direct` are those of `app` that take a POST and are called past it: by agents, all the
        time, and the way through the application costs more than to take a renewal. `take_report`
        is called past it by tasks.
        """
        self._app = app
        self._direct = {route.path: route for route in direct}
        self._settings = settings
        self._meters = meters
        self._bodies = bodies
        self._take_report = take_report

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # A copy: the HTTP server goes by the method that was sent, not by the one it stands for.
        scope = dict(scope)
        scope["path"] = tidy(scope["path"])
        scope[REQUEST_ID] = request_id = _request_id(scope)
        headers = [(b"x-request-id", request_id.encode("latin-1"))]
        if scope["path"].startswith(OPEN_TO_ALL_SITES):
            headers += CROSS_ORIGIN
        status = 499

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        counted = not scope["path"].startswith(AGENTS)
        self._meters.requests_open += counted
        try:
            await self._serve(scope, receive, send_named)
        except ClientDisconnect:
            logger.info("a client went away", extra={"request": request_id})
        except Exception:
            # Answered by `on_crash` already, unless it happened in the middle of an answer: then
            # the connection is cut, and the client sees that the answer is not whole.
            extra = {"request": request_id, "path": scope["path"]}
            logger.exception("a request failed", extra=extra)
        finally:
            self._meters.requests_open -= counted
            self._meters.count_request(scope["method"], _route_of(scope), status)

    async def renew(self, headers: renewals.Headers, body: bytes) -> Response:
        """Answer a renewal that came the short way, as `__call__` would."""
        scope = {
            "type": "http",
            "method": "POST",
            "path": renewals.PATH,
            "query_string": b"",
            "headers": headers,
            "route": self._direct[renewals.PATH],
        }
        scope[REQUEST_ID] = request_id = _request_id(scope)

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        request = Request(scope, receive)
        answer: Response
        try:
            answer = await self._direct[renewals.PATH].endpoint(request)
        except JobTasksError as error:
            answer = error_answer(error)
        except Exception as error:
            extra = {"request": request_id, "path": renewals.PATH}
            logger.exception("a request failed", extra=extra)
            answer = await on_crash(request, error)
        answer.headers["x-request-id"] = request_id
        self._meters.count_request("POST", renewals.PATH, answer.status_code)
        return answer

    async def report(self, report: reports.Report) -> Response:
        """Answer a report that came the short way, as `__call__` would."""
        request_id = _new_request_id()
        self._meters.requests_open += 1
        try:
            if self._meters.requests_open > self._settings.requests_open_max:
                raise TooManyRequests
            with self._bodies.hold_whole(report.body):
                answer = await self._take_report(report)
        except JobTasksError as error:
            answer = error_answer(error)
        except Exception:
            logger.exception("a request failed", extra={"request": request_id, "path": report.path})
            answer = crash_answer(request_id)
        finally:
            self._meters.requests_open -= 1
        answer.raw_headers += [(b"x-request-id", request_id.encode("latin-1")), *CROSS_ORIGIN]
        self._meters.count_request(report.method, reports.ROUTE, answer.status_code)
        return answer

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if HEAD_TOO_LARGE in scope:
                raise HeadTooLarge
            if scope["path"] in RENEWING:
                await self._pass_on(scope, receive, send)
                return
            if scope["path"] == STREAMED:
                await self._serve_others(scope, receive, send)
                return
            with self._bodies.hold(scope, receive) as counted:
                await self._serve_others(scope, counted, send)
        except JobTasksError as error:
            await error_answer(error)(scope, receive, send)

    async def _serve_others(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(AGENTS):
            if self._meters.requests_open > self._settings.requests_open_max:
                raise TooManyRequests
            receive = await prepare(scope, receive, self._settings)
        if scope["method"] == "OPTIONS" and scope["path"].startswith(OPEN_TO_ALL_SITES):
            await PlainTextResponse("-")(scope, receive, send)
            return
        await self._pass_on(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._direct.get(scope["path"])
        if route is None or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            answer = await route.endpoint(request)
        except (JobTasksError, ClientDisconnect):
            raise
        except Exception as error:
            await (await on_crash(request, error))(scope, receive, send)
            raise
        await answer(scope, receive, send)


def tidy(path: str) -> str:
    """Return a path without doubled slashes, a slash at its end, or ``.json``."""
    path = SLASHES.sub("/", path).rstrip("/")
    # The description is called so; it is no record asked for in JSON.
    return path if path == "/openapi.json" else path.removesuffix(".json") or "/"


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and REQUEST_ID_VALUE.fullmatch(value):
            return str(value, "latin-1")
    return _new_request_id()


def _new_request_id() -> str:
    """Return a name, no secret: it need not ask the system for noise."""
    return f"req-{random.getrandbits(80):020x}"


def _route_of(scope: Scope) -> str:
    """Return the pattern of the address that was asked for, "" when there is no such address."""
    return getattr(scope.get("route"), "path", "")


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
    return failure(error.status_code, RequestError.code, (error.detail,))


async def on_crash(request: Request, error: Exception) -> Response:
    """Answer what nobody expected; the traceback goes into the server's log, not to the client."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    return crash_answer(request.scope[REQUEST_ID])


def crash_answer(name: str) -> Response:
    """Return the answer to a request of this name that failed by our mistake."""
    message = f"Something went wrong in the server; its log says more ({name})."
    return failure(500, JobTasksError.code, (message,))
