"""What is more than the server can hold is put off: 429, nothing done; never agents (R33, R40)."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.api.conftest import ADMIN, Api, LiveServer

from jobtasks.core.settings import Settings

LIMIT_SECONDS = 10.0
ROOM_BYTES = 200_000
WHOLE = 150_000


def served(directory: Path, **settings: Any) -> Iterator[Api]:
    live = LiveServer(directory, Settings(lease_seconds=600.0, **settings))
    client = Api(live)
    yield client
    client.close()
    live.close()


@pytest.fixture(scope="module")
def hurried(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server on which it is never a client's turn in time."""
    yield from served(tmp_path_factory.mktemp("hurried"), turn_seconds=0.0)


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that holds little of requests at a time."""
    yield from served(tmp_path_factory.mktemp("narrow"), bodies_bytes_max=ROOM_BYTES)


@pytest.mark.rule("R40")
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_whose_turn_comes_too_late_is_put_off(hurried: Api, method: str) -> None:
    """429 with Retry-After, for reads and writes; nothing is stored."""
    answer = hurried.http.request(method, "/arvados/v1/jobs", json={"command": ["true"]})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert answer.json()["code"] == "too_many_requests"
    count = hurried.server.store.read(lambda tx: tx.text("SELECT count(*) FROM job", {}))
    assert count == [(0,)]


@pytest.mark.rule("R33", "R40")
def test_an_agent_is_not_put_off(hurried: Api) -> None:
    """Join and sync have a line of their own."""
    node = hurried.node()
    assert node.sync().renewed


@pytest.mark.rule("R40")
@pytest.mark.parametrize("path", ["/agent/v1/join", "/agent/v1/sync", "/agent/v1/logs"])
def test_only_agents_go_ahead(hurried: Api, path: str) -> None:
    """Others are refused before their body is read."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\nAuthorization: Bearer "
    for token, status in ((ADMIN, b"403"), ("made-up", b"401")):
        with connected(hurried) as connection:
            connection.sendall(f"{head}{token}\r\n\r\n".encode())
            assert connection.recv(65536).split()[1] == status


def connected(api: Api) -> socket.socket:
    connection = socket.create_connection(api.server.listener.getsockname())
    connection.settimeout(LIMIT_SECONDS)
    return connection


def body_of(size: int) -> bytes:
    body = json.dumps({"command": ["true"], "description": ""}).encode()
    return body[:-2] + b"x" * (size - len(body)) + body[-2:]


def send_half(connection: socket.socket, api: Api) -> None:
    """Send a head and half of a body; return when the server has them."""
    head = (
        "POST /arvados/v1/jobs HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        f"Authorization: Bearer {ADMIN}\r\nContent-Length: {WHOLE}\r\n\r\n"
    )
    connection.sendall(head.encode() + body_of(WHOLE)[: WHOLE // 2])
    until = time.monotonic() + LIMIT_SECONDS
    while (held := api.server.edge.bodies.held_bytes) != WHOLE // 2:
        assert time.monotonic() < until, held


def post(api: Api, size: int, *, announced: bool = True) -> httpx.Response:
    body = body_of(size)
    return api.http.post("/arvados/v1/jobs", content=body if announced else iter([body]))


@pytest.mark.rule("R40")
def test_bodies_that_find_no_room_are_put_off(narrow: Api) -> None:
    """By what they announce, or as they come; small ones and later ones are taken."""
    assert post(narrow, WHOLE).status_code == 200
    with connected(narrow) as connection:
        send_half(connection, narrow)
        for announced in (True, False):
            refused = post(narrow, WHOLE, announced=announced)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert post(narrow, 1000).status_code == 200
        connection.sendall(body_of(WHOLE)[WHOLE // 2 :])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert post(narrow, WHOLE).status_code == 200


@pytest.mark.rule("R40")
def test_a_body_alone_may_be_larger_than_all_together(narrow: Api) -> None:
    """Its own limit is another one; otherwise it could never be sent."""
    for announced in (True, False):
        assert post(narrow, 2 * ROOM_BYTES, announced=announced).status_code == 200


@pytest.mark.rule("R40")
def test_a_sender_that_goes_gives_its_room_back(narrow: Api) -> None:
    """In the middle of a body."""
    with connected(narrow) as connection:
        send_half(connection, narrow)
    until = time.monotonic() + LIMIT_SECONDS
    while post(narrow, WHOLE).status_code != 200:
        assert time.monotonic() < until, "the room is lost"


@pytest.mark.rule("R40")
def test_many_large_bodies_at_once_come_through_by_and_by(narrow: Api) -> None:
    """Who repeats what was put off gets through; nothing but 200 and 429 is answered."""

    def insist(number: int) -> set[int]:
        statuses = set()
        until = time.monotonic() + 3 * LIMIT_SECONDS
        while 200 not in statuses:
            assert time.monotonic() < until
            statuses.add(post(narrow, 60_000).status_code)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        assert set().union(*pool.map(insist, range(24))) <= {200, 429}
