"""Hundreds of slow, silent or senseless clients; those beside them are served (R40)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from tests.rounds import IS_TORTURE, note, seconds

from jobtasks.api.connection import FILES_OF_OWN

from .conftest import LIMIT_SECONDS, QUICK, Api, Served, Start, wait_until

ROW = "slow connections"
COUNT = 2000 if IS_TORTURE else 500
BETWEEN_SECONDS = 0.2
"""Between two bytes of a slow client."""
SETTINGS = {**QUICK, "head_seconds": 1.5, "body_seconds": 1.5, "answer_seconds": 1.5}
LARGE = 900_000
"""Characters of a record, so that an answer with two does not fit on its way."""
WINDOW_BYTES = 4096
MALFORMED = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    b"GET / HTTP/1.1\r\n: x\r\n\r\n",
    b"POST /arvados/v1/jobs HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    b"POST /arvados/v1/jobs HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabc",
    b"POST /arvados/v1/jobs HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x00" * 2000,
    b"\r\n" * 2000,
]

Behaviour = Callable[["Crowd", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Crowd:
    """Clients of one kind each, until the server has closed every one of their connections."""

    def __init__(self, served: Served) -> None:
        host, _, port = served.address.partition(":")
        self._address = host, int(port)
        token = (served.state / "admin.token").read_text().strip()
        self.head = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n".encode()
        self.kept: Counter[str] = Counter()
        """Connections that were not closed in time, by behaviour."""
        self.closed = 0
        self.half_read = 0
        """Connections on which the begin of an answer came."""

    def run(self, count: int) -> None:
        """Let so many come at once, as many of each kind."""
        asyncio.run(self._run(count))

    async def _run(self, count: int) -> None:
        kinds: list[Behaviour] = [silent, slow_head, slow_body, half_read, malformed]
        await asyncio.gather(*(self._one(kinds[n % len(kinds)]) for n in range(count)))

    async def _one(self, behave: Behaviour) -> None:
        # Before it connects: afterwards the window is agreed on.
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, WINDOW_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, self._address)
        reader, writer = await asyncio.open_connection(sock=connection, limit=1024)
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                with suppress(ConnectionError):
                    await behave(self, reader, writer)
            self.closed += 1
        except TimeoutError:
            self.kept[getattr(behave, "__name__", "")] += 1
        finally:
            writer.transport.abort()


async def silent(crowd: Crowd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await until_closed(reader)


async def slow_head(
    crowd: Crowd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send a head byte by byte."""
    await byte_by_byte(b"GET /arvados/v1/jobs" + crowd.head + b"X: ", reader, writer)


