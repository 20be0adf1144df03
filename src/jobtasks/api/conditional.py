"""Answers that a client may have already: ``ETag`` and ``If-None-Match``."""

from __future__ import annotations

import hashlib

from starlette.requests import Request
from starlette.responses import Response

REVALIDATED = "private, no-cache"
"""Told to caches of answers that depend on who asks: ask again before each use."""


def tag_of(content: bytes) -> str:
    """Return an entity tag that changes with the content."""
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def if_changed(request: Request, answer: Response) -> Response:
    """Return `answer` with a tag of its content, or 304 when the client has just that.

    The tag is made of the very bytes: nothing that an answer shows can change without it.
    """
    tag = tag_of(bytes(answer.body))
    answer.headers["ETag"] = tag
    answer.headers["Cache-Control"] = REVALIDATED
    if not is_known(request, tag):
        return answer
    return Response(None, 304, {"ETag": tag, "Cache-Control": REVALIDATED})


def is_known(request: Request, tag: str) -> bool:
    """Return whether the client says that it has what the tag stands for.

    Tags are compared weakly: a proxy that compresses an answer may have weakened its tag.
    """
    given = ",".join(request.headers.getlist("if-none-match"))
    known = {part.strip().removeprefix("W/") for part in given.split(",")}
    return "*" in known or tag.removeprefix("W/") in known
