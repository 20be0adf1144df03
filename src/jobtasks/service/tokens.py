"""Who calls: tokens of people, agents and attempts; default deny (R32)."""

from __future__ import annotations

import hmac
from typing import NamedTuple

from jobtasks.core.errors import NotLoggedIn, StaleAttempt
from jobtasks.core.identifiers import attempt_of_token, token_hash
from jobtasks.core.states import AttemptState
from jobtasks.service.context import Caller, Context


class TokenRow(NamedTuple):
    """A token of a person or an agent."""

    role: str
    user_uuid: str
    expires_at: int | None
    revoked_at: int | None


class AttemptTokenRow(NamedTuple):
    """What an attempt's token speaks for."""

    token_hash: bytes
    state: int
    task_id: int
    job_id: int
    owner_uuid: str


def identify(ctx: Context, secret: str | None) -> Caller:
    """Return whose token this is, as of this transaction.

    Raises:
        NotLoggedIn: no token, or one that is unknown, expired or revoked.
        StaleAttempt: the attempt that it belonged to is over.
    """
    if not secret:
        raise NotLoggedIn
    attempt_id = attempt_of_token(secret)
    if attempt_id is not None:
        return _attempt_caller(ctx, attempt_id, secret)
    row = ctx.tx.one(TokenRow, "token_by_hash", hash=token_hash(secret))
    if row is None or row.revoked_at is not None:
        raise NotLoggedIn
    if row.expires_at is not None and row.expires_at <= ctx.now:
        raise NotLoggedIn
    return Caller(row.role, row.user_uuid)


def _attempt_caller(ctx: Context, attempt_id: int, secret: str) -> Caller:
    row = ctx.tx.one(AttemptTokenRow, "attempt_token", attempt_id=attempt_id)
    if row is None or not hmac.compare_digest(row.token_hash, token_hash(secret)):
        raise NotLoggedIn
    if row.state >= AttemptState.STOPPING:
        raise StaleAttempt
    return Caller("attempt", row.owner_uuid, attempt_id, row.task_id, row.job_id)
