"""A server that does as a test tells it, and agents as real processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from jobtasks.agent import cgroups, group_files, procfs
from jobtasks.protocol.frames import STDERR, STDOUT, read_frames
from jobtasks.protocol.messages import (
    Assignment,
    Ended,
    JobBrief,
    Join,
    Joined,
    LogChunks,
    LogStored,
    Orders,
    Stop,
    Sync,
    Trust,
)

JOB = "zzzzz-8i9sb-000000000000001"
TOKEN = "agents-secret"
SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
"""How many times as long as elsewhere is waited: in an emulated machine."""
ATTEMPTS = itertools.count(1)
"""For tests that share an agent."""
Found = TypeVar("Found")


def wait_for(look: Callable[[], Found | None], what: str, seconds: float = 20.0) -> Found:
    """Return the first true value of `look`; fail with the last one seen."""
    limit = time.monotonic() + seconds * SLOWNESS
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > limit:
            pytest.fail(f"{what}: not within {seconds} s; last seen: {found!r}")
        time.sleep(0.005)


class FakeServer:
    """Speaks the protocol and believes the agent; orders are repeated as the real server's are."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.trust: Trust | None = None
        self.lock = threading.Condition()
        self.joined = Joined(
            agent=7,
            lease_seconds=30.0,
            renew_seconds=0.3,
            patience_seconds=60.0,
            grace_seconds=0.5,
            freeze_seconds=25.0,
            log_bytes_max=64 * 1024 * 1024,
        )
        self.join_gate = threading.Event()
        """Until it is set, no join is answered."""
        self.join_gate.set()
        self.joins: list[Join] = []
        self.syncs: list[Sync] = []
        self.ended: dict[int, Ended] = {}
        self.reports: list[int] = []
        self.refused: set[int] = set()
        self.unknown: set[int] = set()
        self.pids: dict[int, int] = {}
        self.tails: dict[int, bytes] = {}
        self.logs: dict[int, bytearray] = {}
        self.final: set[int] = set()
        self.left = False
        self.tokens: set[str] = set()
        self.paths: list[str] = []
        self.acknowledges = True
        self.stores = True
        self.rejoin = False
        self.status = 200
        self.log_status = 200
        """What pieces of logs are answered with."""
        self.packs: dict[str, bytes] = {}
        """Directories of scripts, by hash."""
        self.pack_status = 200
        self.pack_gate = threading.Event()
        """Until it is set, half of a pack is sent."""
        self.pack_gate.set()
        self.fetched: list[str] = []
        self.repeat_always = False
        self.held_seconds: float | None = None
        self._start: dict[int, Assignment] = {}
        self._stop: dict[int, Stop] = {}
        self._ask: list[int] = []
        self.jobs_over: list[str] = []
        self.follow: list[int] = []
        self.briefs: dict[str, JobBrief] = {JOB: JobBrief(JOB)}
        self._newest = 0
        self._poked = False
        self._http: ThreadingHTTPServer | None = None
        self._connections: set[Any] = set()
        self.port = 0
        self.up()

    # What a test says

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def start(self, attempt: int, *command: str, slot: int = 1, **fields: Any) -> Assignment:
        fields = {"start_within_seconds": 20.0 * SLOWNESS, "number": 1, "sequence": 0, **fields}
        assignment = Assignment(
            attempt=attempt,
            token=f"token-{attempt}",
            job=fields.pop("job", JOB),
            task=f"zzzzz-ot0gb-{attempt:015d}",
            qsequence=attempt,
            slot=slot,
            command=list(command) or None,
            parameters=json.dumps(fields.pop("parameters", {})),
            **fields,
        )
        with self.lock:
            self._start[attempt] = assignment
            self.lock.notify_all()
        return assignment

    def stop(self, attempt: int, reason: str = "cancelled", discard: bool = False) -> None:
        with self.lock:
            self._stop[attempt] = Stop(attempt, reason, discard)
            self.lock.notify_all()

    def ask(self, attempt: int) -> None:
        with self.lock:
            self._ask.append(attempt)
            self.lock.notify_all()

    def tell(self) -> None:
        """Answer what waits: something was changed."""
        with self.lock:
            self._poked = True
            self.lock.notify_all()

    def down(self) -> None:
        """Go away: no listener, every connection cut."""
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None
        with self.lock:
            for connection in list(self._connections):
                connection.close_now()
            self.lock.notify_all()

    def up(self, port: int | None = None) -> None:
        """Come back, on the same port unless another is given."""
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                owner._connections.add(self)

            def finish(self) -> None:
                owner._connections.discard(self)
                super().finish()

            def close_now(self) -> None:
                # The agent may have gone before.
                with contextlib.suppress(OSError):
                    self.connection.shutdown(socket.SHUT_RDWR)

            def do_POST(self) -> None:
                try:
                    owner._serve(self)
                except OSError:
                    self.close_connection = True

            def do_GET(self) -> None:
                try:
                    owner._send_pack(self)
                except OSError:
                    self.close_connection = True

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass

        self._http = Server(("127.0.0.1", self.port if port is None else port), Handler)
        self.port = self._http.server_address[1]
        if self.tls:
            # Agreed on when the first request is read, in the thread of the connection.
            self._http.socket = self.tls.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()

    # What the agent meets

    def _serve(self, handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        self.tokens.add(handler.headers["Authorization"])
        self.paths.append(handler.path)
        answer: Any
        with self.lock:
            status = self.status
            if status == 200 and handler.path.endswith("/logs"):
                status = self.log_status
            if status != 200:
                self._answer(handler, status, b"no")
                return
            if handler.path.endswith("/join"):
                answer = self._join(msgspec.msgpack.decode(body, type=Join))
            elif handler.path.endswith("/sync"):
                answer = self._sync(msgspec.msgpack.decode(body, type=Sync))
            else:
                answer = self._store(msgspec.msgpack.decode(body, type=LogChunks))
        if handler.path.endswith("/join"):
            self.join_gate.wait(20 * SLOWNESS)
        self._answer(handler, 200, msgspec.msgpack.encode(answer))

    def _answer(self, handler: Any, status: int, body: bytes) -> None:
        handler.wfile.write(
            f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )

    def _send_pack(self, handler: Any) -> None:
        self.tokens.add(handler.headers["Authorization"])
        name = handler.path.rpartition("/")[2]
        with self.lock:
            self.fetched.append(name)
            self.lock.notify_all()
        if self.pack_status != 200 or name not in self.packs:
            status = self.pack_status if self.pack_status != 200 else 404
            self._answer(handler, status, b'{"errors":["said so"]}')
            return
        pack = self.packs[name]
        head = f"HTTP/1.1 200 X\r\nContent-Length: {len(pack)}\r\n\r\n".encode()
        handler.wfile.write(head + pack[: len(pack) // 2])
        handler.wfile.flush()
        self.pack_gate.wait(20 * SLOWNESS)
        handler.wfile.write(pack[len(pack) // 2 :])

    def _join(self, join: Join) -> Joined:
        self.joins.append(join)
        self._newest = 0
        self._take_ends(join.ended)
        self.rejoin = False
        self.joined.acknowledged = [e.attempt for e in join.ended] if self.acknowledges else []
        return self.joined

    def _take_ends(self, ends: list[Ended]) -> None:
        for ended in ends:
            self.reports.append(ended.attempt)
            self.ended.setdefault(ended.attempt, ended)

    def _sync(self, sync: Sync) -> Orders:
        if sync.number <= self._newest:
            return Orders(sync.number, stale=True)
        if self.rejoin:
            return Orders(sync.number, rejoin=True)
        self._newest = sync.number
        self.syncs.append(sync)
        self.left |= sync.leaving
        self._take_ends(sync.ended)
        self.refused |= set(sync.refused)
        self.unknown |= set(sync.unknown)
        for alive in sync.running:
            self.pids[alive.attempt] = alive.pid
            if alive.stderr_tail is not None:
                self.tails[alive.attempt] = alive.stderr_tail
        named = {a.attempt for a in sync.running} | {e.attempt for e in sync.ended}
        named |= {*sync.refused, *sync.held}
        if not self.repeat_always:
            for attempt in named & self._start.keys():
                del self._start[attempt]
        for attempt in self._stop.keys() - {a.attempt for a in sync.running} - {*sync.held}:
            del self._stop[attempt]
        self.lock.notify_all()
        orders = Orders(
            sync.number,
            renewed=True,
            acknowledged=[e.attempt for e in sync.ended] if self.acknowledges else [],
        )
        limit = time.monotonic() + sync.wait_seconds
        began = time.monotonic()
        while not self._fill(orders, sync) and sync.number == self._newest:
            left = limit - time.monotonic()
            if left <= 0 or self._http is None:
                break
            self.lock.wait(left)
        self._poked = False
        orders.held_seconds = time.monotonic() - began
        if self.held_seconds is not None:
            orders.held_seconds = self.held_seconds
        return orders

    def _fill(self, orders: Orders, sync: Sync) -> bool:
        known = set(sync.jobs_known)
        orders.start = list(self._start.values())
        orders.jobs = [
            self.briefs[job]
            for job in sorted({a.job for a in orders.start} - known)
            if job in self.briefs
        ]
        orders.stop = list(self._stop.values())
        orders.ask, self._ask = self._ask, []
        orders.jobs_over = [job for job in self.jobs_over if job in known]
        orders.follow = self.follow
        if self.trust and self.trust.mark != sync.trust:
            orders.trust = self.trust
        return bool(
            orders.start or orders.stop or orders.ask or orders.jobs_over or self._poked
        ) or bool(orders.acknowledged)

    def _store(self, message: LogChunks) -> LogStored:
        if not self.stores:
            return LogStored([])
        for chunk in message.chunks:
            log = self.logs.setdefault(chunk.attempt, bytearray())
            end = chunk.offset + len(chunk.data)
            log.extend(b"?" * (end - len(log)))
            log[chunk.offset : end] = chunk.data
            if chunk.final:
                del log[end:]
                self.final.add(chunk.attempt)
        self.lock.notify_all()
        return LogStored([chunk.attempt for chunk in message.chunks])

    # What a test looks at

    def wait(self, look: Callable[[], Found | None], what: str, seconds: float = 20.0) -> Found:
        """As `wait_for`, but looks whenever something came in."""
        limit = time.monotonic() + seconds * SLOWNESS
        with self.lock:
            while not (found := look()):
                left = limit - time.monotonic()
                if left <= 0:
                    last = self.syncs[-1] if self.syncs else None
                    pytest.fail(f"{what}: not within {seconds} s; last sync: {last!r}")
                self.lock.wait(min(left, 0.05))
            return found

    def end_of(self, attempt: int, seconds: float = 20.0) -> Ended:
        return self.wait(lambda: self.ended.get(attempt), f"end of attempt {attempt}", seconds)

    def pid_of(self, attempt: int) -> int:
        return self.wait(lambda: self.pids.get(attempt), f"pid of attempt {attempt}")

    def wait_said(self, attempt: int, word: str) -> None:
        """Follow an attempt's log until it has what the program says when it is so far."""
        with self.lock:
            self.follow = [*self.follow, attempt]
        self.tell()
        self.wait(lambda: word.encode() in self.logs.get(attempt, b""), f"it says {word!r}")

    def frames_of(self, attempt: int) -> list[tuple[bytes, bytes]]:
        self.wait(lambda: attempt in self.final, f"log of attempt {attempt}")
        return list(read_frames(BytesIO(bytes(self.logs[attempt]))))

    def text_of(self, attempt: int) -> str:
        frames = self.frames_of(attempt)
        return b"".join(data for stream, data in frames if stream in (STDOUT, STDERR)).decode()


class AgentProcess:
    """A keeper or an agent of its own, on a node directory."""

    def __init__(self, server: FakeServer, node: Path, module: str, *options: str) -> None:
        self.node = node
        self.token_file = node.parent / "agent.token"
        self.token_file.write_text(TOKEN + "\n")
        self.stderr = node.parent / "stderr.log"
        self.server = server
        environ = {**os.environ, "JOBTASKS_URL": "operators", "ARVADOS_API_TOKEN": "operators"}
        environ.pop("SSL_CERT_FILE", None)
        command = [sys.executable, "-m", module, "--server", server.url, "--token-file"]
        command += [str(self.token_file), "--node-dir", str(node), *options]
        with self.stderr.open("ab") as stderr:
            self.process = subprocess.Popen(command, stderr=stderr, env=environ)

    def said(self) -> str:
        return self.stderr.read_text()

    def end(self) -> int:
        """TERM, and the exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        try:
            return self.process.wait(20 * SLOWNESS)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running; it said: {self.said()}")


def script(directory: Path, text: str, mode: int = 0o755) -> str:
    path = directory / "task"
    path.write_text(text)
    path.chmod(mode)
    return path.name


def marked(node: Path) -> list[int]:
    """Return the live processes that a task on this node started."""
    found = []
    for path in Path("/proc").iterdir():
        if not path.name.isdigit():
            continue
        try:
            variables = (path / "environ").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if f"TASK_WORK={node}/".encode() in variables and state not in "ZX":
            found.append(int(path.name))
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def group_of(pid: int) -> Path | None:
    """Return the control group of a process, if it is in one of version 2 that is mounted here."""
    with contextlib.suppress(cgroups.GroupsError):
        point, root = cgroups.mount()
        name = procfs.group(pid)
        return point / os.path.relpath(name, root) if name else None
    return None


def is_frozen(pid: int) -> bool:
    group = group_of(pid)
    return group is not None and group_files.field(group / "cgroup.events", "frozen") == 1


@contextlib.contextmanager
def serving() -> Iterator[FakeServer]:
    """A server for as long as it is needed."""
    fake = FakeServer()
    yield fake
    fake.down()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with serving() as fake:
        yield fake


Launch = Callable[..., AgentProcess]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a module's `CGROUPS` names is proved each way: with control groups, and without."""
    if "cgroups_mode" in metafunc.fixturenames:
        modes = getattr(metafunc.module, "CGROUPS", (cgroups.AUTO,))
        names = [f"cgroups {mode}" for mode in modes]
        metafunc.parametrize("cgroups_mode", modes, ids=names, scope="module")


@pytest.fixture
def launch(server: FakeServer, tmp_path: Path, cgroups_mode: str) -> Iterator[Launch]:
    """Start agents; after the test none of their tasks, or groups, may be left (R36)."""
    with launching(server, tmp_path, cgroups_mode) as start:
        yield start


@pytest.fixture(scope="module")
def standing(cgroups_mode: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeServer]:
    """The server of one agent with four slots for all tests that only start attempts, `ATTEMPTS`
    numbers them, and leave none behind.
    """
    folder = tmp_path_factory.mktemp("standing")
    with serving() as server, launching(server, folder, cgroups_mode) as launch:
        wait_joined(server, launch())
        yield server


@contextlib.contextmanager
def launching(
    server: FakeServer, folder: Path, cgroups_mode: str = cgroups.AUTO
) -> Iterator[Launch]:
    """Start agents with their files in a folder; afterwards nothing of their tasks may be left."""
    started: list[AgentProcess] = []
    node = folder / "node"

    def start(*options: str, module: str = "jobtasks.agent.main") -> AgentProcess:
        if "--slots" not in options:
            options = ("--slots", "4", *options)
        if "--cgroups" not in options:
            options = ("--cgroups", cgroups_mode, *options)
        agent = AgentProcess(server, node, module, *options)
        started.append(agent)
        return agent

    try:
        yield start
    finally:
        for agent in started:
            if agent.process.poll() is None:
                agent.process.send_signal(signal.SIGCONT)
                agent.process.terminate()
                try:
                    agent.process.wait(20 * SLOWNESS)
                except subprocess.TimeoutExpired:
                    agent.process.kill()
                    agent.process.wait()
    wait_for(lambda: not marked(node), f"tasks are left: {marked(node)}")
    group = group_files.recorded(node)
    # Who was killed could not remove it.
    group_files.end(node)
    if all(agent.process.returncode == 0 for agent in started):
        assert group is None
    # What an agent had no time to remove may be deeper than pytest can go when it tidies up.
    subprocess.run(["rm", "-rf", str(node / "work")], check=False)


@pytest.fixture
def agent(server: FakeServer, launch: Launch) -> AgentProcess:
    """An agent with four slots that has joined."""
    found = launch()
    wait_joined(server, found)
    return found


def wait_joined(server: FakeServer, agent: AgentProcess, times: int = 1) -> None:
    wait_for(lambda: len(server.joins) >= times, "the agent's join; it said: " + agent.said())
