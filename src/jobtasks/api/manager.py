"""The manager's loop inside the server: tick, then wait for news, time or a due date."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable

from jobtasks.api.edge import Edge
from jobtasks.core.errors import Unavailable
from jobtasks.core.leases import Reading, is_gap
from jobtasks.service import tick
from jobtasks.service.context import Context

MICROSECONDS = 1_000_000
PAUSE_SECONDS_MIN = 0.001
"""Between two ticks of which the second is due at once."""

logger = logging.getLogger(__name__)


async def manage(edge: Edge) -> None:
    """Run ticks until the hub closes.

    Raises:
        LostManager: another manager has taken over.
    """
    holder = f"{socket.gethostname()}:{os.getpid()}"
    term = await edge.commit(lambda ctx: tick.take_over(ctx, holder), ahead=True)
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
