"""Thousands of requests that are almost right, byte by byte, over plain sockets (R8, R40)."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import msgspec
import pytest
from tests.api.conftest import ADMIN, AGENT, Api, LiveServer
from tests.rounds import LIMIT_SECONDS, note, rounds

from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import VERSION, Alive, Ended, EndKind, Join, LogChunk, LogChunks
from jobtasks.protocol.messages import Sync as SyncMessage

SEED = 20240229
ROW = "spoiled requests"
BODIES = 5_000
HEADS = 1_500
"""In each round."""
HANG_SECONDS = 20.0
JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
MSGPACK = b"application/msgpack"
TOKENS = [
    *(
        b"\x00",
        b"\xff",
        b"\xed\xa0\x80",
        b"\\u0000",
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\xf0\x9f\x98\x80",
    ),
    *(b"NaN", b"Infinity", b"-0", b"1e999", b"9223372036854775808", b"-9223372036854775809"),
    *(b"1" * 400, b"0.1e-400", b"true", b"null", b'""', b"{}", b"[]", b"[" * 300, b'{"a":' * 300),
    *(
        b'"',
        b"\\",
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\r\n\r\n",
        b"%00",
        b"%ff",
        b"&",
        b"=",
        b"[]",
    ),
    *(
        b"a" * 70_000,
        b"\xc1",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xcf" + b"\xff" * 8,
    ),
]


@dataclass(frozen=True)
class Sample:
    """A request that the server takes."""

    method: bytes
    path: bytes
    kind: bytes
    body: bytes
    token: str = ADMIN

    def head(self) -> bytes:
        lines = (
            self.method + b" " + self.path + b" HTTP/1.1",
            b"Host: x",
            b"Authorization: Bearer " + self.token.encode(),
            b"Content-Type: " + self.kind,
        )
        return b"\r\n".join(lines)


def samples(job: str, task: str, attempt: str, number: int) -> list[Sample]:
    """Return one request of every shape."""
    record = {
        "command": ["true"],
        "script_parameters": {"a": [1, 2.5, None, True, {"b": "ü"}]},
        "runtime_constraints": {"min_nodes": 1, "max_attempts": "3", "min_ram_per_node": 10**12},
        "priority": 3,
        "description": "text",
        "submit_id": None,
    }
    children = [{"sequence": 1, "parameters": {"n": n}, "command": ["true"]} for n in range(3)]
    filters = [
        ["uuid", "=", job],
        [["state", "log"], "like", "R%"],
        ["created_at", ">", "2014-01-01"],
    ]
    report = {"progress": 0.5, "success": None, "output": "here"}
    jobs, tasks = b"/arvados/v1/jobs", b"/arvados/v1/job_tasks"
    own_job, own_task = jobs + b"/" + job.encode(), tasks + b"/" + task.encode()

    def text(value: object) -> bytes:
        return json.dumps(value).encode()

    def form(**fields: object) -> bytes:
        return "&".join(
            f"{name}={quote(value if isinstance(value, str) else json.dumps(value))}"
            for name, value in fields.items()
        ).encode()

    token = {"owner_uuid": None, "scopes": ["GET /"], "expires_at": "2100-01-01T00:00:00Z"}
    messages = (
        (b"join", Join(VERSION, "n", "h", "i", 1, 1000, 1, 1)),
        (b"sync", SyncMessage(1, 1, [Alive(number)], [Ended(number + 5, EndKind.EXIT)], [1])),
        (b"logs", LogChunks(1, [LogChunk(number, 0, b"x", False)])),
    )
    return [
        Sample(b"POST", jobs, JSON, text(record)),
        Sample(
            b"POST", jobs, JSON, text({"job": {**record, "submit_id": "s"}, "select": '["uuid"]'})
        ),
        Sample(b"POST", jobs, JSON, text({"job": json.dumps(record)})),
        Sample(b"POST", jobs, FORM, form(job=record)),
        Sample(b"PATCH", own_job, JSON, text({"priority": 1, "description": "x"})),
        Sample(b"PUT", own_job, JSON, text({"job": record})),
        Sample(
            b"POST",
            own_job + b"/retry",
            JSON,
            text({"job_tasks": [task], "runtime_constraints": {}}),
        ),
        Sample(b"POST", tasks, JSON, text({"job_tasks": children}), attempt),
        Sample(b"POST", tasks, JSON, text(children[0]), attempt),
        Sample(b"POST", tasks, FORM, b"job_task[sequence]=1&job_task[parameters][a][]=b", attempt),
        Sample(b"PATCH", own_task, JSON, text(report), attempt),
        Sample(b"PUT", own_task, FORM, form(job_task=report), attempt),
        Sample(b"POST", tasks, FORM, form(_method="GET", filters=filters, limit="3", order="uuid")),
        Sample(b"POST", jobs, FORM, form(_method="GET", filters=filters, select=["uuid", "log"])),
        Sample(
            b"POST", b"/arvados/v1/users", JSON, text({"user": {"username": "u", "email": "e"}})
        ),
        Sample(b"POST", b"/arvados/v1/api_client_authorizations", JSON, text(token)),
        *(
            Sample(b"POST", b"/agent/v1/" + name, MSGPACK, msgspec.msgpack.encode(message), AGENT)
            for name, message in messages
        ),
    ]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Return `data` with one to four small changes."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(result) + 1)
        to = min(len(result), at + chance.choice((1, 1, 2, 8, 30)))
        kind = chance.randrange(6)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del result[at:to]
        elif kind == 2:
            result[at:at] = result[at:to] * chance.choice((1, 2, 50))
        elif kind == 3:
            result[at:to] = chance.choice(TOKENS)
        elif kind == 4:
            _replace_value(result, chance)
        else:
            result[at:at] = chance.randbytes(chance.choice((1, 3, 20)))
    return bytes(result)


def _replace_value(result: bytearray, chance: random.Random) -> None:
    """Put a token where a value of JSON stands: what parses reaches further in."""
    found = list(re.finditer(rb'(?<=: )("[^"]*"|[\w.]+|\[[^\]]*\])', bytes(result)))
    if found:
        start, end = chance.choice(found).span()
        result[start:end] = chance.choice((*TOKENS, b'"%s"' % chance.choice(TOKENS)))


class Talk:
    """A kept connection that is opened again whenever the server ends it."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.socket: socket.socket | None = None
        self.slowest_seconds = 0.0

    def ask(self, request: bytes) -> int:
        """Return the status of the answer, which must come in time."""
        began = time.monotonic()
        if self.socket is None:
            self.socket = socket.create_connection(self.address, timeout=HANG_SECONDS)
        self.socket.sendall(request)
        status, head = self._answer(self.socket)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)
        if b"\r\nconnection: close" in head:
            self.close()
        return status

    def _answer(self, connection: socket.socket) -> tuple[int, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            piece = connection.recv(65536)
            assert piece, f"the connection ended after {data!r}"
            data += piece
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.lower()
        length = re.search(rb"\r\ncontent-length: (\d+)", head)
        assert length, head
        left = int(length[1]) - len(body)
        while left > 0:
            left -= len(connection.recv(min(left, 65536)))
        return int(head.split()[1]), head

    def close(self) -> None:
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def is_whole(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: (\d+)", head.lower())
    return bool(end) and (length is None or len(body) >= int(length[1]))


@dataclass
class Rig:
    """A server, and what the requests are about."""

    api: Api
    samples: list[Sample]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.api.server.listener.getsockname()
        return host, port

    def exchange(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; return the first answer, or nothing, in time."""
        answer = b""
        began = time.monotonic()
        with socket.create_connection(self.address, timeout=HANG_SECONDS) as connection:
            try:
                connection.sendall(request)
                while not is_whole(answer) and (piece := connection.recv(65536)):
                    answer += piece
            except TimeoutError:
                raise AssertionError(f"no end of the answer to {request[:2000]!r}") from None
            except OSError:
                # The server had heard enough.
                pass
        assert time.monotonic() - began < 2 * HANG_SECONDS, request[:2000]
        return answer


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    settings = Settings(lease_seconds=600.0, head_seconds=0.3, body_seconds=0.3, tick_seconds=0.5)
    live = LiveServer(tmp_path_factory.mktemp("raw"), settings)
    api = Api(live)
    node = api.node()
    job = api.job()
    given = node.next_assignment()
    yield Rig(api, samples(job["uuid"], given.task, given.token, given.attempt))
    api.close()
    live.close()


def is_fine(rig: Rig) -> bool:
    answer = httpx.get(rig.api.server.url + "/healthz")
    return bool(answer.json() == {"health": "OK"})


@pytest.mark.rule("R8")
def test_samples_are_taken(rig: Rig) -> None:
    """What the mutations begin with is right: most of it is served."""
    talk = Talk(rig.address)
    statuses = Counter(talk.ask(_whole(sample, sample.body)) for sample in rig.samples)
    talk.close()
    assert statuses[200] >= len(rig.samples) - 4, statuses


def _whole(sample: Sample, body: bytes) -> bytes:
    return sample.head() + b"\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.mark.timeout(300 + LIMIT_SECONDS)
@pytest.mark.rule("R8")
def test_bodies_that_are_almost_right(rig: Rig) -> None:
    """No 5xx, no hang; each answer is whole, and the server goes on."""
    statuses: Counter[int] = Counter()
    for number in rounds(ROW, 1, 200):
        statuses += send_bodies(rig, random.Random(SEED + number))
        note(ROW, requests=BODIES)
    assert set(statuses) >= {200, 400, 422}, statuses


def send_bodies(rig: Rig, chance: random.Random) -> Counter[int]:
    """Send so many; return how often each status was the answer."""
    talk = Talk(rig.address)
    statuses: Counter[int] = Counter()
    for number in range(BODIES):
        sample = rig.samples[number % len(rig.samples)]
        body = mutated(sample.body, chance)
        try:
            status = talk.ask(_whole(sample, body))
        except (OSError, AssertionError) as error:
            raise AssertionError(f"no answer to {sample.path!r} {body[:500]!r}") from error
        statuses[status] += 1
        assert status < 500, (status, sample.method, sample.path, body[:2000])
    talk.close()
    assert talk.slowest_seconds < HANG_SECONDS
    assert is_fine(rig)
    return statuses


@pytest.mark.timeout(300 + LIMIT_SECONDS)
@pytest.mark.rule("R40")
def test_heads_that_are_almost_right(rig: Rig) -> None:
    """The same for whole requests: the connection is answered or closed in time, never 5xx."""
    statuses: Counter[bytes] = Counter()
    for number in rounds(ROW, 1, 200):
        statuses += send_heads(rig, random.Random(SEED + 1 + number))
        note(ROW, requests=HEADS)
    assert set(statuses) >= {b"200", b"400", b"408", b"422"}, statuses


def send_heads(rig: Rig, chance: random.Random) -> Counter[bytes]:
    """Send so many; return how often each status was the answer, and how often there was none."""
    requests = []
    for number in range(HEADS):
        sample = rig.samples[number % len(rig.samples)]
        head = sample.head() + b"\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        requests.append(mutated(head % len(sample.body), chance) + sample.body)
    statuses: Counter[bytes] = Counter()
    # Many at a time: a request that lost its end is answered when its time is over.
    with ThreadPoolExecutor(24) as pool:
        for request, answer in zip(requests, pool.map(rig.exchange, requests), strict=True):
            found = re.findall(rb"(?:^|\n)HTTP/1\.1 (\d+)", answer)
            statuses.update(found or [b"none"])
            assert not [code for code in found if code >= b"500"], (answer, request[:2000])
    assert is_fine(rig)
    assert statuses[b"none"] < HEADS / 20, statuses
    return statuses
