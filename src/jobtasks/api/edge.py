"""How a request reaches the service: one transaction, in which the caller is identified (R32)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, TypeVar

from starlette.requests import Request

from jobtasks.api.bodies import Bodies
from jobtasks.api.deliveries import Deliveries
from jobtasks.api.engine_line import EngineLine
from jobtasks.api.forms import FORM
from jobtasks.api.hub import LOGS_TOPIC, NODES_TOPIC, Hub
from jobtasks.api.meters import Measured, Meters
from jobtasks.api.seats import Bell
from jobtasks.core.errors import Invalid, JobTasksError, NotLoggedIn, TooManyRequests
from jobtasks.core.identifiers import spelled_token
from jobtasks.core.resources import as_boolean
from jobtasks.core.scopes import call_of
from jobtasks.service import access, events, repeats, tokens
from jobtasks.service.context import Caller, Context, World
from jobtasks.service.idempotency import Name
from jobtasks.service.packs import Limits, Packs
from jobtasks.service.repeats import RequestName
from jobtasks.service.timelines import Timelines
from jobtasks.store.base import Piece, ServedStore, Tx
from jobtasks.store.pause import Pause

T = TypeVar("T")
Work = Callable[[Context, Caller], T]
STRANGERS_BYTES_MAX = 64 * 1024
"""The largest body that is read before its sender is known."""
CALLS_OF_PEOPLE = "/arvados/"
"""Where calls may be rehearsed; an agent's cannot."""
FOLLOWED = "follow-"
"""Begins a hint that the log of an attempt is read at another server."""
READERS = 8
"""Threads that read: each has a connection to the database of its own."""


def now() -> int:
    """Return the time in Unix microseconds."""
    return time.time_ns() // 1000


def token_of(request: Request) -> str | None:
    """Return the token that a request carries, as it is spelled, None when it carries none.

    Parameter ``api_token`` goes before the header. ``Bearer`` and ``OAuth2`` mean the same.
    """
    given = _token_parameter(request)
    if given:
        return given
    return token_in(request.headers.get("authorization", ""))


def token_in(authorization: str) -> str | None:
    """Return the token that a header of this name carries."""
    for scheme, token in pairwise(authorization.split()):
        if scheme in ("Bearer", "OAuth2"):
            return token
    return None


def secret_of(request: Request) -> str | None:
    """Return the secret of the token that a request carries, None when it carries none."""
    token = token_of(request)
    return None if token is None else spelled_token(token).secret


def _token_parameter(request: Request) -> str | None:
    """Return the token that old clients put into the address or a form, before any header."""
    form = request.scope.get(FORM)
    if not form and not request.scope["query_string"]:
        # As agents call, all the time.
        return None
    for name in ("api_token", "oauth_token"):
        given = request.query_params.get(name) or (form.get(name) if form else None)
        if given:
            return given
    return None


def require_token(request: Request) -> None:
    """Refuse a request without a token before its body is read."""
    if token_of(request) is None:
        raise NotLoggedIn


class _Rehearsed(JobTasksError):
    """Undoes a transaction that came to its end."""

    def __init__(self, result: Any) -> None:
        super().__init__()
        self.result = result


def is_rehearsal(request: Request) -> bool:
    """Return whether a request asks what would happen, and that nothing does (``dry_run``).

    Raises:
        Invalid: the parameter is no boolean.
    """
    given = request.query_params.get("dry_run")
    if not given or not request.scope["path"].startswith(CALLS_OF_PEOPLE):
        return False
    flag = as_boolean(given)
    if flag is None:
        raise Invalid("dry_run parameter must be a boolean, true or false")
    return flag


def _packs(world: World) -> Packs:
    settings = world.settings
    files_max = settings.pack_files_max if world.pack_dir is not None else 0
    limits = Limits(files_max, settings.pack_bytes_max)
    return Packs(world.pack_dir or world.log_dir, limits, world.private)


