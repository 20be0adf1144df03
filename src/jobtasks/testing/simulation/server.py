"""The server's machine: its disk, its clock, and the server processes that live on it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from jobtasks.api.agents import says_something
from jobtasks.api.manager import pause_seconds
from jobtasks.core.errors import JobTasksError, StaleAttempt, Unavailable
from jobtasks.core.leases import Reading, is_gap
from jobtasks.core.settings import Settings
from jobtasks.protocol.messages import Join, Orders, Sync
from jobtasks.service import idempotency, jobs, nodes, tasks, tick, tokens
from jobtasks.service.context import Context
from jobtasks.testing.clock import MICROSECONDS, ManualClock
from jobtasks.testing.inline_store import InlineStore
from jobtasks.testing.service import ADMIN_TOKEN, AGENT_TOKEN, LocalService
from jobtasks.testing.simulation.happenings import Happenings
from jobtasks.testing.simulation.network import Failed, Respond
from jobtasks.testing.simulation.oracle import Oracle, Violation

BEGIN = ManualClock().now


@dataclass(eq=False)
class Held:
    """A sync whose answer is held back."""

    message: Sync
    orders: Orders
    arrived: float
    respond: Respond
    fail: Failed
    superseded: bool = False
    rung: bool = False


class Site:
    """What outlives server processes: database and wall clock; and who serves now."""

    def __init__(
        self, happenings: Happenings, chance: random.Random, settings: Settings, oracle: Oracle
    ) -> None:
        self.happenings = happenings
        self.random = chance
        self.store = InlineStore()
        self.clock_ahead_seconds = 0.0
        self.service = LocalService(settings=settings, store=self.store)
        self.service.world.random = chance.random
        self.oracle = oracle
        self.store.after_commit = oracle.look
        self.serving: ServerProcess | None = None
        self.newest_term = 0

    def run(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run a piece of work at the time of the machine's wall clock."""
        seconds = self.happenings.now + self.clock_ahead_seconds
        self.service.clock.now = BEGIN + round(seconds * MICROSECONDS)
        return self.service.run(method, *arguments, **named)

    def as_token(
        self, token: str, method: Callable[..., Any], *arguments: Any, **named: Any
    ) -> Any:
        """Call a service method as whom the token speaks for."""
        return self.run(lambda ctx: method(ctx, tokens.identify(ctx, token), *arguments, **named))

    def as_admin(self, method: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Call a service method as the administrator, past the network; wake whom it concerns."""
        result = self.as_token(ADMIN_TOKEN, method, *arguments, **named)
        if self.serving is not None:
            self.serving.wake_up()
        return result

    def start(self) -> None:
        """Start a server process, which takes over."""
        try:
            self.serving = ServerProcess(self)
        except Unavailable:
            self.happenings.after(1.0, self.start)

    def kill(self) -> None:
        """kill -9 of the server; who waits for an answer sees the connection break."""
        if self.serving is not None:
            self.serving.die()
            self.serving = None

    def receive(self, path: str, token: str, body: bytes, respond: Respond, fail: Failed) -> None:
        """Take a call to whoever serves now."""
        if self.serving is None:
            fail("connection refused")
        else:
            self.serving.receive(path, token, body, respond, fail)


class ServerProcess:
    """One server process: takes calls, holds syncs back, ticks; dies without a word."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._previous: Reading | None = None
        self._held: list[Held] = []
        self._backlog: list[Callable[[], None]] = []
        self._tick_at = 0.0
        self.alive = True
        self.stopped = False
        self.term: int = site.run(tick.take_over, "simulated")
        site.newest_term = self.term
        site.happenings.note(f"server: term {self.term} begins")
        self._tick_soon(0.0)

    def die(self) -> None:
        """End at once."""
        self.alive = False
        for held in self._held:
            held.fail("connection reset")
        self._held.clear()

    def stop(self) -> None:
        """SIGSTOP: nothing is done until `go_on`."""
        self.stopped = True

    def go_on(self) -> None:
        """SIGCONT: what has waited is done now."""
        self.stopped = False
        waiting, self._backlog = self._backlog, []
        for action in waiting:
            self._do(action)

    def _do(self, action: Callable[[], None]) -> None:
        if self.stopped:
            self._backlog.append(action)
        elif self.alive:
            action()

    # Calls

    def receive(self, path: str, token: str, body: bytes, respond: Respond, fail: Failed) -> None:
        """Take a call."""
        if not self.alive:
            fail("connection refused")
            return
        self._do(lambda: self._serve(path, token, body, respond, fail))

    def _serve(self, path: str, token: str, body: bytes, respond: Respond, fail: Failed) -> None:
        try:
            if path == "/agent/v1/sync":
                self._sync(token, msgspec.msgpack.decode(body, type=Sync), respond, fail)
                return
            answer = self._answer(path, token, body)
        except JobTasksError as error:
            self.wake_up()
            content = msgspec.json.encode({"errors": list(error.messages), "code": error.code})
            respond(error.status, content)
            return
        self.wake_up()
        respond(200, answer)

    def _answer(self, path: str, token: str, body: bytes) -> bytes:
        site = self._site
        if path == "/agent/v1/join":
            join = msgspec.msgpack.decode(body, type=Join)
            return msgspec.msgpack.encode(site.as_token(token, nodes.join, join))
        given = msgspec.json.decode(body)
        if path == "/jobs":
            record = site.as_token(token, jobs.create, given)
            return msgspec.json.encode({"uuid": record.uuid})
        return self._from_attempt(path, token, given, body)

    def _from_attempt(self, path: str, token: str, given: Any, body: bytes) -> bytes:
        """Serve a task's own call; one of an attempt that is over must come to nothing."""
        site = self._site
        is_over = site.oracle.is_over(site.store, token)
        try:
            if path == "/create":
                key = idempotency.make_key(given["key"], "", body)
                made = site.as_token(token, tasks.create_many, given["items"], key)
                answer = msgspec.json.encode({"uuids": list(made.uuids)})
            else:
                site.as_token(token, tasks.update, given["uuid"], given["values"], whole=False)
                answer = b"{}"
        except StaleAttempt:
            if not is_over:
                raise Violation("a live attempt was refused as stale") from None
            raise
        if is_over:
            raise Violation("a write of an attempt that is over was accepted (R32)")
        return answer

    def wake_up(self, but: Held | None = None) -> None:
        """Wake whom the last commit concerns."""
        wake = self._site.service.wake
        topics = set(wake)
        wake.clear()
        if "manager" in topics:
            self._tick_soon(0.0)
        if "nodes" in topics:
            for held in self._held:
                if held is not but:
                    self._ring(held)

    # Syncs

    def _sync(self, token: str, message: Sync, respond: Respond, fail: Failed) -> None:
        arrived = self._site.happenings.now
        for held in [one for one in self._held if one.message.agent == message.agent]:
            if held.message.number < message.number:
                self._send(held)
        orders: Orders = self._site.as_token(token, nodes.sync, message)
        held = Held(message, orders, arrived, respond, fail)
        self.wake_up(held)
        if message.leaving or says_something(orders) or message.wait_seconds <= 0:
            respond(200, msgspec.msgpack.encode(orders))
            return
        self._held.append(held)
        self._site.happenings.after(
            message.wait_seconds, lambda: self._do(lambda: self._send(held))
        )

    def _send(self, held: Held) -> None:
        if held in self._held:
            self._held.remove(held)
            held.respond(200, msgspec.msgpack.encode(held.orders))

    def _ring(self, held: Held) -> None:
        if not held.rung:
            held.rung = True
            self._site.happenings.after(0.001, lambda: self._do(lambda: self._look_again(held)))

    def _look_again(self, held: Held) -> None:
        """Poll for a sync that waits, as api/agents.py does when its bell rings."""
        if held not in self._held:
            return
        held.rung = False
        renewed = held.orders.renewed
        try:
            orders: Orders = self._site.as_token(AGENT_TOKEN, nodes.poll, held.message)
        except JobTasksError as error:
            self._held.remove(held)
            held.respond(error.status, b'{"errors": ["later"]}')
            return
        orders.held_seconds = self._site.happenings.now - held.arrived
        orders.renewed = orders.renewed or renewed
        held.orders = orders
        self.wake_up(held)
        if says_something(orders):
            self._send(held)

    # The manager

    def _tick_soon(self, seconds: float) -> None:
        when = self._site.happenings.now + max(seconds, 0.001)
        if not self._site.happenings.now < self._tick_at <= when:
            self._tick_at = when
            self._site.happenings.at(when, lambda: self._do(lambda: self._tick_if(when)))

    def _tick_if(self, when: float) -> None:
        if when == self._tick_at:
            self._tick()

    def _tick(self) -> None:
        """As api/manager.py does, with this machine's clocks."""
        site = self._site

        def work(ctx: Context) -> tuple[int | None, Reading]:
            reading = Reading(ctx.now, site.happenings.now, site.store.pause.failures)
            gap = is_gap(self._previous, reading, ctx.settings)
            return tick.tick(ctx, self.term, gap=gap), reading

        due: int | None = None
        before = site.store.changes
        try:
            due, self._previous = site.run(work)
            if self.term < site.newest_term:
                raise Violation(f"a manager of term {self.term} was at work")
        except tick.LostManager:
            if site.store.changes != before:
                raise Violation("a manager of an old term changed something") from None
            site.happenings.note(f"server: term {self.term} is over")
            self.die()
            return
        except Unavailable:
            pass
        self.wake_up()
        self._tick_soon(pause_seconds(due, site.service.world.settings.tick_seconds))
