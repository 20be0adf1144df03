"""Who calls, and whether the token allows the call; default deny (R32)."""

from __future__ import annotations

import hmac
import json
from functools import lru_cache
from typing import NamedTuple

from jobtasks.core import scopes
from jobtasks.core.errors import Forbidden, NotLoggedIn, StaleAttempt
from jobtasks.core.identifiers import (
    attempt_of_token,
    attempt_token,
    attempt_token_uuid,
    spelled_token,
    token_hash,
)
from jobtasks.core.states import AttemptState
from jobtasks.service.context import Caller, Context, Token

ALWAYS = "GET /arvados/v1/api_client_authorizations/current"
"""Any token may look at itself."""
USED_SECONDS = 60
"""How often the use of a token is noted."""
MICROSECONDS = 1_000_000


class TokenRow(NamedTuple):
    """A token of a person or an agent, and who they are."""

    uuid: str
    role: str
    user_uuid: str
    is_active: int
    scopes: str
    expires_at: int | None
    last_used_at: int | None


class AttemptTokenRow(NamedTuple):
    """What an attempt's token speaks for."""

    token_hash: bytes
    state: int
    task_id: int
    job_id: int
    owner_uuid: str


def identify(ctx: Context, token: str | None, call: str | None = None) -> Caller:
    """Return whose token this is, as of this transaction, when it allows `call`.

    `token` is the secret alone, or in three parts with the token's UUID. `call` is a request as
    scopes name it (core/scopes.py); None: a call from within the process, which no scope bounds.

    Raises:
        NotLoggedIn: no token, or one that is unknown, expired, revoked, or of another UUID.
        StaleAttempt: the attempt that it belonged to is over.
        Forbidden: its scopes do not allow the call, or it writes and its user is inactive.
    """
    if not token:
        raise NotLoggedIn
    secret, uuid = spelled_token(token)
    attempt_id = attempt_of_token(secret)
    if attempt_id is not None:
        if uuid not in (None, attempt_token_uuid(ctx.world.uuids.prefix, attempt_id)):
            raise NotLoggedIn
        return _attempt_caller(ctx, attempt_id, secret)
    row = ctx.tx.one(TokenRow, "token_by_hash", hash=token_hash(secret))
    if row is None or uuid not in (None, row.uuid):
        raise NotLoggedIn
    if row.expires_at is not None and row.expires_at <= ctx.now:
        raise NotLoggedIn
    known = Token(row.uuid, _scopes(row.scopes), row.expires_at, row.last_used_at)
    if call is not None:
        _check_call(row, known, call)
    return Caller(row.role, row.user_uuid, token=known)


@lru_cache(maxsize=1024)
def _scopes(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _check_call(row: TokenRow, token: Token, call: str) -> None:
    if call != ALWAYS and not scopes.allows(token.scopes, call):
        raise Forbidden("Forbidden: the scopes of this token do not allow this call.")
    if not row.is_active and not scopes.is_read(call):
        raise Forbidden("This user is inactive and may only read.")


def _attempt_caller(ctx: Context, attempt_id: int, secret: str) -> Caller:
    # Derived, not looked up: of an attempt whose job was deleted, only the token itself tells.
    genuine = attempt_token(ctx.world.token_key, attempt_id)
    if not hmac.compare_digest(genuine, secret):
        raise NotLoggedIn
    row = ctx.tx.one(AttemptTokenRow, "attempt_token", attempt_id=attempt_id)
    if row is None or row.state >= AttemptState.STOPPING:
        raise StaleAttempt
    if not hmac.compare_digest(row.token_hash, token_hash(secret)):
        raise NotLoggedIn
    return Caller("attempt", row.owner_uuid, attempt_id, row.task_id, row.job_id)


def is_use_news(caller: Caller, now: int) -> bool:
    """Return whether the use of the caller's token at `now` is to be noted; not of agents'."""
    if caller.token is None or caller.role == "agent":
        return False
    used_at = caller.token.last_used_at
    return used_at is None or used_at <= now - USED_SECONDS * MICROSECONDS


def note_use(ctx: Context, uuid: str) -> None:
    """Note that a token was used, unless that is known of the last minute."""
    before = ctx.now - USED_SECONDS * MICROSECONDS
    ctx.tx.run("token_used", uuid=uuid, now=ctx.now, before=before)
