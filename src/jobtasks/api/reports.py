"""The short way of reports: a task says how far it is, in one small request that came whole.

Tasks that take milliseconds send two each, and the way through HTTP server and framework costs
several times what it costs to store one. What is not exactly of this form, or comes in pieces, goes
that way: nothing here judges a request, and nobody can tell by an answer which way it came.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from jobtasks.api.renewals import HEAD_BYTES_MAX, HEAD_END, Headers, read_headers

BODY_BYTES_MAX = 16 * 1024
"""A longer body is not of that form."""
ROUTE = "/arvados/v1/job_tasks/{uuid}"
"""As requests are counted."""
HEADERS_MAX = 8
_FIRST_LINE = re.compile(
    rb"(PATCH|PUT) (/arvados/v1/job_tasks/([0-9a-z]{5}-[0-9a-z]{5}-[0-9a-z]{15})) HTTP/1\.1\r\n"
)
_NAMES = frozenset({
    b"host", b"authorization", b"content-type", b"content-length",
    b"accept", b"accept-encoding", b"user-agent",
})  # fmt: skip
"""A request with any other header is not of that form: others may ask for something."""
_JSON = b"application/json"


class Report(NamedTuple):
    """An update of one task, and all that it says."""

    method: str
    path: str
    uuid: str
    authorization: str
    """The header, "" without one."""
    body: bytes


def read(data: bytes) -> Report | None:
    """Return the report when `data` is one and nothing else."""
    line = _FIRST_LINE.match(data)
    if line is None:
        return None
    end = data.find(HEAD_END, 0, HEAD_BYTES_MAX)
    if end < line.end() or len(data) > end + BODY_BYTES_MAX:
        return None
    headers = read_headers(data[line.end() : end])
    body = data[end + len(HEAD_END) :]
    if headers is None or not _is_plain(headers, len(body)):
        return None
    method, path, uuid = (part.decode() for part in line.groups())
    given = dict(headers)
    return Report(method, path, uuid, given.get(b"authorization", b"").decode(), body)


def _is_plain(headers: Headers, body_bytes: int) -> bool:
    given = dict(headers)
    return (
        len(given) == len(headers)
        and given.keys() <= _NAMES
        and given.get(b"content-type") == _JSON
        and given.get(b"content-length") == b"%d" % body_bytes
    )
