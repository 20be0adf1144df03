"""POSTs that are sent again with their X-Request-Id, because their answer was lost (R22)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

from jobtasks.core.identifiers import token_hash
from jobtasks.core.repeats import Decision, Earlier, decide
from jobtasks.service.context import Caller, Context
from jobtasks.store.base import Values

T = TypeVar("T")
MICROSECONDS = 1_000_000
Id = tuple[bytes, str]
"""The hash of a token, and an X-Request-Id that was sent with it."""


class RequestName(NamedTuple):
    """What a POST is called by the token that sent it, and what it asks for."""

    id: Id
    request_hash: bytes
    """Of its method, address and body."""
    was_delivered: bool = False
    """Whether the answer to an earlier POST of this name is known to have arrived."""


class EarlierRow(NamedTuple):
    """An earlier POST as it is stored."""

    request_hash: bytes
    created_at: int
    delivered: int
    answer: str


def make_name(
    secret: str, request_id: str, call: str, body: bytes, delivered: Callable[[Id], bool]
) -> RequestName:
    """Return the name of a request: `call` is its method and address with the query."""
    ident = (token_hash(secret), request_id)
    return RequestName(ident, request_hash(call, body), delivered(ident))


def request_hash(call: str, body: bytes) -> bytes:
    """Return the hash of what a request asks for; the body may be large, and is not copied."""
    hashed = hashlib.sha256(call.encode() + b"\0")
    hashed.update(body)
    return hashed.digest()


def once(
    ctx: Context,
    caller: Caller,
    name: RequestName,
    create: Callable[[], T],
    answer_of: Callable[[T], Any],
    recall: Callable[[Any], T],
) -> T:
    """Create, or return what the POST made whose repeat this is, as it is now.

    `answer_of` gives what is remembered of the thing created (JSON), `recall` finds it again.
    """
    if is_distrusted(ctx, caller):
        return create()
    hashed, request_id = name.id
    row = ctx.tx.one(EarlierRow, "repeat_get", token_hash=hashed, request_id=request_id)
    earlier = row and Earlier(
        row.request_hash, row.created_at, bool(row.delivered) or name.was_delivered
    )
    window = round(ctx.settings.repeat_seconds * MICROSECONDS)
    decision = decide(earlier, name.request_hash, ctx.now, window)
    if row is not None and decision is Decision.MERGE:
        return recall(json.loads(row.answer))
    made = create()
    if decision is Decision.DISTRUST:
        _distrust(ctx, caller)
    else:
        ctx.tx.run(
            "repeat_put",
            token_hash=hashed,
            request_id=request_id,
            request_hash=name.request_hash,
            answer=json.dumps(answer_of(made)),
            now=ctx.now,
        )
    return made


def is_distrusted(ctx: Context, caller: Caller) -> bool:
    """Return whether the caller's token once gave one id to two calls."""
    if caller.attempt_id is not None:
        return bool(ctx.tx.value("attempt_shares_ids", attempt_id=caller.attempt_id))
    return caller.token is None or bool(ctx.tx.value("token_shares_ids", uuid=caller.token.uuid))


def _distrust(ctx: Context, caller: Caller) -> None:
    if caller.attempt_id is not None:
        ctx.tx.run("attempt_distrust_ids", attempt_id=caller.attempt_id)
    elif caller.token is not None:
        ctx.tx.run("token_distrust_ids", uuid=caller.token.uuid)


def note_delivered(ctx: Context, ids: Iterable[Id]) -> None:
    """Note that the answers to these POSTs have arrived: they will not be repeated."""
    rows: list[Values] = [{"token_hash": hashed, "request_id": name} for hashed, name in ids]
    ctx.tx.run_many("repeat_delivered", rows)


def sweep(ctx: Context) -> None:
    """Forget a slice of the POSTs that are too old to be repeated."""
    before = ctx.now - round(ctx.settings.repeat_seconds * MICROSECONDS)
    ctx.tx.run("repeat_sweep", before=before, limit=ctx.settings.sweep_rows)
