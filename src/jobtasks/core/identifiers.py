"""UUIDs and tokens: how they look and how they are made; randomness comes in through the door."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
PAIRS = tuple(high + low for high in DIGITS for low in DIGITS)
TYPES = {
    "job": "8i9sb",
    "job_task": "ot0gb",
    "user": "tpzed",
    "node": "7ekkf",
    "token": "gj3su",
    "log": "57u5n",
    "notice": "notic",
}
"""The middle part of a UUID by kind of resource, as every Arvados site has it but for notices."""

UUID_PATTERN = re.compile(r"[0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{15}")
ATTEMPT_TOKEN = re.compile(r"a([0-9a-f]{11})[0-9a-f]{38}")
SPAN = 36**6
"""Numbers that a millisecond owns in the last part of a UUID."""
JOB_SHIFT = 32
HMAC_BLOCK_BYTES = 64
TOKENS_KEPT = 4096
"""Tokens of attempts that need not be derived again."""


def base36(number: int, width: int) -> str:
    """Return `number` in lower-case base 36, padded with zeros to `width` digits."""
    found = []
    for _ in range(width // 2):
        number, pair = divmod(number, 36 * 36)
        found.append(PAIRS[pair])
    if width % 2:
        found.append(DIGITS[number % 36])
    return "".join(reversed(found))


def consecutive(start: int, count: int, width: int) -> list[str]:
    """Return `count` numbers from `start` on in base 36, as `base36` would one by one.

    Leading digits are shared by runs of 36 neighbours: a bulk create makes 100,000 of them.
    """
    found: list[str] = []
    high, low = divmod(start, 36)
    while len(found) < count:
        head = base36(high, width - 1)
        found += [head + digit for digit in DIGITS[low : low + count - len(found)]]
        high, low = high + 1, 0
    return found


def is_uuid(text: str, kind: str | None = None) -> bool:
    """Return whether `text` has the form of a UUID, of `kind` when one is named."""
    if not UUID_PATTERN.fullmatch(text):
        return False
    return kind is None or text[6:11] == TYPES[kind]


def qsequence_of(row_id: int) -> int:
    """Return the qsequence that a task's row id holds."""
    return row_id & ((1 << JOB_SHIFT) - 1)


def task_id(job_id: int, qsequence: int) -> int:
    """Return the row id of a task: rows of a job lie together in order of arrival."""
    return job_id << JOB_SHIFT | qsequence


def job_of_task(task_id: int) -> int:
    """Return the row id of the job that a task's row id names."""
    return task_id >> JOB_SHIFT


class UuidMaker:
    """Makes UUIDs that grow with time, so that an index over them grows at its end.

    The last 15 digits are milliseconds times 36^6 plus a random start, then count upwards. Two
    makers on one database can collide only within the same millisecond; the unique index tells.
    """

    def __init__(self, prefix: str, random_below: Callable[[int], int]) -> None:
        self.prefix = prefix
        self._random_below = random_below
        self._last = 0

    def make(self, kind: str, now: int) -> str:
        """Return one new UUID; `now` in Unix microseconds."""
        return self.make_many(kind, now, 1)[0]

    def make_many(self, kind: str, now: int, count: int) -> list[str]:
        """Return `count` new UUIDs in growing order."""
        start = now // 1000 * SPAN + self._random_below(SPAN // 2)
        start = max(start, self._last + 1)
        self._last = start + count - 1
        return [f"{self.prefix}-{TYPES[kind]}-{digits}" for digits in consecutive(start, count, 15)]


def token_hash(token: str) -> bytes:
    """Return what the store keeps of a token; tokens are random, so one round is enough."""
    return hashlib.sha256(token.encode()).digest()


@lru_cache(maxsize=TOKENS_KEPT)
def attempt_token(key: bytes, attempt_id: int) -> str:
    """Return an attempt's token (R32), derived, so that an assignment can be repeated.

    It names its attempt, so that no index over tokens is needed and a dead one is recognised.
    Letters and digits only: the oldest clients send nothing else. Kept for a while: it is needed
    when the attempt is claimed, when it is assigned, and at each of its calls.
    """
    begun_inner, begun_outer = _begun_hmac(key)
    inner, outer = begun_inner.copy(), begun_outer.copy()
    inner.update(b"attempt %d" % attempt_id)
    outer.update(inner.digest())
    return f"a{attempt_id:011x}{outer.hexdigest()[:38]}"


@lru_cache(maxsize=8)
def _begun_hmac(key: bytes) -> tuple[hashlib._Hash, hashlib._Hash]:
    """Return the two hashes of an HMAC-SHA-256 (RFC 2104) that have taken their key.

    To begin anew for each message takes three times as long.
    """
    if len(key) > HMAC_BLOCK_BYTES:
        key = hashlib.sha256(key).digest()
    block = key.ljust(HMAC_BLOCK_BYTES, b"\0")
    inner, outer = (bytes(byte ^ pad for byte in block) for pad in (0x36, 0x5C))
    return hashlib.sha256(inner), hashlib.sha256(outer)


def attempt_of_token(token: str) -> int | None:
    """Return the attempt that a token claims to be of, None when it is of another kind."""
    found = ATTEMPT_TOKEN.fullmatch(token)
    return int(found[1], 16) if found else None


class SpelledToken(NamedTuple):
    """A token as a client spells it."""

    secret: str
    uuid: str | None
    """The token's own UUID, where the spelling names it: it must be the right one."""


def spelled_token(text: str) -> SpelledToken:
    """Return what ``SECRET`` or ``v2/UUID/SECRET`` says; further parts are left aside."""
    parts = text.split("/")
    if parts[0] == "v2" and len(parts) > 2:
        return SpelledToken(parts[2], parts[1])
    return SpelledToken(text, None)


def attempt_token_uuid(prefix: str, attempt_id: int) -> str:
    """Return the UUID of an attempt's token, which has no record of its own."""
    return f"{prefix}-{TYPES['token']}-{base36(attempt_id, 15)}"


def make_token(random_below: Callable[[int], int]) -> str:
    """Return a new token for a person or an agent."""
    return "u" + base36(random_below(36**49), 49)
