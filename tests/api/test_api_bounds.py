"""Connections and requests have limits of size, time and number (R40)."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response
from tests.api.conftest import ADMIN, Api, LiveServer

from jobtasks.api.connection import FILES_OF_OWN, bounded_by
from jobtasks.api.renewals import Headers
from jobtasks.core.settings import Settings

LIMIT_SECONDS = 30.0
HEAD = f"Host: x\r\nAuthorization: Bearer {ADMIN}\r\n".encode()


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server that waits for nobody long."""
    settings = Settings(
        head_bytes_max=4000,
        headers_max=20,
        head_seconds=0.5,
        body_seconds=0.5,
        answer_seconds=0.5,
        requests_open_max=3,
        connections_max=10,
        wait_seconds_max=30,
    )
    live = LiveServer(Path(tmp_path_factory.mktemp("quick")), settings)
    client = Api(live)
    yield client
    client.close()
    live.close()


def connect(api: Api) -> socket.socket:
    connection = socket.create_connection(api.server.listener.getsockname())
    connection.settimeout(LIMIT_SECONDS)
    return connection


def all_of(connection: socket.socket) -> bytes:
    """Return what comes until the server closes."""
    pieces = []
    while piece := connection.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def error_of(answer: bytes, status: int) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nconnection: close" in head.lower()
    decoded = json.loads(body)
    assert set(decoded) == {"errors", "code", "error_token"}
    return str(decoded["errors"][0])


@pytest.mark.rule("R40")
@pytest.mark.parametrize(
    "more",
    [
        b"X-Large: " + b"y" * 5000 + b"\r\n",
        b"".join(b"X-%d: y\r\n" % number for number in range(30)),
        b"X-%s: y\r\n" % (b"z" * 5000),
    ],
)
def test_a_head_that_is_too_large(quick: Api, more: bytes) -> None:
    """431 in the shape of every error; the connection ends, the server goes on."""
    with connect(quick) as connection:
        connection.sendall(b"GET /arvados/v1/jobs HTTP/1.1\r\n" + HEAD + more + b"\r\n")
        assert "larger than a limit" in error_of(all_of(connection), 431)
    assert quick.http.get("/healthz").status_code == 200


@pytest.mark.rule("R40")
@pytest.mark.parametrize("begin", [b"GET /", b"GET / HTTP/1.1\r\nX: "])
def test_a_head_without_end(quick: Api, begin: bytes) -> None:
    """It is refused as soon as it is too large; no more of it is kept."""
    with connect(quick) as connection:
        connection.sendall(begin)
        with pytest.raises(OSError):
            for _ in range(10_000):
                connection.sendall(b"a" * 4096)
            pytest.fail("forty megabytes were taken")


@pytest.mark.rule("R40")
@pytest.mark.parametrize(
    ("part", "status"),
    [
        (b"", None),
        (b"\r\n", None),
        (b"GET /arvados/v1/jobs HTTP/1.1\r\nHost:", 408),
        (b"POST /arvados/v1/jobs HTTP/1.1\r\n" + HEAD + b"Content-Length: 9\r\n\r\n{", 408),
    ],
)
def test_a_request_that_does_not_go_on(quick: Api, part: bytes, status: int | None) -> None:
    """Half a request is answered with 408, none at all is not; either way the connection ends."""
    began = time.monotonic()
    with connect(quick) as connection:
        connection.sendall(part)
        answer = all_of(connection)
    assert 0.3 < time.monotonic() - began < LIMIT_SECONDS
    if status is None:
        assert answer == b""
    else:
        assert "in time" in error_of(answer, status)


@pytest.mark.rule("R40")
def test_bytes_now_and_then_do_not_keep_a_connection(quick: Api) -> None:
    """A byte every tenth of a second is no progress."""
    began = time.monotonic()
    with connect(quick) as connection:
        connection.settimeout(0.1)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        answer = None
        while answer is None and time.monotonic() < began + LIMIT_SECONDS:
            connection.sendall(b"y")
            try:
                answer = connection.recv(1000)
            except TimeoutError:
                continue
    assert answer is not None, "the connection was kept"
    error_of(answer, 408)


@pytest.mark.rule("R40")
def test_a_request_that_arrives_steadily_is_served(quick: Api) -> None:
    """A body that keeps a pace may take longer than the time that a small one has."""
    body = b'{"command":["true"],"description":"' + b"x" * 400_000 + b'"}'

    def pieces() -> Iterator[bytes]:
        for at in range(0, len(body), 40_000):
            yield body[at : at + 40_000]
            # Slower than the whole time that is given, faster than the pace.
            until = time.monotonic() + 0.12
            while time.monotonic() < until:
                pass

    assert quick.http.post("/arvados/v1/jobs", content=pieces()).status_code == 200


@pytest.mark.rule("R40")
def test_an_answer_that_nobody_takes(quick: Api) -> None:
    """The connection of a client that asks and never reads ends."""
    for _ in range(12):
        quick.job(description="x" * 1_000_000)
    with connect(quick) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /arvados/v1/jobs HTTP/1.1\r\n" + HEAD + b"\r\n")
        until = time.monotonic() + LIMIT_SECONDS
        while quick.server.edge.meters.requests[("GET", "/arvados/v1/jobs", 200)] == 0:
            assert time.monotonic() < until
        http = httpx.get(quick.server.url + "/healthz")
        assert http.status_code == 200
        with pytest.raises(OSError):
            while time.monotonic() < until:
                connection.sendall(b"\r\n")
            pytest.fail("the connection was kept")


