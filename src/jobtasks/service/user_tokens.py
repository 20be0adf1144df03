"""Tokens of users: made, seen and revoked by the user and by administrators.

Only a token's hash is stored: its secret is in the answer that creates it and nowhere else.
"""

from __future__ import annotations

import json
from typing import Any

from jobtasks.core import resources, scopes
from jobtasks.core.errors import Forbidden, Invalid, NotFound
from jobtasks.core.identifiers import attempt_token_uuid, make_token, token_hash
from jobtasks.service.context import Caller, Context
from jobtasks.service.idempotency import Name, once
from jobtasks.service.repeats import RequestName
from jobtasks.store.records import TokenRecord, UserRecord

TOKENS = resources.RESOURCES["api_client_authorizations"]


def create(
    ctx: Context, caller: Caller, attributes: dict[str, Any], key: Name | None = None
) -> TokenRecord:
    """Create a token and return it with its secret, this once; once a key (R22).

    It belongs to the caller; an administrator may name another user in ``owner_uuid``. A token
    makes none that may do more than itself, or that outlives it.

    Raises:
        Forbidden: the token of an attempt or an agent; another's user; wider scopes; a later end.
        Invalid: a value of the wrong type, a user that does not exist, an end in the past.
    """
    if caller.role not in ("admin", "user"):
        raise Forbidden("Only people's tokens create tokens.")
    return once(
        ctx,
        caller,
        key,
        lambda: _create(ctx, caller, attributes),
        lambda token: token.uuid,
        lambda uuid: _made_before(ctx, caller, key, uuid),
    )


def _made_before(ctx: Context, caller: Caller, key: Name | None, uuid: str) -> TokenRecord:
    """Return a token that the repeated request made, with a new secret when its first was lost.

    An Idempotency-Key does not say that the answer was lost: the secret is told once.
    """
    token = show(ctx, caller, uuid)
    if not isinstance(key, RequestName):
        return token
    secret = make_token(ctx.world.random_below)
    ctx.tx.run("token_renew", uuid=uuid, hash=token_hash(secret))
    return token._replace(api_token=secret)


def _create(ctx: Context, caller: Caller, attributes: dict[str, Any]) -> TokenRecord:
    given: dict[str, Any] = {}
    for name, value in attributes.items():
        attribute = resources.attribute(TOKENS, name)
        if attribute.name == "scopes":
            given["scopes"] = value
        elif attribute.create:
            given[attribute.name] = resources.coerce(attribute, value or None)
        elif not attribute.ignored and value not in (None, ""):
            raise Invalid(f"{attribute.name} is given by the server")
    uuid, secret = add(
        ctx,
        _owner(ctx, caller, given.get("owner_uuid")),
        _scopes(caller, given.get("scopes")),
        given.get("label"),
        _end(ctx, caller, given.get("expires_at")),
    )
    return show(ctx, caller, uuid)._replace(api_token=secret)


def add(
    ctx: Context,
    user_uuid: str,
    scopes: tuple[str, ...],
    label: str | None,
    expires_at: int | None,
) -> tuple[str, str]:
    """Store a token of a user; return its UUID and its secret, which is stored nowhere."""
    secret = make_token(ctx.world.random_below)
    uuid = ctx.world.uuids.make("token", ctx.now)
    ctx.tx.run(
        "token_add",
        uuid=uuid,
        hash=token_hash(secret),
        user_uuid=user_uuid,
        scopes=json.dumps(scopes),
        label=label,
        expires_at=expires_at,
        now=ctx.now,
    )
    return uuid, secret


def _owner(ctx: Context, caller: Caller, uuid: str | None) -> str:
    if uuid is None or uuid == caller.user_uuid:
        return caller.user_uuid
    if not caller.is_admin:
        raise Forbidden("Only an administrator may create tokens of other users.")
    if ctx.tx.one(UserRecord, "user_by_uuid", uuid=uuid) is None:
        raise Invalid(f"Owner uuid '{uuid}' not found")
    return uuid


def _scopes(caller: Caller, value: Any) -> tuple[str, ...]:
    wanted = scopes.parse_scopes(value)
    own = caller.token.scopes if caller.token else ()
    for scope in wanted:
        if not scopes.allows(own, scope):
            raise Forbidden(f"The scopes of this token do not allow it to give away '{scope}'.")
    return wanted


def _end(ctx: Context, caller: Caller, expires_at: int | None) -> int | None:
    """Return when the new token ends, by default with the token that makes it."""
    own = caller.token.expires_at if caller.token else None
    if expires_at is None:
        return own
    if expires_at <= ctx.now:
        raise Invalid("expires_at must lie in the future")
    if own is not None and expires_at > own:
        raise Forbidden("A token creates none that outlives it: expires_at is too late.")
    return expires_at


def show(ctx: Context, caller: Caller, uuid: str) -> TokenRecord:
    """Return a token without its secret: an administrator sees all, a user his own.

    Raises:
        NotFound: there is none, it was revoked, or the caller may not see it: all look alike.
    """
    token = ctx.tx.one(TokenRecord, "token_by_uuid", uuid=uuid)
    if token is None or not _may_see(caller, token):
        raise NotFound
    return token


def _may_see(caller: Caller, token: TokenRecord) -> bool:
    is_own = caller.role == "user" and token.owner_uuid == caller.user_uuid
    return caller.is_admin or is_own


def current(ctx: Context, caller: Caller) -> TokenRecord:
    """Return the token of the call, without its secret; an attempt's has no record but this."""
    if caller.token is None:
        return _of_attempt(ctx, caller)
    token = ctx.tx.one(TokenRecord, "token_by_uuid", uuid=caller.token.uuid)
    assert token is not None, "it was found in this transaction"
    return token


def _of_attempt(ctx: Context, caller: Caller) -> TokenRecord:
    assert caller.attempt_id is not None
    uuid = attempt_token_uuid(ctx.world.uuids.prefix, caller.attempt_id)
    return TokenRecord(
        id=0,
        uuid=uuid,
        owner_uuid=caller.user_uuid,
        created_at=ctx.now,
        modified_at=ctx.now,
        modified_by_user_uuid=None,
        modified_by_client_uuid=None,
        api_token=None,
        scopes=json.dumps((scopes.ALL,)),
        label="of an attempt",
        expires_at=None,
        last_used_at=None,
        role=caller.role,
    )


def revoke(ctx: Context, caller: Caller, uuid: str) -> TokenRecord:
    """Revoke a token and return it as it was; calls that hold it are refused from then on.

    Raises:
        NotFound: as of `show`.
    """
    token = show(ctx, caller, uuid)
    ctx.tx.run("token_revoke", uuid=uuid, now=ctx.now)
    return token
