"""Beside the loop: has the engine do what the manager has written down, and writes what it says.

Commands run in a thread of their own, one after the other, each with a time limit; every thing that
becomes known is a short write. Nothing is kept here that matters: a server that begins anew reads
the open requests, looks what the engine has of them, and goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import msgspec

from jobtasks.api.edge import Edge, now
from jobtasks.api.engine_line import MICROSECONDS, EngineLine
from jobtasks.api.seats import Bell
from jobtasks.core.errors import Unavailable
from jobtasks.core.requests import Ask, RequestState, Sighting
from jobtasks.engines.base import Refused, Unclear
from jobtasks.service import engines
from jobtasks.service.engines import RequestRow

TOPIC = "engine"
LIMITS_SECONDS = 300.0
"""How often is looked what the engine can grant at most."""
LIMITS_AGAIN_SECONDS = 10.0
"""The same after a look that was not answered."""
GATHER_SECONDS = 0.05
"""After news: others often follow at once."""

logger = logging.getLogger(__name__)


class EngineKeeper:
    """Carries out what is to be done at one engine, until the hub closes."""

    def __init__(self, edge: Edge, line: EngineLine) -> None:
        self._edge = edge
        self._line = line
        self._engine = line.engine
        self._settings = edge.world.settings
        self._looked_at = 0.0
        self._limits_at = -LIMITS_SECONDS
        self._asks: list[float] = []
        """When the engine was asked, within the last minute."""
        self._told: set[tuple[int, str]] = set()
        """What the engine was told to end and to take back since it was looked at."""

    async def keep(self) -> None:
        """Work until the hub closes."""
        hub = self._edge.hub
        with hub.listen(TOPIC) as bell:
            while not hub.closing:
                bell.clear()
                try:
                    pause_seconds = await self._round()
                except Unavailable:
                    pause_seconds = self._settings.tick_seconds
                except Exception:
                    # What is on disk is looked at again; an engine without a keeper grants nothing.
                    logger.exception("a round of the engine %s failed", self._engine.name)
                    pause_seconds = self._settings.engine_poll_seconds
                await _wait(bell, pause_seconds)
        self._line.close()

    async def _round(self) -> float:
        """Do what is due; return how long nothing else is."""
        await self._learn_limits()
        if self._engine.hosts:
            hosts = self._engine.hosts
            await self._edge.commit(lambda ctx: engines.want_hosts(ctx, hosts))
        rows = await self._edge.look(engines.open_requests)
        if not rows:
            return self._settings.engine_poll_seconds
        await self._end_and_give_back(rows)
        left = await self._ask_for(rows)
        if self._is_look_due(rows):
            await self._look(rows)
        until_look = self._looked_at + self._settings.engine_poll_seconds - time.monotonic()
        return max(GATHER_SECONDS, min(until_look, left))

    # What is to be done

    async def _ask_for(self, rows: Sequence[RequestRow]) -> float:
        """Ask for what is wanted, as fast as that may be; return when more may be asked for."""
        for row in rows:
            if row.state != RequestState.WANTED or row.ending is not None:
                continue
            if self._edge.hub.closing:
                break
            if (wait_seconds := self._budget()) > 0:
                return wait_seconds
            await self._ask(row)
        return self._settings.engine_poll_seconds

    def _budget(self) -> float:
        """Return how long to wait before the engine may be asked again."""
        at = time.monotonic()
        self._asks = [asked for asked in self._asks if asked > at - 60.0]
        if len(self._asks) < self._settings.engine_asks_per_minute:
            return 0.0
        return self._asks[0] + 60.0 - at

    async def _ask(self, row: RequestRow) -> None:
        """Ask for one request. Before the engine hears of it, it is on disk that nobody knows."""
        if not await self._edge.commit(lambda ctx: engines.begin(ctx, row.id)):
            return
        self._asks.append(time.monotonic())
        ask = msgspec.json.decode(row.ask, type=Ask)
        try:
            engine_id = await self._line.command(lambda: self._engine.ask(row.name, ask))
        except Refused as refused:
            reason = str(refused)
            logger.warning("%s refused request %s: %s", self._engine.name, row.name, reason)
            await self._edge.commit(lambda ctx: engines.note_over(ctx, row.id, reason))
        except Unclear as unclear:
            logger.warning("%s: request %s is unknown: %s", self._engine.name, row.name, unclear)
        else:
            logger.info("%s took request %s as %s", self._engine.name, row.name, engine_id)
            await self._edge.commit(lambda ctx: engines.note_asked(ctx, row.id, engine_id))

    async def _end_and_give_back(self, rows: Sequence[RequestRow]) -> None:
        """Tell the engine what it may have back."""
        leaving = await self._edge.look(engines.leaving_places)
        for row in rows:
            engine_id = row.engine_id
            if engine_id is None:
                continue
            if row.ending is not None:
                await self._tell(row, "", lambda id=engine_id: self._engine.cancel(id))  # type: ignore[misc]
            elif places := leaving.get(row.id):
                what = ",".join(places)
                await self._tell(
                    row,
                    what,
                    lambda id=engine_id, gone=places: self._engine.give_back(id, gone),  # type: ignore[misc]
                )

    async def _tell(self, row: RequestRow, what: str, command: Callable[[], None]) -> None:
        """Tell the engine once; again when it was looked at and nothing has changed."""
        if (row.id, what) in self._told:
            return
        await self._line.tell(command)
        self._told.add((row.id, what))
        # What came of it is seen by looking.
        self._looked_at = min(self._looked_at, time.monotonic() - self._soon())

    # What is known

    def _is_look_due(self, rows: Sequence[RequestRow]) -> bool:
        """Whether to look now: after a while; soon when an agent joined or something was told."""
        since = time.monotonic() - self._looked_at
        if since >= self._settings.engine_poll_seconds:
            return True
        has_news = any(
            row.state == RequestState.GRANTED and row.places == "[]" and row.ending is None
            for row in rows
        )
        return has_news and since >= self._settings.engine_poll_seconds - self._soon()

    def _soon(self) -> float:
        """How much earlier than usual is looked when there is a reason."""
        return self._settings.engine_poll_seconds * 0.9

    async def _look(self, rows: Sequence[RequestRow]) -> None:
        began = now()
        self._looked_at = time.monotonic()
        sightings = await self._line.look([row.name for row in rows])
        if sightings is None:
            return
        self._told.clear()
        seen: dict[str, list[Sighting]] = {}
        for one in sightings:
            seen.setdefault(one.name, []).append(one)
        for row in rows:
            if row.name in seen:
                await self._take(row, seen[row.name])
            else:
                await self._miss(row, began)

    async def _take(self, row: RequestRow, found: Sequence[Sighting]) -> None:
        """Note what was seen of a request; of several of its name all but one are ended."""
        live = [one for one in found if one.state is not RequestState.OVER]
        own = [one for one in live if one.engine_id == row.engine_id]
        kept = (own or live or list(found))[0]
        for one in live:
            if one is not kept:
                logger.warning("%s has %s twice: ending %s", self._engine.name, row.name, one)
                await self._line.tell(lambda id=one.engine_id: self._engine.cancel(id))  # type: ignore[misc]
        await self._edge.commit(lambda ctx: engines.note_seen(ctx, row.id, kept))

    async def _miss(self, row: RequestRow, began: int) -> None:
        """Find out what it means that the engine shows nothing of a request: mostly nothing."""
        if row.engine_id is None:
            settled = (row.asked_at or began) + self._settings.engine_settle_seconds * MICROSECONDS
            if row.state == RequestState.UNKNOWN and began > settled:
                logger.info("%s knows nothing of %s", self._engine.name, row.name)
                await self._edge.commit(lambda ctx: engines.ask_again(ctx, row.id))
            return
        engine_id = row.engine_id
        if await self._line.tell(lambda: self._engine.is_gone(engine_id)):
            await self._edge.commit(lambda ctx: engines.note_over(ctx, row.id, engines.VANISHED))

    async def _learn_limits(self) -> None:
        """Look from time to time what the engine can grant at most (R30)."""
        if time.monotonic() < self._limits_at + LIMITS_SECONDS:
            return
        if not await self._line.learn_limits():
            self._limits_at = time.monotonic() - LIMITS_SECONDS + LIMITS_AGAIN_SECONDS
            return
        self._limits_at = time.monotonic()
        if not self._engine.hosts:
            self._edge.world.offer = self._engine.offer()


async def _wait(bell: Bell, seconds: float) -> None:
    if await bell.wait(seconds):
        await asyncio.sleep(GATHER_SECONDS)