@pytest.mark.rule("R40")
def test_requests_beyond_the_limit_are_sent_away(quick: Api) -> None:
    """429 with Retry-After; agents and later requests are served."""
    job = quick.job(runtime_constraints={"min_ram_per_node": 10**12})
    path = f"{quick.server.url}/arvados/v1/jobs/{job['uuid']}"
    headers = {"Authorization": f"Bearer {ADMIN}"}
    with ThreadPoolExecutor(3) as pool:
        waits = [
            pool.submit(httpx.get, path, params={"wait": 20}, headers=headers, timeout=60)
            for _ in range(3)
        ]
        until = time.monotonic() + LIMIT_SECONDS
        while quick.server.edge.meters.requests_open < 3:
            assert time.monotonic() < until, quick.server.edge.meters.requests_open
        refused = httpx.get(path, headers=headers)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        quick.node().sync()
        _cancel_in_store(quick, job["uuid"])
        assert [wait.result().status_code for wait in waits] == [200, 200, 200]
    assert httpx.get(path, headers=headers).status_code == 200


@pytest.mark.rule("R40")
def test_connections_beyond_the_limit_are_sent_away(quick: Api) -> None:
    """429, and closed; when others are gone there is room again."""
    with ExitStack() as stack:
        kept = [stack.enter_context(connect(quick)) for _ in range(10)]
        answers = [all_of(stack.enter_context(connect(quick))) for _ in range(3)]
        assert {answer[:13] for answer in answers if answer} == {b"HTTP/1.1 429 "}
        assert b"\r\nretry-after: 1\r\n" in answers[-1].lower()
        assert len(kept) == 10
    until = time.monotonic() + LIMIT_SECONDS
    while not _is_served(quick):
        assert time.monotonic() < until, "there is no room any more"


def _is_served(api: Api) -> bool:
    try:
        return httpx.get(f"{api.server.url}/healthz").status_code == 200
    except httpx.TransportError:
        return False


def connections_open_max(settings: Settings) -> int:
    async def nobody(headers: Headers, body: bytes) -> Response:
        raise AssertionError(headers, body)

    return bounded_by(settings, nobody).connections_open_max


def test_the_server_keeps_files_for_itself() -> None:
    """However many connections are allowed, its database and logs can be opened."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
        assert connections_open_max(Settings()) == 1000 - FILES_OF_OWN
        assert connections_open_max(Settings(connections_max=5)) == 5
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _cancel_in_store(api: Api, uuid: str) -> None:
    """Cancel a job as the server itself would: no request gets through now."""
    from jobtasks.service import jobs
    from jobtasks.service.context import Caller

    caller = Caller("admin", "zzzzz-tpzed-000000000000000")
    edge = api.server.edge
    api.server.run(edge.commit(lambda ctx: jobs.cancel(ctx, caller, uuid, None)))


@pytest.mark.rule("R41")
def test_many_requests_on_one_connection(api: Api) -> None:
    """HTTP/1.1 keeps the connection, refused requests included; requests sent ahead are answered
    in order.
    """
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    refused = b"GET /arvados/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    with connect(api) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        connection.sendall(refused + request + last)
        statuses = [part[:3] for part in all_of(connection).split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"404", b"200", b"200"]


@pytest.mark.rule("R40")
def test_a_host_of_someone_else_is_not_repeated(api: Api) -> None:
    """No answer is built from what a request says about where the server is."""
    for line in (b"GET http://evil.example/arvados/v1/jobs", b"GET /arvados/v1/jobs"):
        with connect(api) as connection:
            head = HEAD.replace(b"Host: x", b"Host: evil.example")
            connection.sendall(line + b" HTTP/1.1\r\n" + head + b"Connection: close\r\n\r\n")
            assert b"evil" not in all_of(connection)


@pytest.mark.rule("R40")
@pytest.mark.parametrize("path", [b"/arvados/v1/jobs", b"/nothing"])
def test_a_body_without_end(quick: Api, path: bytes) -> None:
    """It is answered, dropped for a while so that its sender can read why, and then cut off."""
    with connect(quick) as connection:
        head = b"POST " + path + b" HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
        connection.sendall(head)
        sent = 0
        with pytest.raises(OSError):
            while sent < 2**30:
                connection.sendall(b"100000\r\n" + b"x" * 2**20 + b"\r\n")
                sent += 2**20
            pytest.fail("a gigabyte was taken")
    assert quick.http.get("/healthz").status_code == 200


@pytest.mark.rule("R40")
def test_packed_bodies_are_not_unpacked(quick: Api) -> None:
    """A bomb of a thousand times its size stays what it is: 415."""
    packed = gzip.compress(b" " * 10_000_000)
    answer = quick.http.post(
        "/arvados/v1/jobs", content=packed, headers={"Content-Encoding": "gzip"}
    )
    assert answer.status_code == 415


@pytest.mark.rule("R40")
@pytest.mark.parametrize("size", ["Content-Length: 200000000", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("path", ["/arvados/v1/job_tasks", "/arvados/v1/jobs", "/agent/v1/sync"])
def test_a_large_body_of_a_stranger_is_not_read(quick: Api, path: str, size: str) -> None:
    """401 comes before a byte of the body: a made-up token fills no memory."""
    with connect(quick) as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer made-up\r\n{size}\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
