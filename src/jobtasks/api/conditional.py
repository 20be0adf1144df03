"""Answers that a client may have already: ``ETag`` and ``If-None-Match``."""

from __future__ import annotations

import hashlib

from starlette.requests import Request


def tag_of(content: bytes) -> str:
    """Return an entity tag that changes with the content."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client says that it has what the tag stands for.

    Tags are compared weakly: a proxy that compresses an answer may have weakened its tag.
    """
    given = ",".join(request.headers.getlist("if-none-match"))
    known = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in known or tag.removeprefix("W/") in known
