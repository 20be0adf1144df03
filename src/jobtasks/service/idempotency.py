"""What makes a create that is sent twice make one thing, not two (R22).

An Idempotency-Key or a job's ``submit_id`` says so on purpose and decides alone; without one the
X-Request-Id of clients that repeat by themselves does (service/repeats.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from jobtasks.core.errors import Invalid
from jobtasks.service import repeats
from jobtasks.service.context import Caller, Context
from jobtasks.service.repeats import RequestName, request_hash

T = TypeVar("T")
KEY_CHARACTERS_MAX = 255
NEVER_SWEPT = 2**62
"""Stands for the time at which a key was first used that is never too old."""


class Key(NamedTuple):
    """What a client calls its request, and what it sent."""

    text: str
    body_hash: bytes
    """Of a submit id: of the attributes; else of method, address and body."""
    is_submit_id: bool = False
    """Whether it is remembered for ever, and apart from keys that are not."""


Name = Key | RequestName
"""What tells a create from its repeat."""


class Remembered(NamedTuple):
    """An earlier create with the same key."""

    body_hash: bytes
    answer: str


def make_key(text: str | None, call: str, body: bytes) -> Key | None:
    """Return the key of a request, None when it brings none; `call` is its method and address.

    Raises:
        Invalid: the key is too long.
    """
    if not text:
        return None
    if len(text) > KEY_CHARACTERS_MAX:
        raise Invalid(f"Idempotency-Key must have at most {KEY_CHARACTERS_MAX} characters")
    return Key(text, request_hash(call, body))


def submit_key(submit_id: str, attributes: Mapping[str, Any]) -> Key:
    """Return the key that a job's ``submit_id`` is; equal attributes are the same body."""
    try:
        body = json.dumps(attributes, sort_keys=True).encode()
    except (RecursionError, ValueError):
        raise Invalid("The job cannot be compared with an earlier one") from None
    return Key(submit_id, hashlib.sha256(body).digest(), is_submit_id=True)


def once(
    ctx: Context,
    caller: Caller,
    key: Name | None,
    create: Callable[[], T],
    name: Callable[[T], Any],
    recall: Callable[[Any], T],
) -> T:
    """Create, or return what an earlier create with this key made, as it is now.

    A key belongs to the attempt for attempts, so that a new attempt never gets a deleted child
    back, and to the user otherwise. `name` gives what is remembered of the thing created (JSON),
    `recall` finds it again.

    Raises:
        Invalid: the key came with another body.
    """
    if key is None:
        return create()
    if isinstance(key, RequestName):
        return repeats.once(ctx, caller, key, create, name, recall)
    known = recalled(ctx, caller, key, recall)
    if known is not None:
        return known
    made = create()
    ctx.tx.run(
        "idempotency_put",
        holder=_holder(caller, key),
        key=key.text,
        body_hash=key.body_hash,
        answer=json.dumps(name(made)),
        now=NEVER_SWEPT if key.is_submit_id else ctx.now,
    )
    return made


def recalled(ctx: Context, caller: Caller, key: Key, recall: Callable[[Any], T]) -> T | None:
    """Return what an earlier create with this key made, as it is now; None when there was none.

    Raises:
        Invalid: the key came with another body.
    """
    known = ctx.tx.one(Remembered, "idempotency_get", holder=_holder(caller, key), key=key.text)
    if known is None:
        return None
    if known.body_hash != key.body_hash:
        name_of_key = "submit_id" if key.is_submit_id else "Idempotency-Key"
        other = "another body" if key.is_submit_id else "another body or call"
        raise Invalid(f"This {name_of_key} was used with {other} (R22).")
    return recall(json.loads(known.answer))


def submit_hash(ctx: Context, owner_uuid: str, submit_id: str | None) -> str | None:
    """Return the hash of what a user's ``submit_id`` was given with, in hexadecimal."""
    if not submit_id:
        return None
    known = ctx.tx.one(Remembered, "idempotency_get", holder=_submitter(owner_uuid), key=submit_id)
    return known.body_hash.hex() if known else None


def take_submit_id(
    ctx: Context, owner_uuid: str, submit_id: str, body_hash: str, job_uuid: str
) -> bool:
    """Have a user's ``submit_id`` mean a job that came from elsewhere; False: it means another."""
    holder, answer = _submitter(owner_uuid), json.dumps(job_uuid)
    known = ctx.tx.one(Remembered, "idempotency_get", holder=holder, key=submit_id)
    if known is None:
        ctx.tx.run(
            "idempotency_put",
            holder=holder,
            key=submit_id,
            body_hash=bytes.fromhex(body_hash),
            answer=answer,
            now=NEVER_SWEPT,
        )
    return known is None or known.answer == answer


def _submitter(user_uuid: str) -> str:
    return f"submit {user_uuid}"


def _holder(caller: Caller, key: Key) -> str:
    if key.is_submit_id:
        return _submitter(caller.user_uuid)
    return f"attempt {caller.attempt_id}" if caller.attempt_id else f"user {caller.user_uuid}"
