"""What every answer has: JSON in one piece, and one shape for errors."""

from __future__ import annotations

import secrets
import time
from typing import Any

import msgspec
from starlette.responses import Response

from jobtasks.core.errors import HeadTooLarge, JobTasksError, TooLarge, TooManyRequests, Unavailable

JSON = "application/json"
MSGPACK = "application/msgpack"
RETRY_AFTER_SECONDS = 1


def json_answer(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return `content` as a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, media_type=JSON)


def msgpack_answer(content: Any) -> Response:
    """Return one message for an agent."""
    return Response(msgspec.msgpack.encode(content), media_type=MSGPACK)


def error_answer(error: JobTasksError) -> Response:
    """Return an error as clients expect it."""
    headers = {}
    if isinstance(error, Unavailable | TooManyRequests):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(error, TooLarge | HeadTooLarge):
        # The rest of the body may still be under way: it must not be read as another request.
        headers["Connection"] = "close"
    return failure(error.status, error.code, error.messages, headers)


def failure(
    status: int, code: str, messages: tuple[str, ...], headers: dict[str, str] | None = None
) -> Response:
    """Return ``{"errors": […], "code": "…", "error_token": "<Unix seconds>+<8 hex digits>"}``.

    The sentences may change, `code` (core/errors.py) does not.
    """
    token = f"{int(time.time())}+{secrets.token_hex(4)}"
    content = {"errors": messages, "code": code, "error_token": token}
    return json_answer(content, status, headers)