class Edge:
    """The service as request handlers see it."""

    def __init__(self, store: ServedStore, world: World, hub: Hub, clock: Callable[[], int] = now):
        self.store = store
        self.world = world
        self.hub = hub
        self._clock = clock
        self.meters = Meters()
        self.bodies = Bodies(world.settings.bodies_bytes_max)
        self.deliveries = Deliveries(world.settings.repeat_seconds)
        store.count_commits(self.meters.committed)
        store.attach(hub.loop)
        self.log_pause = Pause("logs")
        self.pauses = (store.pause, self.log_pause)
        self.timelines = Timelines()
        self.packs = _packs(world)
        self._loop_thread = threading.get_ident()
        self._noting: set[str] = set()
        """Tokens whose use is about to be noted."""
        self._agents: set[str | None] = set()
        """Tokens that were an agent's when they were seen first."""
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self.is_manager = not store.is_shared
        """Whether this server is the one that manages."""
        self.engine_line: EngineLine | None = None
        """To what nodes are asked of; None: nobody is asked."""
        store.on_hints(self._hinted)

    def _context(self, tx: Tx) -> Context:
        return Context(tx, self._clock() + tx.clock_ahead, self.world)

    def admit_agent(self, request: Request) -> None:
        """Refuse whoever is no agent before a body is read, and before he goes ahead of others.

        A token that was revoked since is refused in the transaction that uses it, like any.
        """
        token = token_of(request)
        if token not in self._agents:
            self.glance(request, lambda ctx, caller: access.require_agent(caller))
            self._agents.add(token)

    def admit_body(self, request: Request) -> None:
        """Refuse a body before it is read: any without a token, a large one without a valid one.

        The token of a small body is judged in the transaction that uses it, and there alone.
        """
        require_token(request)
        announced = request.headers.get("content-length", "")
        if not announced.isdigit() or int(announced) > STRANGERS_BYTES_MAX:
            self.glance(request, lambda ctx, caller: None)

    async def read(self, request: Request, work: Work[T]) -> T:
        """Run `work` on a snapshot, in a thread, if it is its turn in time."""
        in_turn = self._in_turn()

        def read() -> T:
            in_turn()
            return self.glance(request, work)

        return await self.in_thread(read)

    def glance(self, request: Request, work: Work[T]) -> T:
        """Run `work` on a snapshot, here and now: for a row or two, found by their keys.

        Such a read takes less time than to hand it to a thread and back.
        """
        admit = self._admission(request)

        def piece(tx: Tx) -> T:
            ctx = self._context(tx)
            return work(ctx, admit(ctx))

        return self.store.read(piece)

    async def write(self, request: Request, work: Work[T], *, brief: bool = False) -> T:
        """Run `work` in a writing transaction, if it is its turn in time; then wake whom it says.

        A rehearsal is undone before anybody sees it. `brief`: see `Piece.is_brief`.
        """
        admitted = self._in_turn_as(self._admission(request), work)
        if is_rehearsal(request):
            return await self._rehearse(admitted)
        return await self.commit(admitted, brief=brief)

    async def write_as(self, token: str, call: str, work: Work[T]) -> T:
        """Do the same with what is brief for who has this token; `call` as scopes name it."""
        admitted = self._in_turn_as(self._admission_of(token, call), work)
        return await self.commit(admitted, brief=True)

    def _in_turn_as(
        self, admit: Callable[[Context], Caller], work: Work[T]
    ) -> Callable[[Context], T]:
        in_turn = self._in_turn()

        def admitted(ctx: Context) -> T:
            in_turn()
            return work(ctx, admit(ctx))

        return admitted

    async def write_ahead(
        self, request: Request, work: Work[T], but: Bell | None = None, *, brief: bool = False
    ) -> T:
        """Do the same for an agent that was admitted: it does not wait behind others (R33)."""
        admit = self._admission(request)
        return await self.commit(lambda ctx: work(ctx, admit(ctx)), but, ahead=True, brief=brief)

    def _in_turn(self) -> Callable[[], None]:
        """Return what refuses a request that has waited too long, before anything is done (R40).

        Its sender may be gone by then, and will come again: work for nobody keeps others waiting.
        """
        seconds = self.world.settings.turn_seconds
        until = time.monotonic() + seconds

        def check() -> None:
            if time.monotonic() > until:
                raise TooManyRequests(
                    f"It was not this request's turn within {seconds:g} s; repeat it later."
                )

        return check

    async def _rehearse(self, work: Callable[[Context], T]) -> T:
        """Return what `work` returns; its transaction is rolled back, and nobody is woken."""

        def undone(ctx: Context) -> T:
            raise _Rehearsed(work(ctx))

        try:
            return await self.commit(undone)
        except _Rehearsed as rehearsed:
            result: T = rehearsed.result
            return result

    async def write_once(
        self, request: Request, name: Name | None, work: Work[T], *, brief: bool = False
    ) -> T:
        """Do the same for a POST that has a name, which tells it from its repeat (R22)."""
        if not isinstance(name, RequestName) or is_rehearsal(request):
            return await self.write(request, work, brief=brief)
        delivered = self.deliveries.unstored()

        def work_and_note(ctx: Context, caller: Caller) -> T:
            repeats.note_delivered(ctx, delivered)
            return work(ctx, caller)

        result = await self.write(request, work_and_note, brief=brief)
        self.deliveries.stored(delivered)
        self.deliveries.watch(request.scope, name.id)
        return result

    def _admission(self, request: Request) -> Callable[[Context], Caller]:
        """Return what finds out, within a transaction, who sends a request, and whether he may."""
        return self._admission_of(token_of(request), call_of(request.method, request.scope["path"]))

    def _admission_of(self, token: str | None, call: str) -> Callable[[Context], Caller]:
        def admit(ctx: Context) -> Caller:
            caller = tokens.identify(ctx, token, call)
            if caller.token is not None and tokens.is_use_news(caller, ctx.now):
                self._note_use(caller.token.uuid)
            return caller

        return admit

    def _note_use(self, uuid: str) -> None:
        """Note the use of a token in a transaction of its own: nobody waits for it, and when it
        fails the next use is noted.
        """
        if uuid not in self._noting:
            self._noting.add(uuid)
            self.submit(lambda ctx: tokens.note_use(ctx, uuid), lambda: self._noting.discard(uuid))

    async def commit(
        self,
        work: Callable[[Context], T],
        but: Bell | None = None,
        *,
        ahead: bool = False,
        brief: bool = False,
    ) -> T:
        """Do the same for the server itself: nobody is identified. `but` is not woken."""
        wake: set[str] = set()
        measured: list[Measured] = []
        outcome: asyncio.Future[T] = self.hub.loop.create_future()

        has_called = False

        def run(tx: Tx) -> T:
            nonlocal has_called
            ctx = self._context(tx)
            result = work(ctx)
            events.write(ctx)
            wake.update(ctx.wake)
            if wake:
                tx.hint(wake)
            has_called = self._call_agents(wake, but)
            measured.extend(ctx.measured)
            return result

        def tell(result: T, problem: BaseException | None) -> None:
            # Not after the await: whoever waits for this commit may be gone by then.
            if problem is None:
                self.meters.take(measured)
                if wake:
                    self.hub.ring(wake, but)
            if outcome.done():
                return
            if problem is None:
                outcome.set_result(result)
            else:
                outcome.set_exception(problem)

        # Nothing above knows the piece: only the collector would free it, and what it brings.
        piece = Piece(run, tell, is_brief=brief, calls_others=lambda: has_called)
        self.store.submit(piece, ahead=ahead)
        try:
            return await outcome
        except asyncio.CancelledError:
            piece.withdraw()
            raise

    def _call_agents(self, wake: set[str], but: Bell | None) -> bool:
        """Ask an agent whether it takes what became ready, before that is on disk: what it takes
        goes into the same commit, or neither is. Return whether one comes; not from a thread.
        """
        if NODES_TOPIC not in wake or threading.get_ident() != self._loop_thread:
            return False
        wake.remove(NODES_TOPIC)
        return self.hub.work_is_ready(but)

    def submit(
        self, work: Callable[[Context], object], over: Callable[[], None] | None = None
    ) -> None:
        """Have the server itself write something, and wait for nothing; `over` is called then."""
        wake: set[str] = set()

        def run(tx: Tx) -> None:
            ctx = self._context(tx)
            work(ctx)
            wake.update(ctx.wake)
            if wake:
                tx.hint(wake)

        def tell(_: object, problem: BaseException | None) -> None:
            if over is not None:
                over()
            if wake and problem is None:
                self.hub.ring(wake)

        self.store.submit(Piece(run, tell))

    async def look(self, work: Callable[[Context], T]) -> T:
        """Run `work` on a snapshot for the server itself: nobody is identified."""
        return await self.in_thread(self.store.read, lambda tx: work(self._context(tx)))

    async def in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run what would hold up the event loop in one of the readers' threads."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, function, *arguments)

    def follow(self, attempt: int) -> None:
        """Have the agent that runs an attempt send its log as it grows: somebody reads it."""
        if self.hub.follow(attempt) and self.store.is_shared:
            self._tell_others(f"{FOLLOWED}{attempt}")

    def logs_came(self, attempts: Iterable[int]) -> None:
        """Wake who reads logs, when some have arrived."""
        self.hub.ring((LOGS_TOPIC,))
        if self.store.is_shared and self.hub.followed(attempts):
            self._tell_others(LOGS_TOPIC)

    def _tell_others(self, topic: str) -> None:
        self.submit(lambda ctx: ctx.wake.add(topic))

    def _hinted(self, topics: Collection[str] | None) -> None:
        """Take what other servers hint at; called in a thread of the store's."""
        with contextlib.suppress(RuntimeError):
            # The loop may be closed by now.
            self.hub.loop.call_soon_threadsafe(self._take_hints, topics)

    def _take_hints(self, topics: Collection[str] | None) -> None:
        if topics is None:
            self.hub.ring_all()
            return
        self.hub.ring(topics)
        for topic in topics:
            if topic.startswith(FOLLOWED):
                self.hub.follow(int(topic.removeprefix(FOLLOWED)))

    def close(self) -> None:
        """Finish what was accepted, end the threads, and leave the loop."""
        self._readers.shutdown()
        self.store.detach()
