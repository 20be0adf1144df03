"""Users and their tokens over HTTP."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.collection import BASE, Collection, Methods
from jobtasks.api.edge import Edge
from jobtasks.api.rendering import render_token, render_user
from jobtasks.core.resources import RESOURCES
from jobtasks.service import listing, user_tokens, users
from jobtasks.store.records import TokenRecord, UserRecord

NOT_STORED = "no-store"
"""What answers that hold a secret tell caches."""

USER_METHODS = Methods(
    page=listing.list_users,
    create=users.create,
    show=users.show,
    render=render_user,
    update=users.update,
)
TOKEN_METHODS = Methods(
    page=listing.list_tokens,
    create=user_tokens.create,
    show=user_tokens.show,
    render=render_token,
    delete=user_tokens.revoke,
)


class Users(Collection[UserRecord]):
    """Request handlers of ``/arvados/v1/users``."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["users"], USER_METHODS)

    def routes(self) -> list[Route]:
        """Return the routes of users; ``current`` goes before any UUID."""
        return [Route(f"{BASE}/users/current", self.current, methods=["GET"]), *super().routes()]

    async def current(self, request: Request) -> Response:
        """Answer with the user whom the token speaks for."""
        names = self.selected(request)
        return self.shown(request, self.edge.glance(request, users.current), names)


class Tokens(Collection[TokenRecord]):
    """Request handlers of ``/arvados/v1/api_client_authorizations``."""

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge, RESOURCES["api_client_authorizations"], TOKEN_METHODS)

    def routes(self) -> list[Route]:
        """Return the routes of tokens; ``current`` goes before any UUID."""
        path = f"{BASE}/{self.resource.name}/current"
        return [Route(path, self.current, methods=["GET"]), *super().routes()]

    async def create(self, request: Request) -> Response:
        """Create a token and answer with its secret, which nobody is to keep by accident."""
        answer = await super().create(request)
        answer.headers["Cache-Control"] = NOT_STORED
        return answer

    async def current(self, request: Request) -> Response:
        """Answer with the token that the request carries."""
        names = self.selected(request)
        return self.shown(request, self.edge.glance(request, user_tokens.current), names)
