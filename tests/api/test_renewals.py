"""Renewals that come whole go a short way (api/renewals.py); nobody can tell by the answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import msgspec
import pytest
from tests.api.conftest import AGENT, LIMIT_SECONDS, Api, Node

from jobtasks.api import renewals
from jobtasks.protocol.messages import Orders, Sync

pytestmark = pytest.mark.rule("R33", "R40")

BODY = b"\x81\xa1a\x01"


def request(
    body: bytes = BODY, *more: bytes, token: str = "u1", length: int | None = None
) -> bytes:
    """Return a renewal as an agent sends it, with further lines of the head."""
    lines = (
        b"POST /agent/v1/sync HTTP/1.1",
        b"Host: 127.0.0.1:1",
        b"Authorization: Bearer " + token.encode(),
        b"Content-Type: application/msgpack",
        b"Content-Length: %d" % (len(body) if length is None else length),
        *more,
    )
    return b"\r\n".join((*lines, b"", body))


def test_what_agents_send_is_read() -> None:
    """Headers in lower case, and the body."""
    found = renewals.read(request(token="u5"))
    assert found is not None
    assert dict(found[0])[b"authorization"] == b"Bearer u5"
    assert found[1] == BODY


@pytest.mark.parametrize(
    "data",
    [
        request(length=3),
        request(length=5),
        request()[:-1],
        request()[:40],
        request() + request(),
        request(BODY, b"Transfer-Encoding: chunked"),
        request(BODY, b"Connection: close"),
        request(BODY, b"Content-Length: 4"),
        request(BODY, b"X-Request-Id: mine"),
        request(BODY, b"Host : x"),
        request(token="u\n5"),
        request(token="u\x005"),
        request(token="u" * 2000),
        request().replace(b"POST", b"PUT"),
        request().replace(b"sync ", b"sync?x=1 "),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"Length: 4", b"Length: +4"),
        b"",
    ],
)
def test_all_else_goes_the_long_way(data: bytes) -> None:
    """There it is judged."""
    assert renewals.read(data) is None


@pytest.fixture
def connection(api: Api) -> Iterator[socket.socket]:
    """A connection to the server."""
    with socket.create_connection(api.server.listener.getsockname()) as found:
        found.settimeout(LIMIT_SECONDS)
        yield found


def answer(connection: socket.socket) -> tuple[bytes, dict[bytes, bytes], bytes]:
    """Return first line, headers and body of the next answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1)
    first, *lines = data[:-4].split(b"\r\n")
    headers = {name.lower(): value for name, value in (line.split(b": ", 1) for line in lines)}
    body = b""
    while len(body) < int(headers[b"content-length"]):
        body += connection.recv(int(headers[b"content-length"]) - len(body))
    return first, headers, body


def sync(node: Node, number: int, wait_seconds: float = 0.0) -> bytes:
    """Return a sync as an agent sends it."""
    message = Sync(node.joined.agent, number, wait_seconds=wait_seconds)
    return msgspec.msgpack.encode(message)


@pytest.mark.parametrize(
    ("token", "body"),
    [(AGENT, None), ("u1", None), (AGENT, b"\xc1"), (AGENT, b""), (AGENT, b"\x81\xa1a\x01")],
)
def test_answers_are_those_of_the_long_way(
    api: Api, connection: socket.socket, token: str, body: bytes | None
) -> None:
    """Status, names of headers and, but for what is drawn anew, content."""
    node = api.node()
    found = []
    for number, more in enumerate(((), (b"Accept: */*",)), 1):
        connection.sendall(
            request(sync(node, number) if body is None else body, *more, token=token)
        )
        found.append(answer(connection))
    (short, short_headers, short_body), (long, long_headers, long_body) = found
    assert short == long
    assert short_headers.keys() == long_headers.keys() - {b"date"}
    if b" 200 " in short:
        orders = [msgspec.msgpack.decode(one, type=Orders) for one in (short_body, long_body)]
        assert [one.number for one in orders] == [1, 2]
    else:
        assert b"error_token" in short_body
        assert b"error_token" in long_body


def test_both_ways_on_one_connection(api: Api, connection: socket.socket) -> None:
    """In any order, and what is sent before the answer is answered after it."""
    node = api.node()
    connection.sendall(request(sync(node, 1, wait_seconds=0.2), token=AGENT))
    connection.sendall(request(sync(node, 2), b"Accept: */*", token=AGENT))
    connection.sendall(request(sync(node, 3), token=AGENT))
    numbers = []
    for _ in range(3):
        first, _, body = answer(connection)
        assert first == b"HTTP/1.1 200 OK"
        numbers.append(msgspec.msgpack.decode(body, type=Orders).number)
    assert numbers == [1, 2, 3]


def test_renewals_are_counted(api: Api, connection: socket.socket) -> None:
    """Under the address that they have."""
    node = api.node()
    key = ("POST", "/agent/v1/sync", 200)
    before = api.server.edge.meters.requests[key]
    connection.sendall(request(sync(node, 1), token=AGENT))
    answer(connection)
    assert api.server.edge.meters.requests[key] == before + 1
