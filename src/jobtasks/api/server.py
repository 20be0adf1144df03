"""The server process: state directory, store, HTTP, manager and the embedded node."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import random
import secrets
import signal
import socket
import sqlite3
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
import uvloop
from starlette.routing import Route

from jobtasks.api.app import make_app
from jobtasks.api.connection import bounded_by
from jobtasks.api.edge import Edge, now
from jobtasks.api.engine_keeper import EngineKeeper
from jobtasks.api.engine_line import EngineLine
from jobtasks.api.housekeeping import keep_house
from jobtasks.api.hub import Hub
from jobtasks.api.jsonlog import log_to_stderr
from jobtasks.api.listeners import (
    BACKLOG,
    Secure,
    TlsOptions,
    listen,
    local_url,
    open_certificates,
    outer_url,
    refuse_open_network,
    trust_of,
)
from jobtasks.api.manager import manage
from jobtasks.api.node import EmbeddedNode
from jobtasks.api.notifier import Notifier, read_secret
from jobtasks.api.state_dir import SharedDir, StartRefused, StateDir
from jobtasks.core.errors import JobTasksError
from jobtasks.core.identifiers import UuidMaker
from jobtasks.core.notifying import NOBODY, Notifying
from jobtasks.core.settings import Settings
from jobtasks.engines.base import Engine, Setting, make_engine
from jobtasks.engines.local import LocalEngine, keeper_command
from jobtasks.protocol.messages import Trust
from jobtasks.service import sessions, setup
from jobtasks.service.context import World
from jobtasks.store.base import ServedStore
from jobtasks.store.sqlite import SqliteStore
from jobtasks.store.sqlite_library import take_no_locks

REFUSED = 125
KEEP_ALIVE_SECONDS = 75
"""Longer than any client keeps an idle connection, so that none is closed under a request."""
LOOK_SECONDS = 60.0
"""How often is looked whether the certificate should be another."""
CLOSE_SECONDS = 30.0
"""How long the end of an answer, and a client's farewell, are waited for when TLS is closed."""
LEAVE_SECONDS = 5.0
"""How long answers that are under way may take when the server ends, and beyond the grace of R21
what the agent has to report its ends."""
SWITCH_SECONDS = 0.001
"""How long one thread may keep the interpreter from others. The writer hands it over at each
statement: with the usual 5 ms it does half as many beside a thread that renders a long list."""
GARBAGE_OBJECTS = 20_000
"""After so many new objects rings of them are looked for, of which there are few; what the program
itself is made of is left out. With the usual 700 a renewal takes a tenth longer, and now and then
one takes ten times as long."""

logger = logging.getLogger(__name__)


Pages = Callable[[Edge], Sequence[Route]]
"""What makes the routes of pages for people."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What ``jobtasks serve`` was told."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 0
    """0: a free one."""
    engine: str = "local"
    """Who gives nodes; "local": this machine is one."""
    engine_options: Mapping[str, str] = field(default_factory=dict)
    """What the engine is told, by name."""
    slots: int | None = None
    """Attempts at a time on the embedded node; None: as many as it has cores."""
    agent: bool = True
    """Whether this machine is a node, too."""
    handover: bool = False
    """At TERM leave running attempts to the next server."""
    manager: bool = True
    """Whether to run jobs; else their own managers do (R7b)."""
    pass_env: tuple[str, ...] = ()
    """Names of variables that tasks inherit."""
    cgroups: str = "auto"
    """Where the node has its control groups; "off": nowhere."""
    in_place: bool = False
    """Whether the engine's nodes see this machine's directories, and start scripts there."""
    external_url: str = ""
    """What clients call the server, ``https://HOST[:PORT]``; "": as it listens."""
    allow_plain_http: bool = False
    """Listen without TLS where others can read along, too."""
    allow_network_file_system: bool = False
    """Serve from a state directory that may be damaged without a word."""
    tls: TlsOptions | None = None
    """Where and how to accept https beside plain http."""
    notifying: Notifying = NOBODY
    """Who is told of the ends of jobs."""
    notify_secret_file: Path | None = None
    """Holds what notifications are signed with; None: one of our own."""
    pages: Pages | None = None
    """What people see in a browser; None: nothing."""
    invites: bool = False
    """Whether to say on stderr where the administrator signs in to these, once."""
    database: str = ""
    """Address of a PostgreSQL database; "": a SQLite file in the state directory."""
    pooled: bool = False
    """Whether a pooler stands before it that hands out connections by transactions."""
    shared: Path | None = None
    """The directory that all servers of the database share; None: the state directory."""


def serve(options: ServeOptions, settings: Settings | None = None) -> int:
    """Serve until TERM or INT; return the exit code.

    Prints ``ready URL`` on stdout when it accepts. What keeps it from starting is one line on
    stderr, and 125.
    """
    try:
        return _serve(options, settings or Settings())
    except (JobTasksError, sqlite3.Error, OSError) as error:
        print(f"jobtasks serve: {error}", file=sys.stderr)
        return REFUSED


