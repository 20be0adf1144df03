"""A real server in a thread: SQLite on disk, uvicorn on loopback, the manager; nodes are played."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest
import uvloop
from tests.databases import store_for

from jobtasks.api.edge import Edge
from jobtasks.api.hub import Hub
from jobtasks.api.manager import manage
from jobtasks.api.server import HttpServer, Pages, http_config
from jobtasks.core.identifiers import UuidMaker
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import (
    VERSION,
    Alive,
    Assignment,
    Ended,
    EndKind,
    Join,
    Joined,
    LogChunk,
    LogChunks,
    LogStored,
    Orders,
    Sync,
)
from jobtasks.service import setup
from jobtasks.service.context import World

T = TypeVar("T")
ADMIN = "u" + "1" * 49
AGENT = "u" + "2" * 49
LIMIT_SECONDS = 30.0
"""How long a test waits for what must happen."""


def plain_client(url: str, headers: dict[str, str]) -> httpx.Client:
    """Return a client of an http address, to be closed.

    It verifies nobody, as there is nobody to verify: to read the system's authorities first takes
    a hundred times as long as everything else.
    """
    return httpx.Client(base_url=url, headers=headers, timeout=60, verify=False)


class LiveServer:
    """The server's parts, run as the process runs them, in a thread."""

    def __init__(
        self,
        directory: Path,
        settings: Settings,
        pages: Pages = lambda edge: (),
        pack_dir: Path | None = None,
    ) -> None:
        self.pages = pages
        self.pack_dir = pack_dir
        self.log_dir = directory / "logs"
        self.log_dir.mkdir(exist_ok=True)
        self.store = store_for(directory)
        self.settings = settings
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="server")
        self._thread.start()
        assert self._ready.wait(LIMIT_SECONDS), "the server did not start"

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        world = World(
            self.settings,
            UuidMaker("zzzzz", secrets.randbelow),
            b"key",
            lambda: 0.5,
            self.log_dir,
            self.pack_dir,
        )
        self.edge = Edge(self.store, world, Hub(self._loop))
        await self.edge.commit(lambda ctx: setup.prepare(ctx, ADMIN, AGENT))
        http = HttpServer(http_config(self.edge, self.pages(self.edge)))
        serving = asyncio.create_task(http.serve(sockets=[self.listener]))
        managing = asyncio.create_task(manage(self.edge))
        while not http.started:
            await asyncio.sleep(0.001)
        self._ready.set()
        await self._stop.wait()
        self.edge.hub.close()
        http.should_exit = True
        await serving
        await managing
        self.edge.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something in the server's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_SECONDS)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self.store.close()


class Node:
    """Plays an agent, one call at a time."""

    def __init__(
        self,
        url: str,
        slots: int = 2,
        memory_kib: int = 1_000_000,
        token: str = AGENT,
        hostname: str = "testnode",
    ) -> None:
        self.hostname = hostname
        headers = {"Authorization": f"Bearer {token}"}
        self.client = plain_client(url, headers)
        self.slots = slots
        self.number = 0
        self.running: dict[int, Assignment] = {}
        self.fresh: list[Assignment] = []
        """What was given and not yet returned by `next_assignment`."""
        self.joined = self.join(memory_kib)

    def call(self, path: str, message: Any, shape: Callable[..., Any]) -> Any:
        answer = self.client.post(path, content=msgspec.msgpack.encode(message))
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=shape)

    def join(self, memory_kib: int) -> Joined:
        message = Join(
            version=VERSION,
            node="node-" + secrets.token_hex(4),
            hostname=self.hostname,
            incarnation=secrets.token_hex(4),
            slots=self.slots,
            memory_kib=memory_kib,
            cores=2,
            scratch_mb=1000,
        )
        joined: Joined = self.call("/agent/v1/join", message, Joined)
        return joined

    def sync(self, *ended: Ended, wait_seconds: float = 0.0, leaving: bool = False) -> Orders:
        """Say what runs and what has ended; take what is to be started."""
        for end in ended:
            self.running.pop(end.attempt, None)
        self.number += 1
        used = {assignment.slot for assignment in self.running.values()}
        message = Sync(
            self.joined.agent,
            self.number,
            running=[Alive(attempt) for attempt in self.running],
            ended=list(ended),
            free_slots=[slot for slot in range(1, self.slots + 1) if slot not in used],
            wait_seconds=wait_seconds,
            leaving=leaving,
        )
        orders: Orders = self.call("/agent/v1/sync", message, Orders)
        self.fresh += [given for given in orders.start if given.attempt not in self.running]
        self.running |= {given.attempt: given for given in orders.start}
        return orders

    def next_assignment(self) -> Assignment:
        """Return the next task to run here."""
        seen: Orders | None = None
        for _ in range(20):
            if self.fresh:
                return self.fresh.pop(0)
            seen = self.sync(wait_seconds=1.0)
        raise AssertionError(f"nothing to start; last orders: {seen}")

    def end(self, attempt: int, exit_code: int = 0, **more: Any) -> Orders:
        """Report that an attempt has ended."""
        return self.sync(Ended(attempt, EndKind.EXIT, exit_code=exit_code, **more))

    def push_log(self, attempt: int, data: bytes, offset: int = 0, final: bool = False) -> None:
        chunks = LogChunks(self.joined.agent, [LogChunk(attempt, offset, data, final)])
        stored = self.call("/agent/v1/logs", chunks, LogStored)
        assert stored.stored == [attempt]

    def close(self) -> None:
        self.sync(
            *(Ended(attempt, EndKind.STOPPED) for attempt in list(self.running)), leaving=True
        )
        self.client.close()


