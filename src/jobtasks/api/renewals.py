"""The short way of renewals: agents send them all the time, each whole and in one piece.

The HTTP server underneath reads any request bit by bit and hands it to the application through a
dozen calls, which costs more than to take a renewal. What is not exactly as agents send it goes
that way: nothing here judges a request, it only knows the one form.
"""

from __future__ import annotations

import re
from http import HTTPStatus

from starlette.responses import Response

PATH = "/agent/v1/sync"
HEAD_BYTES_MAX = 1024
"""A longer head is not of that form."""
_START = f"POST {PATH} HTTP/1.1\r\n".encode()
HEAD_END = b"\r\n\r\n"
_NAMES = frozenset({b"host", b"authorization", b"content-type", b"content-length"})
"""A request with any other header is not of that form."""
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")
_FIRST_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}

Headers = list[tuple[bytes, bytes]]


def read(data: bytes) -> tuple[Headers, bytes] | None:
    """Return headers, in lower case, and body when `data` is one renewal and nothing else."""
    if not data.startswith(_START):
        return None
    end = data.find(HEAD_END)
    if not 0 <= end <= HEAD_BYTES_MAX:
        return None
    headers = read_headers(data[len(_START) : end])
    if headers is None:
        return None
    given = dict(headers)
    body = data[end + len(HEAD_END) :]
    is_plain = len(given) == len(headers) and given.keys() <= _NAMES
    if not is_plain or given.get(b"content-length") != b"%d" % len(body):
        return None
    return headers, body


def read_headers(lines: bytes) -> Headers | None:
    """Return the headers in the lines of a head; None when one has anything but plain text."""
    headers: Headers = []
    for line in lines.split(b"\r\n"):
        if _UNPRINTABLE.search(line):
            return None
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.strip(b" ")))
    return headers


def render(answer: Response, first: Headers | None = None) -> bytes:
    """Return an answer as it is sent, `first` before its own headers."""
    lines = [name + b": " + value for name, value in (*(first or ()), *answer.raw_headers)]
    head = _FIRST_LINES[answer.status_code] + b"\r\n".join(lines)
    return head + HEAD_END + bytes(answer.body)


def ends_connection(answer: Response) -> bool:
    """Return whether nothing may follow an answer on its connection."""
    return answer.headers.get("connection", "").lower() == "close"
