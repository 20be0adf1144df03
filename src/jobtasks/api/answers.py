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
    return failure(error.status, error.messages, headers)


def failure(
    status: int, messages: tuple[str, ...], headers: dict[str, str] | None = None
) -> Response:
    """Return ``{"errors": […], "error_token": "<Unix seconds>+<8 hex digits>"}``."""
    token = f"{int(time.time())}+{secrets.token_hex(4)}"
    return json_answer({"errors": messages, "error_token": token}, status, headers)
