"""One connection of a client, held to limits of size and time (R40).

The HTTP server underneath limits neither the size of a head nor how slowly a request may arrive: a
few hundred clients that send a byte now and then would hold all of its connections.
"""

from __future__ import annotations

import asyncio
import resource
from asyncio import TimerHandle, Transport
from collections.abc import Awaitable, Callable
from enum import Enum

from starlette.responses import Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from jobtasks.api import renewals, reports
from jobtasks.api.answers import error_answer
from jobtasks.api.deliveries import EXCHANGE, Exchange
from jobtasks.api.requests import DRAIN_BYTES_MAX
from jobtasks.core.errors import (
    HeadTooLarge,
    JobTasksError,
    MalformedRequest,
    TooManyRequests,
    TooSlow,
)
from jobtasks.core.settings import Settings

HEAD_TOO_LARGE = "jobtasks.head_too_large"
"""Marks in a request's scope that it is to be refused."""
BODY_BYTES_PER_SECOND = 64 * 1024
"""A body that comes at this pace or faster is never too slow, however large it is."""

FILES_OF_OWN = 128
"""How many files the server opens beside its connections: databases, logs, attachments. Without one
it could serve nobody, agents neither."""
FAREWELL_SECONDS = 0.5
"""How long a client with TLS has to take the rest of an answer when the server ends."""


Renew = Callable[[renewals.Headers, bytes], Awaitable[Response]]
"""Answers a renewal by its headers and body."""
TakeReport = Callable[[reports.Report], Awaitable[Response]]
"""Answers a report."""


class Part(Enum):
    """Which part of a request arrives."""

    NOTHING = "nothing"
    HEAD = "head"
    BODY = "body"


