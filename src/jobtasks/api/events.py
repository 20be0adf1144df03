"""``/arvados/v1/events``: what happens, as it happens, as Server-Sent Events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from jobtasks.api.collection import BASE
from jobtasks.api.edge import Edge
from jobtasks.api.feed import TOPIC, Feed, end_of
from jobtasks.api.hub import LOGS_TOPIC
from jobtasks.api.logs import kinds_as_uuids
from jobtasks.api.rendering import render_log
from jobtasks.api.seats import Bell
from jobtasks.api.tails import Tails, as_entry
from jobtasks.core import matching
from jobtasks.core.errors import Forbidden, Invalid, JobTasksError, TooManyRequests
from jobtasks.core.filters import Condition, parse_filters
from jobtasks.core.resources import RESOURCES
from jobtasks.service import events
from jobtasks.service.context import Caller, Context
from jobtasks.store.records import LogRecord

MEDIA = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
RETRY_MILLISECONDS = 1000
CURSOR_MAX = 2**53
ASK_SECONDS = 1.0
"""How long a token that was good counts as good."""
BATCH = 200
"""Entries that are sent in one piece."""


class Events:
    """The handler of streams."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._feed = Feed(edge)

    def routes(self) -> list[Route]:
        """Return the route of events."""
        return [Route(f"{BASE}/events", self.stream, methods=["GET"])]

    async def stream(self, request: Request) -> Response:
        """Answer with a stream of log entries that match the filters, from a cursor on.

        Without a cursor it begins with what happens next. Entries of the past are those of the
        last so many transactions; a reader that comes back too late is told so (`gone`).
        """
        conditions = parse_filters(RESOURCES["logs"], kinds_as_uuids(request.query_params))
        matching.check(conditions)
        self._edge.glance(request, _admitted)
        cursor, places = await self._cursor(request)
        until = time.monotonic() + seconds_in(request.query_params.get("wait"))
        tails = Tails(self._edge, conditions, places)
        if self._feed.watchers >= self._edge.world.settings.streams_max:
            raise TooManyRequests
        if request.method == "HEAD":
            return Response(None, headers=HEADERS, media_type=MEDIA)
        pieces = self._pieces(request, conditions, cursor, tails, until)
        return StreamingResponse(pieces, headers=HEADERS, media_type=MEDIA)

    async def _cursor(self, request: Request) -> tuple[int, str]:
        given = request.headers.get("last-event-id") or request.query_params.get("cursor")
        given = given or request.query_params.get("last_log_id")
        if not given:
            return end_of(await self._edge.look(events.newest)), ""
        number, comma, rest = given.partition(",")
        if not number.isascii() or not number.isdigit() or int(number) > CURSOR_MAX:
            raise Invalid("cursor must be the id of an entry")
        return int(number), comma + rest

    async def _pieces(
        self,
        request: Request,
        conditions: tuple[Condition, ...],
        cursor: int,
        tails: Tails,
        until: float,
    ) -> AsyncIterator[bytes]:
        """Yield the stream piece by piece until its reader goes, may not read, or is too late."""
        topics = (TOPIC, LOGS_TOPIC) if tails else (TOPIC,)
        meters = self._edge.meters
        with self._feed.watch(), self._edge.hub.listen(*topics) as bell:
            meters.streams_open += 1
            try:
                yield b"retry: %d\n\n" % RETRY_MILLISECONDS
                kept_from = await self._edge.look(events.kept_from)
                if cursor >= (kept_from - 1) << events.PLACE_BITS:
                    async for piece in self._told(request, conditions, cursor, tails, bell, until):
                        yield piece
                else:
                    since = {"kept_from": kept_from << events.PLACE_BITS}
                    yield _message("gone", str(cursor), since)
            finally:
                meters.streams_open -= 1

    async def _told(
        self,
        request: Request,
        conditions: tuple[Condition, ...],
        cursor: int,
        tails: Tails,
        bell: Bell,
        until: float,
    ) -> AsyncIterator[bytes]:
        beat_seconds = self._edge.world.settings.stream_beat_seconds
        reader = _Reader(self._edge, request)
        beaten_at = time.monotonic()
        while not self._edge.hub.closing:
            bell.clear()
            found, behind = await self._feed.after(cursor)
            try:
                chosen = [e for e in reader.sees(found) if matching.matches(conditions, e)]
                lines = await tails.read(request) if tails else []
            except JobTasksError as error:
                yield _message("end", f"{cursor}{tails.cursor()}", {"errors": error.messages})
                return
            for batch in _batches(chosen):
                yield b"".join(
                    _message("log", f"{e.id}{tails.cursor()}", render_log(e)) for e in batch
                )
            cursor = behind
            for line in lines:
                tails.tell(line)
                place = f"{cursor}{tails.cursor()}"
                yield _message("output", place, as_entry(line))
            if found or lines:
                continue
            if time.monotonic() - beaten_at >= beat_seconds:
                beaten_at = time.monotonic()
                yield f"id: {cursor}{tails.cursor()}\n: still here\n\n".encode()
            left = until - time.monotonic()
            if left <= 0:
                return
            await bell.wait(min(left, beat_seconds))


def seconds_in(value: str | None) -> float:
    """Return the seconds that a parameter says, for ever when there is none."""
    if not value:
        return float("inf")
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise Invalid("wait must be a number of seconds")
    return seconds


class _Reader:
    """Who reads a stream, as his token says from time to time."""

    def __init__(self, edge: Edge, request: Request) -> None:
        self._edge = edge
        self._request = request
        self._asked_at = 0.0
        self._caller: Caller | None = None

    def sees(self, entries: list[LogRecord]) -> list[LogRecord]:
        """Return which entries he may see.

        Raises:
            JobTasksError: his token is good no more.
        """
        now = time.monotonic()
        if self._caller is None or now - self._asked_at > ASK_SECONDS:
            self._caller = self._edge.glance(self._request, _admitted)
            self._asked_at = now
        caller = self._caller
        return [entry for entry in entries if events.may_see(caller, entry)]


def _admitted(ctx: Context, caller: Caller) -> Caller:
    if caller.role == "agent":
        raise Forbidden("An agent watches no events.")
    return caller


def _batches(entries: list[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(entries), BATCH):
        yield entries[start : start + BATCH]


def _message(kind: str, cursor: str, content: Mapping[str, Any]) -> bytes:
    data = msgspec.json.encode(content)
    return b"event: %s\nid: %s\ndata: %s\n\n" % (kind.encode(), cursor.encode(), data)
