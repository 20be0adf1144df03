"""Many agents and clients in one process, over HTTP: what they met is one JSON object on stdout.

Agents speak the sync protocol as real ones do: one call waits at the server, news go beside it. The
tasks that they are given have no processes; a seed creates the children that its job asks for. When
the time is over, clients create nothing more, and agents go on until every job is over.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import secrets
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import uvloop

from jobtasks.protocol.messages import (
    VERSION,
    Alive,
    Assignment,
    Ended,
    EndKind,
    Join,
    Joined,
    Orders,
    Sync,
)

CALL_SECONDS = 60.0
TASK_LINES = 40
"""Connections that running tasks share."""
CYCLE_SECONDS = 2.0
"""How often a client comes: it creates a job, lists, and changes what it created."""
MSGPACK = "application/msgpack"

_encode = msgspec.msgpack.Encoder().encode
_orders = msgspec.msgpack.Decoder(Orders)
_joined = msgspec.msgpack.Decoder(Joined)

Answered = Callable[[int, bytes], None]
SLOTS = 2
CHILDREN = 3
"""What the first task of each job creates."""
FLOOD_TASKS = 5000
"""What a flooding client creates in one call."""
FLOOD = json.dumps(
    {"job_tasks": [{"job_uuid": "JOB", "parameters": {"n": n}} for n in range(FLOOD_TASKS)]}
).encode()
LOST = 0
"""Stands for the status of a call that got no answer."""


class Line(asyncio.Protocol):
    """One kept connection, one call at a time; opened anew when it was lost."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._answered: Answered | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.retry_after = 0.0

    @property
    def busy(self) -> bool:
        return self._answered is not None

    def call(
        self, method: str, path: str, token: str, body: bytes, kind: str, answered: Answered
    ) -> None:
        """Send a request; `answered` gets status and body, `LOST` when there was no answer."""
        assert self._answered is None
        self._answered = answered
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(CALL_SECONDS, self._lose)
        if self._transport is None:
            opening = loop.create_task(self._open(head.encode() + body))
            opening.add_done_callback(lambda done: done.exception())
        else:
            self._transport.write(head.encode() + body)

    async def ask(
        self, method: str, path: str, token: str, body: bytes = b"", kind: str = "application/json"
    ) -> tuple[int, bytes]:
        """Do the same; return status and body."""
        done: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        self.call(method, path, token, body, kind, lambda *answer: done.set_result(answer))
        return await done

    async def _open(self, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(lambda: self, *self._address)
        except OSError:
            self._lose()
            return
        self._transport = transport
        transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = bytes(self._received[:end]).lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines)
        size = end + 4 + int(fields.get(b"content-length", b"0"))
        if len(self._received) < size:
            return
        body = bytes(self._received[end + 4 : size])
        self._received.clear()
        self.retry_after = float(fields.get(b"retry-after", b"0"))
        self._done(int(first.split()[1]), body)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lose()

    def _lose(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        self._received.clear()
        if self._answered is not None:
            self._done(LOST, b"")

    def _done(self, status: int, body: bytes) -> None:
        answered, self._answered = self._answered, None
        assert answered is not None and self._timer is not None
        self._timer.cancel()
        answered(status, body)


class Met:
    """What agents and clients met."""

    def __init__(self) -> None:
        self.agent_statuses: Counter[str] = Counter()
        self.client_statuses: Counter[str] = Counter()
        self.report_seconds: list[float] = []
        """Syncs that reported an end, which are answered at once."""
        self.late_seconds: list[float] = []
        """By how much calls that waited in vain were answered after their time."""
        self.client_seconds: list[float] = []
        self.renewal_gap_seconds = 0.0
        """The longest time of an agent between two renewals."""
        self.rejoins = 0
        self.discarded = 0
        """Attempts that the server had given up while they ran."""
        self.ended = 0

    def figures(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "agent_statuses": self.agent_statuses,
            "client_statuses": self.client_statuses,
            "reports": len(self.report_seconds),
            "sync_p50": share(self.report_seconds, 0.5),
            "sync_p99": share(self.report_seconds, 0.99),
            "sync_max": share(self.report_seconds, 1.0),
            "late_p99": share(self.late_seconds, 0.99),
            "client_p50": share(self.client_seconds, 0.5),
            "client_p99": share(self.client_seconds, 0.99),
            "renewal_gap_seconds": round(self.renewal_gap_seconds, 4),
            "rejoins": self.rejoins,
            "discarded": self.discarded,
            "ended": self.ended,
        }


def share(values: list[float], part: float) -> float:
    """Return the value below which this part of all is."""
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * part), len(ordered) - 1)], 4) if ordered else 0.0


