"""What agents call: join, sync, logs; MessagePack (see protocol/messages.py)."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from jobtasks.api.answers import msgpack_answer
from jobtasks.api.edge import Edge
from jobtasks.api.hub import Hub
from jobtasks.api.parsing import read_body
from jobtasks.api.seats import Seat
from jobtasks.core.errors import MalformedRequest, Unavailable
from jobtasks.protocol.messages import Join, LogChunks, LogStored, Orders, Sync
from jobtasks.service import logs, nodes, waking
from jobtasks.service.context import Caller, Context
from jobtasks.store.pause import has_room
from jobtasks.store.records import AttemptRecord

M = TypeVar("M", Join, Sync, LogChunks)
WAIT_SECONDS_MAX = 60.0
BRIEF_ATTEMPTS = 32
"""A sync that ends more, or has room for more, is left to the writer's thread."""
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
"""A sync that reports many ends brings 64 KiB of stderr with each."""


class Agents:
    """Request handlers of ``/agent/v1``."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self._join = msgspec.msgpack.Decoder(Join)
        self._sync = msgspec.msgpack.Decoder(Sync)
        self._logs = msgspec.msgpack.Decoder(LogChunks)

    def routes(self) -> list[Route]:
        """Return the routes of agents."""
        return [
            Route("/agent/v1/join", self.join, methods=["POST"]),
            Route("/agent/v1/sync", self.sync, methods=["POST"]),
            Route("/agent/v1/logs", self.logs, methods=["POST"]),
        ]

    async def join(self, request: Request) -> Response:
        """A new agent presents itself."""
        message = await self._message(request, self._join)
        joined = await self.edge.write_ahead(
            request, lambda ctx, caller: nodes.join(ctx, caller, message)
        )
        return msgpack_answer(joined)

    async def sync(self, request: Request) -> Response:
        """Take an agent's state of affairs; with nothing to order, hold the answer back."""
        arrived = time.monotonic()
        message = await self._message(request, self._sync)
        with seat_of(self.edge.hub, message) as seat:
            orders = await self.edge.write_ahead(
                request,
                lambda ctx, caller: nodes.sync(ctx, caller, message),
                seat,
                brief=is_brief(message),
            )
            if not message.leaving:
                orders = await self._held(request, message, orders, seat, arrived)
        trust = self.edge.world.trust
        if trust is not None and trust.mark != message.trust:
            orders.trust = trust
        return msgpack_answer(orders)

    async def _held(
        self, request: Request, message: Sync, orders: Orders, seat: Seat, arrived: float
    ) -> Orders:
        """Return orders that say something; empty ones when it is time or a newer sync came."""
        until = arrived + min(message.wait_seconds, WAIT_SECONDS_MAX)
        while True:
            orders.follow = self.edge.hub.followed(alive.attempt for alive in message.running)
            has_news = self.edge.hub.take_news(orders.follow) or says_something(orders)
            left = until - time.monotonic()
            if has_news or left <= 0 or seat.superseded or self.edge.hub.closing:
                return orders
            if not await seat.wait(left) or seat.superseded:
                return orders
            # Rings up to here are answered by the claim that follows.
            seat.clear()
            held_seconds = time.monotonic() - arrived
            renewed = orders.renewed
            orders = await self._polled(request, message, seat)
            orders.held_seconds = held_seconds
            orders.renewed = orders.renewed or renewed

    async def _polled(self, request: Request, message: Sync, seat: Seat) -> Orders:
        """Look again for a sync that waits; when that leaves work, others are to look."""

        def poll(ctx: Context, caller: Caller) -> tuple[Orders, bool]:
            return nodes.poll(ctx, caller, message), waking.is_work_ready(ctx)

        seats = self.edge.hub.seats
        seats.looks(seat)
        orders, is_left = await self.edge.write_ahead(request, poll, seat, brief=is_brief(message))
        seats.has_looked(seat, work_is_left=is_left)
        return orders

    async def logs(self, request: Request) -> Response:
        """Keep pieces of attempts' logs; they are on disk when this is answered (R37)."""
        message = await self._message(request, self._logs)
        attempts = await self.edge.read(
            request, lambda ctx, caller: nodes.stored_logs(ctx, caller, message)
        )
        stored = await self.edge.in_thread(self._store, attempts, message)
        self.edge.logs_came(stored)
        self.edge.meters.add_log_bytes(sum(len(chunk.data) for chunk in message.chunks))
        return msgpack_answer(LogStored(stored))

    def _store(self, attempts: list[AttemptRecord], message: LogChunks) -> list[int]:
        world, pause = self.edge.world, self.edge.log_pause
        try:
            if pause.reason and not has_room(world.log_dir):
                raise OSError(0, pause.reason)
            stored = logs.store_chunks(
                world.log_dir, attempts, message.chunks, world.settings.log_bytes_max
            )
        except OSError as error:
            # The agent keeps them and comes again.
            reason = error.strerror or str(error)
            pause.fail(reason)
            raise Unavailable(f"The logs cannot be written: {reason}") from None
        pause.end()
        return stored

    async def _message(self, request: Request, decoder: msgspec.msgpack.Decoder[M]) -> M:
        self.edge.admit_agent(request)
        body = await read_body(request, MESSAGE_BYTES_MAX)
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise MalformedRequest(f"The message cannot be read: {error}") from None


def seat_of(hub: Hub, message: Sync) -> AbstractContextManager[Seat]:
    """Have the bell of a sync."""
    return hub.seat(
        message.agent,
        message.number,
        jobs=message.jobs_known,
        attempts=[alive.attempt for alive in message.running],
        wants_work=bool(message.free_slots),
    )


def is_brief(message: Sync) -> bool:
    """Return whether a sync takes a few dozen statements at most (`Piece.is_brief`)."""
    ends = len(message.ended) + len(message.refused) + len(message.unknown)
    return max(ends, len(message.free_slots)) <= BRIEF_ATTEMPTS and not message.leaving


def says_something(orders: Orders) -> bool:
    """Return whether an agent has anything to do with these orders at once.

    That a log is read is news once only: see `Hub.take_news`.
    """
    return bool(
        orders.stale
        or orders.rejoin
        or orders.acknowledged
        or orders.start
        or orders.stop
        or orders.ask
        or orders.jobs_over
        or orders.leave
    )
