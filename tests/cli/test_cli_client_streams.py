"""Bytes that the command line's client sends and reads, when the server is away in between."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import pytest

from jobtasks.cli.client import Client
from jobtasks.cli.state import Address
from jobtasks.core.errors import NotFound

ADDRESS = Address("http://127.0.0.1:1", "a-token")


def client_of(*answers: httpx.Response | Exception) -> tuple[Client, list[httpx.Request]]:
    """A client that gets these answers, and what it asked."""
    asked: list[httpx.Request] = []
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        asked.append(request)
        given = left.pop(0)
        if isinstance(given, Exception):
            raise given
        return given

    client = Client(lambda: ADDRESS, patience_seconds=30)
    client._http.close()
    client._http = httpx.Client(transport=httpx.MockTransport(answer))
    return client, asked


def test_a_file_is_sent_whole_each_time() -> None:
    """A cut connection and a 503 are repeated from the first byte on."""
    done = httpx.Response(200, json={"attachment_bytes": 9})
    client, asked = client_of(httpx.ReadError("cut"), httpx.Response(503), done)
    with client, io.BytesIO(b"some file") as file:
        file.read(4)
        assert client.put("/jobs/U/attachment", file) == {"attachment_bytes": 9}
    assert [request.content for request in asked] == [b"some file"] * 3
    assert {request.headers["Authorization"] for request in asked} == {"Bearer a-token"}


class Breaking(httpx.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        yield b"first "
        raise httpx.ReadError("cut")


def test_a_stream_that_breaks_off_is_begun_anew() -> None:
    """Its taker is called again; a refusal is raised, not streamed."""
    whole = httpx.Response(200, content=b"first second")
    refused = httpx.Response(404, json={"errors": ["no such job"]})
    client, _ = client_of(httpx.Response(200, stream=Breaking()), whole, refused)
    seen: list[list[bytes]] = []

    def take(pieces: Iterator[bytes]) -> None:
        seen.append([])
        for piece in pieces:
            seen[-1].append(piece)

    with client:
        client.stream("/jobs/U/logs", take)
        assert [b"".join(pieces) for pieces in seen] == [b"first ", b"first second"]
        with pytest.raises(NotFound):
            client.stream("/jobs/U/logs", take)
