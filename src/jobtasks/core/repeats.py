"""Whether a create is the repeat of one whose answer was lost (R22).

Clients of Arvados send a POST again when its connection was cut, with the ``X-Request-Id`` of the
first time. Most give every call an id of its own; some give one id to all calls of a program, and
for these an equal create is a second wish, not a repeat.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import NamedTuple

REQUEST_ID = re.compile("req-[0-9a-z]{20}")
"""Ids that may mark a repeat: other values are too likely to be somebody's constant."""


class Decision(Enum):
    """What to do with a create that carries a request's id."""

    CREATE = "create"
    """Create, and remember what was created under the id."""
    MERGE = "merge"
    """Create nothing: it is the repeat of what is remembered."""
    DISTRUST = "distrust"
    """Create, and from now on never merge what this token sends: it gives one id to two calls."""


class Earlier(NamedTuple):
    """What is remembered of an earlier create with the same token and id."""

    request_hash: bytes
    """Of its method, address and body."""
    created_at: int
    """Unix microseconds."""
    is_delivered: bool
    """Whether its answer is known to have arrived."""


def decide(
    earlier: Earlier | None, request_hash: bytes, now: int, window_microseconds: int
) -> Decision:
    """Return what a create with an id is, `earlier` being the one that had the id before.

    Nobody repeats what was answered: an id that comes again after that, or with something else,
    belongs to more than one call.
    """
    if earlier is None or now - earlier.created_at > window_microseconds:
        return Decision.CREATE
    if earlier.is_delivered or earlier.request_hash != request_hash:
        return Decision.DISTRUST
    return Decision.MERGE
