"""Signing in to the pages: a session is a token of its own, which ends by itself.

A browser never keeps the token that somebody signed in with. A *link* signs in once: it is a token
that allows nothing else.
"""

from __future__ import annotations

from jobtasks.core import scopes
from jobtasks.core.errors import Forbidden, NotLoggedIn
from jobtasks.service import tokens, user_tokens
from jobtasks.service.context import Caller, Context

SIGN_IN = "POST /sign-in"
"""The only call that a link allows."""
SESSION_SECONDS = 12 * 3600
LINK_SECONDS = 3600
MICROSECONDS = 1_000_000
SESSION_LABEL = "session of a browser"
LINK_LABEL = "link to sign in once"


def sign_in(ctx: Context, secret: str) -> str:
    """Return the secret of a new session of whose token or link this is; a link is used up.

    The session may do what the token may, or only read; it ends after 12 hours, or with the token.

    Raises:
        NotLoggedIn: the token is not valid, or the link was used before.
        Forbidden: it is no token of a person, or its scopes are narrower than reading everything.
    """
    caller = tokens.identify(ctx, secret)
    if caller.token is None or caller.role not in ("admin", "user"):
        raise Forbidden("Only people's tokens sign in here, not those of attempts or agents.")
    allowed = _session_scopes(caller.token.scopes)
    ends_at = ctx.now + SESSION_SECONDS * MICROSECONDS
    if is_link(caller):
        if not ctx.tx.run("token_revoke", uuid=caller.token.uuid, now=ctx.now):
            raise NotLoggedIn
    elif caller.token.expires_at is not None:
        ends_at = min(ends_at, caller.token.expires_at)
    _, session = user_tokens.add(ctx, caller.user_uuid, (allowed,), SESSION_LABEL, ends_at)
    return session


def sign_out(ctx: Context, caller: Caller) -> None:
    """End the caller's session."""
    if caller.token is not None:
        ctx.tx.run("token_revoke", uuid=caller.token.uuid, now=ctx.now)


def add_link(ctx: Context, user_uuid: str) -> str:
    """Return the secret of a link that signs a user in, good for an hour and for once."""
    ends_at = ctx.now + LINK_SECONDS * MICROSECONDS
    _, link = user_tokens.add(ctx, user_uuid, (SIGN_IN,), LINK_LABEL, ends_at)
    return link


def is_link(caller: Caller) -> bool:
    """Return whether somebody comes with a link instead of a token."""
    return caller.token is not None and caller.token.scopes == (SIGN_IN,)


def may_write(caller: Caller) -> bool:
    """Return whether the caller's session may change anything."""
    return caller.token is not None and scopes.allows(caller.token.scopes, scopes.ALL)


def _session_scopes(given: tuple[str, ...]) -> str:
    """Return the one scope of a session for a token, or a link, of these scopes."""
    if given == (SIGN_IN,) or scopes.allows(given, scopes.ALL):
        return scopes.ALL
    if scopes.allows(given, scopes.READ_ONLY):
        return scopes.READ_ONLY
    raise Forbidden(f"To sign in, a token needs the scope {scopes.ALL} or '{scopes.READ_ONLY}'.")