def _serve(options: ServeOptions, settings: Settings) -> int:
    if not options.allow_plain_http:
        refuse_open_network(options.host)
    take_no_locks()
    with contextlib.ExitStack() as stack:
        state = StateDir(options.state, anywhere=options.allow_network_file_system)
        stack.callback(state.close)
        listener = stack.enter_context(listen(options.host, options.port))
        secure = _open_secure(options, state, stack)
        shared = _open_shared(options, state)
        store = _open_store(options, state)
        stack.callback(store.close)
        process = ServerProcess(options, settings, state, shared, store, listener, secure)
        log_to_stderr()
        sys.setswitchinterval(SWITCH_SECONDS)
        gc.freeze()
        gc.set_threshold(GARBAGE_OBJECTS)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(process.run())
    return 0


def _open_secure(
    options: ServeOptions, state: StateDir, stack: contextlib.ExitStack
) -> Secure | None:
    if options.tls is None:
        return None
    certificates = open_certificates(options.tls, state.tls, options.external_url)
    listener = stack.enter_context(listen(options.tls.host, options.tls.port))
    return Secure(listener, certificates, outer_url("https", options.tls.host, listener))


def _open_shared(options: ServeOptions, state: StateDir) -> SharedDir:
    if options.shared is None:
        return state
    shared = SharedDir(options.shared)
    state.take_tokens(shared)
    return shared


def _open_store(options: ServeOptions, state: StateDir) -> ServedStore:
    if options.database:
        state.use_elsewhere()
        return _open_postgres(options)
    path = state.database
    try:
        return SqliteStore(path)
    except sqlite3.Error as error:
        raise StartRefused(f"cannot use {path}: {error}") from None


def _open_postgres(options: ServeOptions) -> ServedStore:
    try:
        # Not at the top: its driver takes time to load, and need not be there.
        from jobtasks.store.postgres import PostgresStore
    except ImportError as error:
        raise StartRefused(
            f"no driver for PostgreSQL ({error}): pip install 'jobtasks[postgresql]'"
        ) from None
    return PostgresStore(options.database, pooled=options.pooled)


class HttpServer(uvicorn.Server):
    """The HTTP server without its own idea of signals, on plain listeners and one with TLS."""

    def __init__(
        self,
        config: uvicorn.Config,
        secure: Secure | None = None,
        handshake_seconds: float = 10.0,
    ) -> None:
        super().__init__(config)
        self._secure = secure
        self._handshake_seconds = handshake_seconds

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept."""
        await super().startup(sockets)
        if self._secure is None:
            return
        self.started = False
        secured = await asyncio.get_running_loop().create_server(
            self._connection,
            sock=self._secure.listener,
            ssl=self._secure.certificates.context,
            backlog=BACKLOG,
            ssl_handshake_timeout=self._handshake_seconds,
            ssl_shutdown_timeout=CLOSE_SECONDS,
        )
        self.servers.append(secured)
        self.started = True

    def _connection(self) -> asyncio.Protocol:
        """Return what serves a connection, as the plain listeners have it (R40)."""
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state={})

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the process."""
        yield


