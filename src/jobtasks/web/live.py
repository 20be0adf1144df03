"""Tells open pages that there is something new to show; what it is they ask for themselves."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.core.errors import JobTasksError, TooManyRequests
from jobtasks.service import access, events, users
from jobtasks.service.context import Caller, Context
from jobtasks.web.pages import Pages

GATHER_SECONDS = 1.0
"""A page is told at most so often."""
LOOK_SECONDS = 5.0
"""It looks at least so often, whatever was or was not told."""
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class Live:
    """The request handler of ``/live``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    def routes(self) -> list[Route]:
        """Return the route."""
        return [self._pages.route("/live", self.stream)]

    async def stream(self, request: Request) -> Response:
        """Answer with events named ``news``; of one job only when that is another than before."""
        meters = self._pages.edge.meters
        if meters.streams_open >= self._pages.edge.world.settings.streams_max:
            raise TooManyRequests
        uuid = request.query_params.get("job", "")
        first = self._pages.edge.glance(request, _state_of(uuid))
        return StreamingResponse(
            self._pieces(request, uuid, first), headers=HEADERS, media_type="text/event-stream"
        )

    async def _pieces(self, request: Request, uuid: str, known: Any) -> AsyncIterator[bytes]:
        edge = self._pages.edge
        edge.meters.streams_open += 1
        beat_seconds = edge.world.settings.stream_beat_seconds
        beaten_at = time.monotonic()
        try:
            yield b"retry: 2000\n\n"
            with edge.hub.listen(*{events.TOPIC, uuid or events.TOPIC}) as bell:
                while not edge.hub.closing:
                    await bell.wait(LOOK_SECONDS)
                    bell.clear()
                    found = edge.glance(request, _state_of(uuid))
                    if found != known:
                        known, beaten_at = found, time.monotonic()
                        yield b"event: news\ndata: \n\n"
                    elif time.monotonic() - beaten_at > beat_seconds:
                        beaten_at = time.monotonic()
                        yield b": still here\n\n"
                    await asyncio.sleep(GATHER_SECONDS)
        except JobTasksError:
            yield b"event: end\ndata: \n\n"
        finally:
            edge.meters.streams_open -= 1


def _state_of(uuid: str) -> Any:
    """Return what reads something that changes whenever the page may show something else."""

    def look(ctx: Context, caller: Caller) -> Any:
        if uuid:
            return access.visible_job(ctx, caller, uuid)[:-1]
        users.current(ctx, caller)
        # What happens to nodes without an event, as their time of contact, is seen now and then.
        return events.newest(ctx), ctx.now // 10_000_000

    return look
