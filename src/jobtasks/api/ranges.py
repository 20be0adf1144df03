"""Parts of a text that grows: ``offset`` and ``limit``, or a Range header (RFC 9110)."""

from __future__ import annotations

import re
from typing import NamedTuple

from starlette.requests import Request

from jobtasks.core.errors import Invalid
from jobtasks.core.resources import is_digits

ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})", re.ASCII)


class Span(NamedTuple):
    """Which bytes an answer brings, and with which status."""

    start: int
    stop: int
    status: int = 200


def asked_span(request: Request, size: int) -> Span | None:
    """Return the part of `size` bytes that a request asks for, None when there is no such part.

    Parameters win over the header. Several ranges, and units other than bytes, are answered with
    the whole, as the standard allows.

    Raises:
        Invalid: offset or limit is not a number.
    """
    offset = _number("offset", request.query_params.get("offset"))
    limit = _number("limit", request.query_params.get("limit"))
    if offset is not None or limit is not None:
        start = min(offset or 0, size)
        return Span(start, size if limit is None else min(start + limit, size))
    return parse_range(request.headers.get("range", ""), size)


def parse_range(header: str, size: int) -> Span | None:
    """Return the span that a Range header names, None when it lies outside of `size` bytes."""
    found = ONE_RANGE.fullmatch(header.strip())
    if found is None or found.group(1, 2) == ("", ""):
        return Span(0, size)
    first, last = found.group(1, 2)
    if not first:
        length = min(int(last), size)
        return Span(size - length, size, 206) if length else None
    start, stop = int(first), int(last) + 1 if last else size
    if stop <= start and last:
        return Span(0, size)
    return Span(start, min(stop, size), 206) if start < size else None


def range_headers(span: Span | None, size: int) -> dict[str, str]:
    """Return the headers of an answer with that part."""
    headers = {"Accept-Ranges": "bytes", "X-Content-Type-Options": "nosniff"}
    if span is None:
        return {**headers, "Content-Range": f"bytes */{size}", "Content-Length": "0"}
    if span.status == 206:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{size}"
    return {**headers, "Content-Length": str(span.stop - span.start)}


def _number(name: str, value: str | None) -> int | None:
    if not value:
        return None
    if not is_digits(value) or int(value) < 0:
        raise Invalid(f"{name} must be a number of bytes")
    return int(value)
