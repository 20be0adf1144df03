"""What all pages have: templates, the session's transaction, answers with their headers."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, unquote, urlencode

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from jobtasks.api.answers import RETRY_AFTER_SECONDS, error_answer
from jobtasks.api.conditional import if_changed
from jobtasks.api.edge import Edge, Work
from jobtasks.api.forms import FORM
from jobtasks.core.errors import Forbidden, JobTasksError, NotLoggedIn
from jobtasks.service import sessions, users
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import UserRecord
from jobtasks.web import protection
from jobtasks.web.templating import make_templates

SAID = "jobtasks_said"
"""The cookie that brings what was done to the next page, once."""
SAID_SECONDS = 60
SAID_LETTERS_MAX = 300
"""A cookie has room for so many, whatever they are."""
PART = "x-jobtasks-part"
"""What our own scripts say; browsers tell on their own only by https and on loopback."""
TOKENS = ("api_token", "oauth_token")

SECRET = "jobtasks.session"
"""Where a request's scope keeps its session's secret."""

Handler = Callable[[Request], Awaitable[Response]]


class Visitor:
    """Who looks at a page."""

    __slots__ = ("is_admin", "may_write", "name", "sign")

    def __init__(self, user: UserRecord, caller: Caller, sign: str) -> None:
        self.name = user.username
        self.is_admin = caller.is_admin
        self.may_write = bool(user.is_active) and sessions.may_write(caller)
        self.sign = sign


class Pages:
    """What makes pages: routes that know who asks, templates, and answers."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._templates = make_templates()

    @property
    def external_url(self) -> str:
        """What clients call this server."""
        return self.edge.world.external_url

    def route(self, path: str, handler: Handler, *methods: str) -> Route:
        """Return a route for people who have signed in; others are asked to."""

        async def guarded(request: Request) -> Response:
            return await self._guard(request, handler)

        return Route(path, guarded, methods=list(methods) or ["GET"], name=handler.__name__)

    def open_route(self, path: str, handler: Handler, *methods: str) -> Route:
        """Return a route for everybody."""

        async def guarded(request: Request) -> Response:
            try:
                if request.method == "POST":
                    protection.refuse_other_sites(request)
                return _clad(await handler(request))
            except JobTasksError as error:
                return _clad(self.refusal(request, error))

        return Route(path, guarded, methods=list(methods) or ["GET"], name=handler.__name__)

    async def _guard(self, request: Request, handler: Handler) -> Response:
        secret = protection.session_of(request, self.external_url)
        if secret is None:
            return _clad(self._ask_in(request))
        try:
            signed = as_session(request, secret)
            if request.method == "POST":
                protection.refuse_other_sites(request)
                protection.require_sign(request, secret)
            return _clad(await handler(signed))
        except NotLoggedIn:
            answer = self._ask_in(request)
            protection.drop_session(request, answer, self.external_url)
            return _clad(answer)
        except JobTasksError as error:
            return _clad(self.refusal(request, error))

    def _ask_in(self, request: Request) -> Response:
        """Send a stranger to the door, and back from there; a part of a page is only refused."""
        if request.method != "GET" or is_part(request):
            return error_answer(NotLoggedIn())
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse(f"/sign-in?next={quote(here, safe='')}", 303)

    def refusal(self, request: Request, error: JobTasksError) -> Response:
        """Return an error as a page, or to a script as the API has it."""
        if is_part(request):
            return error_answer(error)
        answer = self.bare(request, "error.html", error.status, messages=error.messages)
        if error.transient:
            answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return answer

    def bare(
        self, request: Request, template: str, status: int = 200, /, **values: Any
    ) -> HTMLResponse:
        """Return a page for somebody who may be a stranger."""
        text = self._templates.get_template(template).render(visitor=None, said=None, **values)
        return HTMLResponse(text, status)

    async def page(
        self, request: Request, template: str, load: Work[Mapping[str, Any]]
    ) -> Response:
        """Return a page that shows what `load` reads, in one transaction with who looks."""

        text = await self._rendered(request, template, load, said=said_in(request))
        answer = HTMLResponse(text)
        answer.delete_cookie(SAID, path="/", httponly=True, samesite="lax")
        return answer

    async def part(
        self, request: Request, template: str, load: Work[Mapping[str, Any]]
    ) -> Response:
        """Return a part of a page, or that the browser shows just that already."""

        return if_changed(request, HTMLResponse(await self._rendered(request, template, load)))

    async def _rendered(
        self, request: Request, template: str, load: Work[Mapping[str, Any]], **more: Any
    ) -> str:
        def work(ctx: Context, caller: Caller) -> str:
            visitor = visitor_of(ctx, caller, request)
            values = {"visitor": visitor, "now": ctx.now, **more, **load(ctx, caller)}
            return self._templates.get_template(template).render(values)

        return await self.edge.read(request, work)


def visitor_of(ctx: Context, caller: Caller, request: Request) -> Visitor:
    """Return who looks at a page."""
    return Visitor(users.current(ctx, caller), caller, protection.sign_of(request.scope[SECRET]))


def as_session(request: Request, secret: str) -> Request:
    """Return a request as the API knows it, with the session for its token, and no other token."""
    kept = [pair for pair in request.scope["headers"] if pair[0] != b"authorization"]
    headers = [*kept, (b"authorization", b"Bearer " + secret.encode("latin-1", "replace"))]
    scope = {**request.scope, "headers": headers, "query_string": _without_tokens(request)}
    scope[SECRET] = secret
    form = request.scope.get(FORM)
    if form is not None and any(form.get(name) for name in TOKENS):
        raise Forbidden("Forms of these pages bring no token: the session says who asks.")
    return Request(scope, request.receive)


def _without_tokens(request: Request) -> bytes:
    """Return what the address asks for but for tokens: nobody is somebody else by a link."""
    kept = [(k, v) for k, v in request.query_params.multi_items() if k not in TOKENS]
    return urlencode(kept).encode()


def is_part(request: Request) -> bool:
    """Return whether a script asks, and not a person who wants to see a page."""
    if PART in request.headers:
        return True
    return request.headers.get("sec-fetch-dest", "document") not in ("document", "iframe")


def field(request: Request, name: str) -> str:
    """Return a field of a form, "" when it is not there."""
    form = request.scope.get(FORM)
    return (form.get(name) if form else None) or ""


def fields(request: Request, name: str) -> list[str]:
    """Return all values of a field."""
    form = request.scope.get(FORM)
    return [value for key, value in form.fields if key == name] if form else []


def then(request: Request, said: str, *, is_bad: bool = False) -> Response:
    """Go back to where a form was sent from, and say there what came of it."""
    answer = RedirectResponse(protection.local_path(field(request, "back")), 303)
    content = quote(json.dumps([said[:SAID_LETTERS_MAX], is_bad]))
    answer.set_cookie(SAID, content, max_age=SAID_SECONDS, httponly=True, samesite="lax")
    return answer


def said_in(request: Request) -> tuple[str, bool] | None:
    """Return what the last form came to: a sentence, and whether it is bad news."""
    try:
        text, is_bad = json.loads(unquote(request.cookies.get(SAID, "")))
    except (ValueError, TypeError):
        return None
    return (str(text), bool(is_bad))


def _clad(answer: Response) -> Response:
    for name, value in protection.HEADERS.items():
        answer.headers.setdefault(name, value)
    answer.headers["Cache-Control"] = "no-store"
    return answer