class BoundedConnection(HttpToolsProtocol):
    """A connection on which requests arrive in time and with a head of bounded size."""

    settings: Settings = Settings()
    connections_open_max = 0
    """How many connections there may be at a time."""
    _part = Part.NOTHING
    _head_bytes = 0
    _body_bytes = 0
    _dropped_bytes = 0
    _arriving: TimerHandle | None = None
    """Fires when the part that arrives has taken too long."""
    _taking: TimerHandle | None = None
    """Fires when the client has not taken anything of an answer for too long."""
    _exchange: Exchange | None = None
    """The newest request on the connection."""
    renew: Renew | None = None
    """What answers a renewal that came whole, past all that is below (api/renewals.py)."""
    report: TakeReport | None = None
    """What answers a report that came whole, past the same (api/reports.py)."""
    _answering: asyncio.Task[None] | None = None
    """Answers a request that goes a short way."""
    _early = b""
    """What came while it was answered."""
    _is_last = False
    """The server ends: nothing follows what is answered."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        if len(self.connections) > self.connections_open_max:
            self._refuse(TooManyRequests("Too many connections are open; come again later (R40)."))
        else:
            self._expect(self.settings.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect(None)
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived; refuse a head that is too large before it is whole."""
        if self._answering is not None:
            self._early += data
            self.transport.pause_reading()
            return
        is_first = self._part is Part.NOTHING and (
            self.cycle is None or self.cycle.response_complete
        )
        if is_first and self._goes_short_way(data):
            return
        began = self._part
        if began is Part.NOTHING and self._arriving is None:
            self._expect(self.settings.head_seconds)
        super().data_received(data)
        if self._part is Part.HEAD and began is not Part.BODY:
            self._head_bytes += len(data)
            if self._head_bytes > self.settings.head_bytes_max:
                self._refuse(HeadTooLarge())

    def on_message_begin(self) -> None:
        """Begin a head."""
        self._part = Part.HEAD
        self._head_bytes = 0
        self._expect(self.settings.head_seconds)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Judge the head; what is too large is answered like any refusal."""
        self._part = Part.BODY
        self._body_bytes = self._dropped_bytes = 0
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        too_many = len(self.headers) > self.settings.headers_max
        if too_many or size > self.settings.head_bytes_max:
            self.scope[HEAD_TOO_LARGE] = True  # type: ignore[literal-required]
        if self._exchange is not None and self.cycle is not None and self.cycle.response_complete:
            self._exchange.delivered()
        self._exchange = self.scope[EXCHANGE] = Exchange()  # type: ignore[literal-required]
        self._expect(self.settings.body_seconds)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count what has arrived of the body; of one that was answered drop only so much."""
        self._body_bytes += len(body)
        if self.cycle.response_complete:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > DRAIN_BYTES_MAX:
                self.transport.close()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Expect nothing: what comes next is the client's free will."""
        self._part = Part.NOTHING
        self._expect(None)
        super().on_message_complete()

    def pause_writing(self) -> None:
        """Wait for a client that does not take its answer, not for ever."""
        if self._taking is None:
            self._taking = self.loop.call_later(self.settings.answer_seconds, self.transport.abort)
        super().pause_writing()

    def resume_writing(self) -> None:
        """Go on: it takes its answer."""
        if self._taking is not None:
            self._taking.cancel()
            self._taking = None
        super().resume_writing()

    def shutdown(self) -> None:
        """End after what is under way."""
        if self._answering is not None:
            self._is_last = True
            return
        super().shutdown()
        if self.scheme == "https" and self.transport.is_closing():
            # TLS waits for the client's farewell, and an idle one says none.
            self.loop.call_later(FAREWELL_SECONDS, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP."""
        self._refuse(MalformedRequest(msg))

    def _goes_short_way(self, data: bytes) -> bool:
        """Have `data` answered past the HTTP server, if it is a whole request of a known form."""
        if self.renew is not None and (renewal := renewals.read(data)) is not None:
            self._answer_soon(self.renew(*renewal))
        elif self.report is not None and (report := reports.read(data)) is not None:
            self._answer_soon(self.report(report), self.server_state.default_headers)
        else:
            return False
        return True

    def _answer_soon(
        self, answering: Awaitable[Response], first: renewals.Headers | None = None
    ) -> None:
        self._expect(None)
        self._unset_keepalive_if_required()
        if self._exchange is not None:
            self._exchange.delivered()
            self._exchange = None
        self._answering = self.loop.create_task(self._answer(answering, first))
        # The server waits for these when it ends.
        self.tasks.add(self._answering)
        self._answering.add_done_callback(self.tasks.discard)

    async def _answer(self, answering: Awaitable[Response], first: renewals.Headers | None) -> None:
        answer = await answering
        self._answering = None
        if self.transport.is_closing():
            return
        self.transport.write(renewals.render(answer, first))
        if self._is_last or renewals.ends_connection(answer):
            self.transport.close()
            return
        early, self._early = self._early, b""
        if early:
            self.transport.resume_reading()
            self.data_received(early)
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _expect(self, seconds: float | None) -> None:
        if self._arriving is not None:
            self._arriving.cancel()
            self._arriving = None
        if seconds is not None:
            self._arriving = self.loop.call_later(seconds, self._on_time_over)

    def _on_time_over(self) -> None:
        self._arriving = None
        if self.flow.read_paused:
            # It is the server that does not read: another request is before this one.
            self._expect(self.settings.body_seconds)
        elif self._part is Part.BODY and self._body_bytes >= BODY_BYTES_PER_SECOND:
            self._expect(self._body_bytes / BODY_BYTES_PER_SECOND)
            self._body_bytes = 0
        elif self._part is Part.NOTHING:
            self.transport.close()
        else:
            self._refuse(TooSlow())

    def _refuse(self, error: JobTasksError) -> None:
        """Answer and close; just close while the answer to an earlier request is under way."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        is_own = self._part is Part.BODY and cycle is not None and not cycle.response_started
        if cycle is None or cycle.response_complete or is_own:
            answer = error_answer(error)
            answer.headers["connection"] = "close"
            lines = [f"HTTP/1.1 {error.status} {error.code}".encode("ascii")]
            lines += [name + b": " + value for name, value in answer.raw_headers]
            self.transport.write(b"\r\n".join([*lines, b"", bytes(answer.body)]))
        self.transport.close()


def bounded_by(
    settings: Settings, renew: Renew, report: TakeReport | None = None
) -> type[BoundedConnection]:
    """Return the class of connections that keep to these settings, and to this process's files.

    `renew` answers renewals that come whole, `report` reports; these must be allowed any form that
    is read here, or they go the long way.
    """
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_allowed = (
        settings.head_bytes_max >= renewals.HEAD_BYTES_MAX
        and settings.headers_max >= reports.HEADERS_MAX
        and settings.body_bytes_max >= reports.BODY_BYTES_MAX
    )
    members = {
        "settings": settings,
        "renew": staticmethod(renew),
        "report": staticmethod(report) if report is not None and is_allowed else None,
        "connections_open_max": min(settings.connections_max, max(files_max - FILES_OF_OWN, 1)),
    }
    return type("BoundedConnection", (BoundedConnection,), members)