class Api:
    """The client's side."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.http = self.client(ADMIN)
        self._nodes: list[Node] = []
        self._clients: list[httpx.Client] = [self.http]

    def client(self, token: str | None) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return plain_client(self.server.url, headers)

    def as_attempt(self, assignment: Assignment) -> httpx.Client:
        """Return a client with an attempt's token."""
        client = self.client(assignment.token)
        self._clients.append(client)
        return client

    def node(self, slots: int = 2, **more: Any) -> Node:
        node = Node(self.server.url, slots, **more)
        self._nodes.append(node)
        return node

    def job(self, **attributes: Any) -> dict[str, Any]:
        """Create a job; it runs a command unless told otherwise."""
        answer = self.http.post("/arvados/v1/jobs", json={"command": ["true"], **attributes})
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def get(self, path: str, **parameters: Any) -> Any:
        answer = self.http.get("/arvados/v1/" + path, params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cancel_all(self) -> None:
        """Cancel what is left of a test's jobs."""
        for state in ("Queued", "Running"):
            filters = f'[["state","=","{state}"]]'
            for job in self.get("jobs", filters=filters, limit=1000)["items"]:
                self.http.post(f"/arvados/v1/jobs/{job['uuid']}/cancel")

    def close(self) -> None:
        for node in self._nodes:
            node.close()
        for client in self._clients:
            client.close()


FAST = Settings(tick_seconds=0.2, delay_seconds=0.01, renew_seconds=0.5)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """One server for all tests of a run; each test has jobs and nodes of its own."""
    live = LiveServer(tmp_path_factory.mktemp("server"), FAST)
    yield live
    live.close()


@pytest.fixture
def api(server: LiveServer) -> Iterator[Api]:
    """A client of the shared server. Jobs that a test leaves running are cancelled."""
    client = Api(server)
    yield client
    client.cancel_all()
    client.close()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of a module's own: what its tests leave running goes on."""
    settings = dataclasses.replace(FAST, lease_seconds=600.0)
    live = LiveServer(tmp_path_factory.mktemp("lasting"), settings)
    client = Api(live)
    yield client
    client.close()
    live.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Api]:
    """A server of the test's own with small limits."""
    settings = Settings(
        tick_seconds=0.2,
        delay_seconds=0.01,
        body_bytes_max=2000,
        bulk_body_bytes_max=10_000,
        bulk_tasks_max=20,
        attachment_bytes_max=2000,
        record_bytes_max=500,
        depth_max=8,
        list_items_max=3,
        wait_seconds_max=0.3,
        log_bytes_max=1000,
    )
    live = LiveServer(tmp_path, settings)
    client = Api(live)
    yield client
    client.close()
    live.close()