class ServerProcess:
    """One run of the server."""

    def __init__(
        self,
        options: ServeOptions,
        settings: Settings,
        state: StateDir,
        shared: SharedDir,
        store: ServedStore,
        listener: socket.socket,
        secure: Secure | None = None,
    ) -> None:
        self._options = options
        self._settings = settings
        self._state = state
        self._shared = shared
        self._store = store
        self._listener = listener
        self._secure = secure
        self._stop = asyncio.Event()
        self._notify_secret = self._secret_of_notices()

    async def run(self) -> None:
        """Serve until told to stop, then end in good order."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        edge = Edge(self._store, self._world(), Hub(loop))
        admin, agent = self._shared.token("admin"), self._shared.token("agent")
        if self._store.is_shared:
            await edge.commit(setup.belong)
        await edge.commit(lambda ctx: setup.prepare(ctx, admin, agent))
        await self._serve(edge)
        edge.close()

    def _world(self) -> World:
        return World(
            settings=self._settings,
            uuids=UuidMaker(setup.PREFIX, secrets.randbelow),
            token_key=self._shared.secret_key(),
            random=random.random,
            log_dir=self._shared.logs,
            pack_dir=self._shared.packs,
            private=(self._state.path, self._shared.path),
            external_url=self._external_url(),
            trust=self._trust(),
            engine=self._options.engine,
            manages=self._options.manager,
            notifying=self._options.notifying,
        )

    def _secret_of_notices(self) -> bytes:
        """Return what POSTs are signed with, the given file's or one of our own; b"": none is."""
        plan, path = self._options.notifying, self._options.notify_secret_file
        if path is not None:
            return read_secret(path)
        return self._shared.notify_secret() if plan.url or plan.allowed else b""

    def _external_url(self) -> str:
        if self._options.external_url:
            return self._options.external_url
        if self._secure:
            return self._secure.url
        return outer_url("http", self._options.host, self._listener)

    def _trust(self) -> Trust | None:
        """Return what agents hand on; None: tasks use the address that their agent uses."""
        if not self._secure and not self._options.external_url:
            return None
        certificates = self._secure.certificates if self._secure else None
        return trust_of(self._external_url(), certificates)

    async def _serve(self, edge: Edge) -> None:
        http = HttpServer(self._http_config(edge), self._secure, self._settings.head_seconds)
        serving = asyncio.create_task(http.serve(sockets=[self._listener]))
        managing = asyncio.create_task(manage(edge, self._state.name()))
        keeping_house = asyncio.create_task(keep_house(edge))
        telling = asyncio.create_task(Notifier(edge, self._notify_secret).run())
        engine = self._engine(edge.world)
        keeping_engine = self._keep_engine(edge, engine) if engine else None
        while not http.started and not serving.done():
            await asyncio.sleep(0.001)
        url = local_url(self._listener)
        self._state.write_url(url, self._secure.url if self._secure else None)
        renewing = asyncio.create_task(self._renew(edge.world))
        node = self._node(url)
        watching = asyncio.create_task(node.watch()) if self._options.agent else None
        print(f"ready {url}", flush=True)
        extra = {"url": url, "clients": edge.world.external_url, "state": str(self._state.path)}
        logger.info("serving", extra=extra)
        if self._options.invites:
            await self._invite(edge)
        await self._until_stopped(serving, managing)
        await self._end_node(node)
        edge.hub.close()
        if engine is not None:
            # A command that hangs holds nobody up.
            engine.close()
        http.should_exit = True
        await serving
        if watching is not None:
            watching.cancel()
        renewing.cancel()
        self._state.forget_url()
        await managing
        await keeping_house
        await telling
        if keeping_engine is not None:
            await keeping_engine
        logger.info("ended in good order")

    async def _invite(self, edge: Edge) -> None:
        """Say on stderr where the administrator signs in to the pages, once."""
        root = setup.root_uuid(setup.PREFIX)
        key = await edge.commit(lambda ctx: sessions.add_link(ctx, root))
        address = f"{edge.world.external_url}/sign-in?key={key}"
        if sys.stderr.isatty():
            print(f"sign in once, within an hour: {address}", file=sys.stderr, flush=True)
        else:
            logger.info("sign in once, within an hour", extra={"url": address})

    def _keep_engine(self, edge: Edge, engine: Engine) -> asyncio.Task[None]:
        edge.engine_line = EngineLine(engine, now)
        return asyncio.create_task(EngineKeeper(edge, edge.engine_line).keep())

    def _engine(self, world: World) -> Engine | None:
        """Return the engine that is asked for nodes; None: this machine is the only one.

        Errors: Invalid, for a wrong name or option.
        """
        options = self._options
        if options.engine == LocalEngine.name:
            return None
        engine = make_engine(
            options.engine,
            Setting(
                url=self._external_url(),
                token_file=self._state.agent_token_file,
                state=self._state.path / "engine",
                command_seconds=self._settings.engine_command_seconds,
                authorities=self._secure.certificates.authorities if self._secure else "",
                pass_env=options.pass_env,
                slots=options.slots,
                cgroups=options.cgroups,
                in_place=options.in_place,
                options=options.engine_options,
            ),
        )
        if not engine.hosts:
            world.offer = engine.offer()
        return engine

    async def _renew(self, world: World) -> None:
        """Take new certificates when there are any, at HUP at once."""
        if self._secure is None:
            return
        told = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, told.set)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await told.wait()
            told.clear()
            # In a thread: names are looked up, files are read.
            if await asyncio.to_thread(self._secure.certificates.look):
                world.trust = self._trust()

    async def _until_stopped(self, *needed: asyncio.Task[None]) -> None:
        """Return when told to stop, or when a part without which nothing works has ended."""
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait((stopped, *needed), return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()

    def _http_config(self, edge: Edge) -> uvicorn.Config:
        return http_config(edge, self._options.pages(edge) if self._options.pages else ())

    def _node(self, url: str) -> EmbeddedNode:
        options, state = self._options, self._state
        command = keeper_command(
            url,
            state.agent_token_file,
            state.node,
            options.slots,
            options.pass_env,
            cgroups=options.cgroups,
            in_place=True,
        )
        return EmbeddedNode(state.node, command)

    async def _end_node(self, node: EmbeddedNode) -> None:
        """Drain the node while the server still listens to what its agent reports."""
        if self._options.agent and not self._options.handover:
            await node.drain(self._settings.grace_seconds + LEAVE_SECONDS)
        node.leave()


def http_config(edge: Edge, pages: Sequence[Route] = ()) -> uvicorn.Config:
    """Return how requests are taken."""
    app = make_app(edge, pages)
    return uvicorn.Config(
        app,
        http=bounded_by(edge.world.settings, app.renew, app.report),
        ws="none",
        lifespan="off",
        proxy_headers=False,
        access_log=False,
        log_config=None,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(LEAVE_SECONDS),
    )
