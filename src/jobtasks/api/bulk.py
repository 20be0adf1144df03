"""Large creates of tasks: decoded and stored slice by slice (R2, R40).

What is held is the body and the uuids to answer with; of the tasks themselves, as objects, one
slice. See ADR 0021.
"""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from jobtasks.api.edge import Edge
from jobtasks.api.items import LARGE_ITEMS, Items
from jobtasks.service import arrivals, creation
from jobtasks.service.arrivals import Arrival
from jobtasks.service.creation import BulkCreated, NewTask
from jobtasks.service.idempotency import Name


async def create_in_slices(
    edge: Edge, request: Request, items: Items, key: Name | None
) -> BulkCreated | None:
    """Create tasks for a running attempt; None: the caller is none, and nothing was done.

    Raises:
        JobTasksError: nothing of it is there.
    """
    arrival = await edge.write(
        request, lambda ctx, caller: arrivals.begin(ctx, caller, len(items), key)
    )
    if not isinstance(arrival, Arrival):
        return arrival
    try:
        await _add_all(edge, request, arrival, items)
        return await edge.write_once(
            request, key, lambda ctx, caller: arrivals.finish(ctx, caller, arrival, key)
        )
    finally:
        # Also when the client has gone away; nothing is left to give up when all went well.
        edge.submit(lambda ctx: arrivals.leave(ctx, arrival.id))


async def _add_all(edge: Edge, request: Request, arrival: Arrival, items: Items) -> None:
    """Add slice after slice; while one is stored the next is decoded and checked."""

    async def check(first: int) -> list[NewTask]:
        return await edge.in_thread(_checked, arrival, items, first)

    async def add(tasks: list[NewTask]) -> None:
        await edge.write(request, lambda ctx, caller: arrivals.add(ctx, caller, arrival, tasks))

    tasks = await check(0)
    for following in range(LARGE_ITEMS, len(items) + LARGE_ITEMS, LARGE_ITEMS):
        tasks, _ = await asyncio.gather(check(following), add(tasks))


def _checked(arrival: Arrival, items: Items, first: int) -> list[NewTask]:
    return creation.checked(arrival.origin, items.decoded(first, LARGE_ITEMS), first)
