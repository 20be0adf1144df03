"""What a token may be used for: a list of scopes, as Arvados has them.

A call is ``METHOD /path``: the method in effect, HEAD counting as GET, and the tidy path without
its query. A scope is ``all``, a call, or the beginning of calls that ends in ``/``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec

from jobtasks.core.errors import Invalid

ALL = "all"
READ_ONLY = "GET /"
"""The scope that allows every read and nothing else."""
SCOPES_MAX = 100
SCOPE_CHARACTERS_MAX = 1000
CALL = re.compile(r"(GET|POST|PUT|PATCH|DELETE) /[^\s\0\ud800-\udfff]*")


def call_of(method: str, path: str) -> str:
    """Return a request as scopes name it."""
    return f"{'GET' if method == 'HEAD' else method} {path}"


def is_read(call: str) -> bool:
    """Return whether a call only reads."""
    return call.startswith("GET ")


def allows(scopes: Iterable[str], call: str) -> bool:
    """Return whether one of `scopes` allows `call`.

    For another scope in place of the call: whether everything that it allows is allowed.
    """
    return any(
        scope in (ALL, call) or (scope.endswith("/") and call.startswith(scope)) for scope in scopes
    )


def parse_scopes(value: Any) -> tuple[str, ...]:
    """Return the scopes that an attribute holds: a list, or its JSON; nothing means `ALL`.

    Stricter than Arvados, which keeps any text: a scope that can allow nothing is a mistake.

    Raises:
        Invalid: it is no such list.
    """
    if value is None or value == "":
        return (ALL,)
    if isinstance(value, str):
        value = _decoded(value)
    if not isinstance(value, list) or not all(isinstance(scope, str) for scope in value):
        raise Invalid('scopes must be a list of texts such as "all" or "GET /arvados/v1/jobs/"')
    if len(value) > SCOPES_MAX:
        raise Invalid(f"scopes must have at most {SCOPES_MAX} items")
    for scope in value:
        _check(scope)
    return tuple(dict.fromkeys(value))


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _check(scope: str) -> None:
    if len(scope) > SCOPE_CHARACTERS_MAX:
        raise Invalid(f"A scope must have at most {SCOPE_CHARACTERS_MAX} characters")
    if scope != ALL and not CALL.fullmatch(scope):
        raise Invalid(
            f"'{scope[:80]}' is no scope: it must be all, or METHOD /path with GET, POST, PUT,"
            " PATCH or DELETE"
        )