class TaskLines:
    """Connections of running tasks, shared by all agents."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._idle = deque(Line(address) for _ in range(TASK_LINES))
        self._room = asyncio.Semaphore(TASK_LINES)

    async def ask(
        self, method: str, path: str, token: str, body: bytes
    ) -> tuple[int, bytes, float]:
        async with self._room:
            line = self._idle.popleft()
            try:
                status, answer = await line.ask(method, path, token, body)
                return status, answer, line.retry_after
            finally:
                self._idle.append(line)


class PlayedAgent:
    """One agent; its attempts end after a while, half of them at once."""

    def __init__(
        self, address: tuple[str, int], token: str, slots: int, met: Met, tasks: TaskLines
    ) -> None:
        self._token = token
        self._met = met
        self._slots = slots
        self._lines = (Line(address), Line(address))
        self._tasks = tasks
        self._number = 0
        self._running: dict[int, Assignment] = {}
        self._ended: dict[int, Ended] = {}
        self._seen: set[int] = set()
        self._jobs: dict[str, dict[str, Any]] = {}
        """Parameters of the jobs that the server has told of."""
        self._news = False
        self._renewed_at = 0.0
        self._under_way: set[asyncio.Task[None]] = set()
        self.leaving = False

    async def join(self) -> None:
        """Present itself and begin."""
        name = secrets.token_hex(8)
        message = Join(VERSION, name, name, name, self._slots, 1_000_000, 8, 1000)
        status, body = await self._lines[0].ask(
            "POST", "/agent/v1/join", self._token, _encode(message), MSGPACK
        )
        assert status == 200, (status, body)
        self._joined = _joined.decode(body)
        self._renewed_at = time.monotonic()
        self._pump()

    def _pump(self) -> None:
        """Say what is to be said: beside the call that waits when there is news."""
        idle = [line for line in self._lines if not line.busy]
        if self.leaving or not idle or (len(idle) == 1 and not self._news):
            return
        self._news = False
        self._number += 1
        taken = {given.slot for given in self._running.values()}
        wait_seconds = self._joined.renew_seconds
        message = Sync(
            self._joined.agent,
            self._number,
            running=[Alive(attempt) for attempt in self._running],
            ended=list(self._ended.values()),
            free_slots=[slot for slot in range(1, self._slots + 1) if slot not in taken],
            jobs_known=list(self._jobs),
            wait_seconds=wait_seconds,
        )
        sent_at = time.monotonic()
        is_report = bool(message.ended)

        def answered(status: int, body: bytes) -> None:
            self._met.agent_statuses[str(status)] += 1
            if status == 200:
                self._obey(_orders.decode(body), sent_at, is_report, wait_seconds)
                self._pump()
            else:
                asyncio.get_running_loop().call_later(0.5, self._pump)

        self._lines[self._lines.index(idle[0])].call(
            "POST", "/agent/v1/sync", self._token, _encode(message), MSGPACK, answered
        )

    def _obey(self, orders: Orders, sent_at: float, is_report: bool, wait_seconds: float) -> None:
        now = time.monotonic()
        met = self._met
        if is_report:
            met.report_seconds.append(now - sent_at)
        elif now - sent_at >= wait_seconds:
            met.late_seconds.append(now - sent_at - wait_seconds)
        if orders.renewed:
            met.renewal_gap_seconds = max(met.renewal_gap_seconds, now - self._renewed_at)
            self._renewed_at = now
        met.rejoins += orders.rejoin
        met.discarded += sum(stop.discard for stop in orders.stop)
        for attempt in orders.acknowledged:
            self._ended.pop(attempt, None)
        for brief in orders.jobs:
            self._jobs[brief.uuid] = json.loads(brief.script_parameters)
        for uuid in orders.jobs_over:
            self._jobs.pop(uuid, None)
        for given in orders.start:
            if given.attempt not in self._seen:
                self._seen.add(given.attempt)
                self._running[given.attempt] = given
                playing = asyncio.get_running_loop().create_task(self._play(given))
                self._under_way.add(playing)
                playing.add_done_callback(self._under_way.discard)

    async def _play(self, given: Assignment) -> None:
        parameters = self._jobs.get(given.job, {})
        exit_code = 0
        if given.sequence == 0 and parameters.get("children"):
            children = [{"parameters": {"n": n}} for n in range(parameters["children"])]
            exit_code = await self._create(given, children)
        elif random.random() < 0.5:
            await asyncio.sleep(random.random() * 2)
        del self._running[given.attempt]
        self._ended[given.attempt] = Ended(given.attempt, EndKind.EXIT, exit_code=exit_code)
        self._met.ended += 1
        self._news = True
        # Not at once: what ends in the same moment goes along.
        asyncio.get_running_loop().call_soon(self._pump)

    async def _create(self, given: Assignment, children: list[dict[str, Any]]) -> int:
        """Create children as a task does that repeats what was put off; return its exit code."""
        body = json.dumps({"job_tasks": children}).encode()
        status = 429
        while status == 429:
            status, _, wait = await self._tasks.ask(
                "POST", "/arvados/v1/job_tasks", given.token, body
            )
            self._met.client_statuses[str(status)] += 1
            await asyncio.sleep(wait)
        return 0 if status == 200 else 75


class PlayedClient:
    """Creates jobs, lists, shows, and changes what it created."""

    def __init__(self, address: tuple[str, int], token: str, met: Met, children: int) -> None:
        self._line = Line(address)
        self._token = token
        self._met = met
        self._children = children
        self.jobs: list[str] = []

    async def ask(
        self, method: str, path: str, body: Any = None, until: float = float("inf")
    ) -> Any:
        """Return the answer's value; None for what was refused, or put off to the end."""
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        content = b"" if body is None else encoded
        while True:
            began = time.monotonic()
            status, answer = await self._line.ask(
                method, "/arvados/v1" + path, self._token, content
            )
            self._met.client_statuses[str(status)] += 1
            if status != 429 or time.monotonic() > until:
                self._met.client_seconds.append(time.monotonic() - began)
                return json.loads(answer) if status == 200 else None
            await asyncio.sleep(self._line.retry_after)

    async def work_until(self, end: float) -> None:
        """Come again and again."""
        await asyncio.sleep(random.random() * CYCLE_SECONDS)
        while time.monotonic() < end:
            due = time.monotonic() + CYCLE_SECONDS
            parameters = {"children": self._children}
            job = await self.ask(
                "POST", "/jobs", {"command": ["true"], "script_parameters": parameters}
            )
            if job is not None:
                self.jobs.append(job["uuid"])
                await self.ask("PATCH", f"/jobs/{job['uuid']}", {"description": "changed"})
            running = quote('[["state","=","Running"]]')
            await self.ask("GET", f"/jobs?limit=20&filters={running}")
            await self.ask("GET", "/job_tasks?limit=50&order=created_at+desc&count=none")
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def await_ends(self) -> int:
        """Return how many of its jobs became complete."""
        complete = 0
        for uuid in self.jobs:
            job = None
            while job is None or job["state"] in ("Queued", "Running"):
                job = await self.ask("GET", f"/jobs/{uuid}?wait=20")
            complete += job["state"] == "Complete"
        return complete