async def slow_body(
    crowd: Crowd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send a body byte by byte."""
    writer.write(b"POST /arvados/v1/jobs" + crowd.head + b"Content-Length: 100000\r\n\r\n")
    await byte_by_byte(b'{"', reader, writer)


async def half_read(
    crowd: Crowd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Ask for more than fits on the way, and take the begin of it only."""
    writer.write(b"GET /arvados/v1/jobs?limit=2" + crowd.head + b"\r\n")
    try:
        await reader.readexactly(1024)
    except asyncio.IncompleteReadError:
        return  # On a machine that is busy its time was over before it had asked.
    crowd.half_read += 1
    # With its buffer full the stream reads no further: that the server has closed shows when what
    # is sent is refused.
    while not writer.transport.is_closing():
        writer.write(b"\r\n")
        await asyncio.sleep(BETWEEN_SECONDS)


async def malformed(
    crowd: Crowd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Send what is no HTTP."""
    writer.write(MALFORMED[crowd.closed % len(MALFORMED)])
    await until_closed(reader)


async def byte_by_byte(
    begin: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    closed = asyncio.ensure_future(until_closed(reader))
    try:
        for number in range(100_000):
            writer.write(begin[number : number + 1] or b"x")
            done, _ = await asyncio.wait([closed], timeout=BETWEEN_SECONDS)
            if done:
                return
    finally:
        closed.cancel()


async def until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(1024):
        pass


class Others:
    """Clients that behave, until they are told to stop."""

    def __init__(self, served: Served, job: str) -> None:
        self._served = served
        self._job = job
        self._stop = threading.Event()
        self.statuses: Counter[int] = Counter()
        self.seconds: list[float] = []

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Have four of them at work."""
        self._stop.clear()
        self.seconds = []
        threads = [threading.Thread(target=self._work) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        with self._served.http() as http:
            while not self._stop.is_set():
                for method, path, body in (
                    ("GET", f"/jobs/{self._job}", None),
                    ("PATCH", f"/jobs/{self._job}", {"priority": 3}),
                    ("GET", "/jobs?limit=5&select=[%22uuid%22]", None),
                ):
                    began = time.monotonic()
                    answer = http.request(method, path, json=body)
                    self.seconds.append(time.monotonic() - began)
                    self.statuses[answer.status_code] += 1

    def p99(self) -> float:
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


def files_of(served: Served) -> list[str]:
    """Return what a server has open; files that are closed just now are left out."""
    found = []
    for path in Path(f"/proc/{served.process.pid}/fd").iterdir():
        with suppress(OSError):
            found.append(os.readlink(path))
    return found


def connections_of(served: Served) -> int:
    """Return how many sockets a server has open."""
    return sum(name.startswith("socket:") for name in files_of(served))


@pytest.mark.timeout(seconds(0, 300) + 240)
@pytest.mark.rule("R40")
def test_slow_and_senseless_clients_hold_nobody_up(start: Start) -> None:
    """Each is closed at its time limit, those beside it are answered, no file stays open."""
    served = start("--no-agent", settings=SETTINGS)
    own = connections_of(served)
    with served.api() as api:
        jobs = [
            api.post("/jobs", {"command": ["true"], "description": "x" * LARGE})["uuid"]
            for _ in range(2)
        ]
        others = Others(served, jobs[0])
        with others.at_work():
            wait_until("a measure without them", lambda: len(others.seconds) > 200)
        alone = others.p99()
        wait_until("their ends are seen", lambda: connections_of(served) <= own + 1)
    crowd = Crowd(served)
    until = time.monotonic() + seconds(0, 300)
    rounds = 0
    with others.at_work():
        while rounds == 0 or time.monotonic() < until:
            crowd.run(COUNT)
            rounds += 1
        beside = others.p99()
    assert crowd.kept == Counter()
    assert crowd.closed == rounds * COUNT
    assert crowd.half_read
    assert set(others.statuses) == {200}
    wait_until("all are closed", lambda: connections_of(served) <= own)
    files = len(files_of(served))
    assert files - own < FILES_OF_OWN, files_of(served)
    note(
        ROW,
        connections=crowd.closed,
        files_at_the_end=files,
        others=len(others.seconds),
        p99_ms=round(beside * 1000, 1),
        p99_alone_ms=round(alone * 1000, 1),
        p99_ratio=round(beside / alone, 2),
    )
    assert served.process.poll() is None
    assert "Traceback" not in served.errors(), served.errors()[-3000:]


OUT = [
    "../" * 8 + "{name}",
    "..%2f" * 8 + "{name}",
    "%2e%2e/" * 8 + "{name}",
    "..%252f" * 8 + "{name}",
    "..%5c" * 8 + "{name}",
    "....//" * 8 + "{name}",
    "%2f{state}/{name}",
    "{state}/{name}",
    "x%00/../{name}",
    "..;/" * 8 + "{name}",
    "%c0%ae%c0%ae%2f" * 8 + "{name}",
    ".%0d%0a/{name}",
]
PLACES = [
    "/arvados/v1/jobs/{}",
    "/arvados/v1/jobs/{}/output",
    "/arvados/v1/jobs/{}/attachment",
    "/arvados/v1/jobs/{}/logs",
    "/arvados/v1/jobs/{job}/{}",
    "/arvados/v1/job_tasks/{}",
    "/arvados/v1/job_tasks/{}/log",
    "/arvados/v1/job_tasks/{task}/{}",
    "/arvados/v1/job_tasks/{task}/log?attempt={}",
    "/arvados/v1/job_tasks/{task}/log?stream={}",
    "/arvados/v1/nodes/{}",
    "/arvados/v1/users/{}",
    "/{}",
]


def raw_get(served: Served, target: str, token: str) -> bytes:
    """Return the answer to a GET whose address is sent as it stands."""
    host, _, port = served.address.partition(":")

    async def exchange() -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            f"Authorization: Bearer {token}\r\n\r\n".encode()
        )
        answer = await asyncio.wait_for(reader.read(-1), LIMIT_SECONDS)
        writer.close()
        return answer

    return asyncio.run(exchange())


@pytest.mark.rule("R40")
def test_no_path_leads_out(start: Start) -> None:
    """Whatever stands for a uuid, a number or a name of a file: 4xx, and no file's content."""
    served = start("--slots", "1", settings=QUICK)
    secret = (served.state / "agent.token").read_text().strip()
    token = (served.state / "admin.token").read_text().strip()
    statuses: Counter[int] = Counter()
    with served.api() as api:
        job = api.final(api.post("/jobs", {"command": ["echo", "said"]})["uuid"])["uuid"]
        [task] = api.tasks(job)
        for place in PLACES:
            for way in OUT:
                words = way.format(name="agent.token", state=str(served.state).lstrip("/"))
                target = place.replace("{}", words).format(job=job, task=task["uuid"])
                answer = raw_get(served, target, token)
                status = int(answer.split()[1])
                statuses[status] += 1
                assert secret.encode() not in answer, target
                assert 400 <= status < 500, (target, answer[:500])
        refuse_scripts(api, served.state)
        assert api.get(f"/jobs/{job}")["state"] == "Complete"
    assert statuses.total() == len(PLACES) * len(OUT)
    assert "Traceback" not in served.errors(), served.errors()[-3000:]


def refuse_scripts(api: Api, state: Path) -> None:
    """Check that no script lies outside of its directory, and no directory is a relative one."""
    for script, version in (
        ("../agent.token", str(state / "logs")),
        ("x/../../agent.token", str(state / "logs")),
        (str(state / "agent.token"), str(state)),
        ("agent.token", "../" * 8 + str(state)),
        ("agent.token\0", str(state)),
        ("..", "/"),
        (".", "/"),
    ):
        body = {"script": script, "script_version": version}
        answer: httpx.Response = api.http.post("/jobs", content=json.dumps(body))
        assert answer.status_code == 422, (body, answer.text)
