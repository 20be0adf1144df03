"""Signing in and out."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from jobtasks.core.errors import Forbidden, NotLoggedIn
from jobtasks.core.identifiers import spelled_token
from jobtasks.service import sessions, tokens
from jobtasks.web import protection
from jobtasks.web.pages import SECRET, Pages, field

TOKEN_LETTERS_MAX = 1000


class SignIn:
    """Request handlers of ``/sign-in`` and ``/sign-out``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            self._pages.open_route("/sign-in", self.ask, "GET"),
            self._pages.open_route("/sign-in", self.sign_in, "POST"),
            self._pages.route("/sign-out", self.sign_out, "POST"),
        ]

    async def ask(self, request: Request) -> Response:
        """Answer with the form; with a link's key in it, it sends itself off.

        To look at a link does not use it up: mail programs and chats look at addresses, too.
        """
        key = request.query_params.get("key", "")[:TOKEN_LETTERS_MAX]
        goal = protection.local_path(request.query_params.get("next"))
        return self._pages.bare(request, "sign_in.html", key=key, goal=goal, problem="")

    async def sign_in(self, request: Request) -> Response:
        """Begin a session with a token or a link's key."""
        given = (field(request, "token") or field(request, "key")).strip()[:TOKEN_LETTERS_MAX]
        goal = protection.local_path(field(request, "next"))
        try:
            secret = await self._pages.edge.commit(
                lambda ctx: sessions.sign_in(ctx, spelled_token(given).secret)
            )
        except NotLoggedIn:
            problem = (
                "This link was used, or is older than an hour. Sign in with a token instead."
                if field(request, "key")
                else "This token is not known here, or it has expired."
            )
            return self._again(request, goal, problem)
        except Forbidden as error:
            return self._again(request, goal, " ".join(error.messages))
        answer = RedirectResponse(goal, 303)
        protection.keep_session(request, answer, secret, self._pages.external_url)
        return answer

    def _again(self, request: Request, goal: str, problem: str) -> Response:
        return self._pages.bare(request, "sign_in.html", 403, key="", goal=goal, problem=problem)

    async def sign_out(self, request: Request) -> Response:
        """End the session; whatever it may do, it may end."""
        secret = request.scope[SECRET]
        await self._pages.edge.commit(
            lambda ctx: sessions.sign_out(ctx, tokens.identify(ctx, secret))
        )
        answer = RedirectResponse("/sign-in", 303)
        protection.drop_session(request, answer, self._pages.external_url)
        return answer