class Flooder(PlayedClient):
    """Creates tasks in bulk in a job that it manages itself, and lists by scanning all of them."""

    async def begin(self) -> None:
        body = {"command": ["true"], "runtime_constraints": {"manager": "external"}}
        self._job = (await self.ask("POST", "/jobs", body))["uuid"]
        self._created = 0

    async def flood_until(self, end: float) -> None:
        """Create as much as the server takes."""
        body = FLOOD.replace(b"JOB", self._job.encode())
        text = quote('[["parameters","like","%not there%"]]')
        while time.monotonic() < end:
            if await self.ask("POST", "/job_tasks", body, until=end) is not None:
                self._created += FLOOD_TASKS
            await self.ask("GET", f"/job_tasks?limit=1&filters={text}", until=end)

    async def half_done(self) -> int:
        """Return by how many tasks the server has more, or less, than it said."""
        mine = quote(json.dumps([["job_uuid", "=", self._job]]))
        page = await self.ask("GET", f"/job_tasks?limit=0&filters={mine}")
        return int(page["items_available"]) - self._created


async def gathered(calls: list[Awaitable[Any]]) -> list[Any]:
    return list(await asyncio.gather(*calls))


async def swarm(options: argparse.Namespace) -> dict[str, Any]:
    parts = urlsplit(options.url)
    assert parts.hostname and parts.port
    address = parts.hostname, parts.port
    agent_token, admin_token = (
        (options.state / name).read_text().strip() for name in ("agent.token", "admin.token")
    )
    met = Met()
    tasks = TaskLines(address)
    agents = [PlayedAgent(address, agent_token, SLOTS, met, tasks) for _ in range(options.agents)]
    began = time.monotonic()
    await gathered([agent.join() for agent in agents])
    join_seconds = time.monotonic() - began
    clients = [PlayedClient(address, admin_token, met, CHILDREN) for _ in range(options.clients)]
    flooders = [Flooder(address, admin_token, met, 0) for _ in range(options.flooders)]
    await gathered([flooder.begin() for flooder in flooders])
    end = time.monotonic() + options.seconds
    working = [client.work_until(end) for client in clients]
    await gathered([*working, *(flooder.flood_until(end) for flooder in flooders)])
    figures = met.figures()
    complete = sum(await gathered([client.await_ends() for client in clients]))
    half_done = sum(map(abs, await gathered([flooder.half_done() for flooder in flooders])))
    # Statuses and losses count to the very end, times for as long as there was load.
    final = met.figures()
    counts = ("agent_statuses", "client_statuses", "rejoins", "discarded", "ended")
    for agent in agents:
        agent.leaving = True
    return {
        **figures,
        **{name: final[name] for name in counts},
        "jobs": sum(len(client.jobs) for client in clients),
        "complete": complete,
        "half_done": half_done,
        "join_seconds": round(join_seconds, 4),
        "own_cpu_seconds": round(time.process_time(), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("state", type=Path)
    for name in ("agents", "clients", "flooders"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(swarm(options))), flush=True)


if __name__ == "__main__":
    main()
