"""The manager's loop inside the server: tick, then wait for news, time or a due date."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable
from functools import partial

from jobtasks.api.edge import Edge
from jobtasks.core.errors import Unavailable
from jobtasks.core.leases import Reading, is_gap
from jobtasks.service import tick
from jobtasks.service.context import Context

MICROSECONDS = 1_000_000
STAND_BY_SECONDS = 1.0
"""How often a server that stands by looks whether the manager is at work."""
PAUSE_SECONDS_MIN = 0.001
"""Between two ticks of which the second is due at once."""

logger = logging.getLogger(__name__)


async def manage(edge: Edge, holder: str = "") -> None:
    """Be the manager until the hub closes; where servers share a database, stand by until then.

    `holder`: the name of this server, in every life of it.

    Raises:
        LostManager: another manager has taken over a database that should be ours alone.
    """
    holder = holder or f"{socket.gethostname()}:{os.getpid()}"
    if not edge.store.is_shared:
        await _tick_on(edge, await edge.commit(partial(tick.take_over, holder=holder), ahead=True))
        return
    while not edge.hub.closing:
        term = await _stand_by(edge, holder)
        if term is None:
            return
        logger.info("this server is the manager", extra={"term": term})
        edge.is_manager = True
        try:
            await _tick_on(edge, term)
            await _give_way(edge, term)
        except tick.LostManager:
            logger.warning("another server is the manager now", extra={"term": term})
        finally:
            edge.is_manager = False


async def _stand_by(edge: Edge, holder: str) -> int | None:
    """Wait until there is no manager at work, and become it; None: the hub closes."""
    seen: tick.Standing | None = None
    since = time.monotonic()
    with edge.hub.listen("manager") as bell:
        while not edge.hub.closing:
            bell.clear()
            is_silent = time.monotonic() - since >= edge.world.settings.manager_seconds
            silent = seen if is_silent else None
            try:
                found = await edge.commit(
                    partial(tick.stand_by, holder=holder, silent=silent), ahead=True
                )
            except Unavailable:
                # Nor can the manager be heard where the database cannot.
                since = time.monotonic()
            else:
                if isinstance(found, int):
                    return found
                if found != seen:
                    seen, since = found, time.monotonic()
            await bell.wait(STAND_BY_SECONDS)
    return None


async def _give_way(edge: Edge, term: int) -> None:
    with contextlib.suppress(Unavailable):
        await edge.commit(partial(tick.give_way, term=term), ahead=True)


async def _tick_on(edge: Edge, term: int) -> None:
    previous: Reading | None = None
    with edge.hub.listen("manager") as bell:
        while not edge.hub.closing:
            bell.clear()
            try:
                due, previous = await edge.commit(_ticking(edge, term, previous), ahead=True)
            except tick.LostManager:
                raise
            except Unavailable:
                # A pause of the database, which tells of itself.
                due = None
            except Exception:
                # The next tick begins anew from what is on disk; a manager that is gone would
                # leave every job waiting.
                logger.exception("a tick failed")
                due = None
            await bell.wait(pause_seconds(due, edge.world.settings.tick_seconds))


def _ticking(
    edge: Edge, term: int, previous: Reading | None
) -> Callable[[Context], tuple[int | None, Reading]]:
    """Return one tick as a piece of work, with the clocks as they are when it runs (R33)."""

    def work(ctx: Context) -> tuple[int | None, Reading]:
        reading = Reading(ctx.now, time.monotonic(), edge.store.pause.failures)
        gap = is_gap(previous, reading, ctx.settings)
        return tick.tick(ctx, term, gap=gap), reading

    return work


def pause_seconds(due: int | None, tick_seconds: float) -> float:
    """Return how long to wait when something is due in `due` microseconds, or nothing is."""
    if due is None:
        return tick_seconds
    return min(tick_seconds, max(PAUSE_SECONDS_MIN, due / MICROSECONDS))
