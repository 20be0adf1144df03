"""A request before it is routed: its encoding, its form, the method it asks for (R8, R41)."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from starlette.types import Message, Receive, Scope

from jobtasks.api.forms import CONTENT_TYPE, FORM, Form, method_asked, parse_form
from jobtasks.core.errors import TooLarge, UnknownEncoding
from jobtasks.core.settings import Settings

BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})
DRAIN_BYTES_MAX = 64 * 1024 * 1024
"""How much of a body that is too large is read and dropped, so that its sender gets to read why."""
LARGE_BYTES = 64 * 1024
"""From this size on a form is decoded outside the event loop's thread."""


def header(scope: Scope, name: bytes) -> str:
    """Return the last value of a header, "" when there is none."""
    found = b""
    for key, value in scope["headers"]:
        if key == name:
            found = value
    return found.decode("latin-1")


async def prepare(scope: Scope, receive: Receive, settings: Settings) -> Receive:
    """Find a request's form and effective method; return what the rest of its body comes from.

    A form is kept in the scope; of a request that is taken for a GET or DELETE it becomes part of
    the address.

    Raises:
        UnknownEncoding: the body is compressed, or in parts.
        TooLarge, MalformedRequest: the form is past a limit, or none.
        MethodNotAllowed: the method that is asked for does not exist.
    """
    if scope["method"] not in BODY_METHODS:
        return receive
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    _refuse_encodings(scope, kind)
    form: Form | None = None
    if kind == CONTENT_TYPE:
        form, receive = await _read_form(receive, settings)
    if scope["method"] == "POST":
        asked = form.get("_method") if form else None
        scope["method"] = method_asked(asked or header(scope, b"x-http-method-override"))
    if form is not None and scope["method"] in BODY_METHODS:
        scope[FORM] = form
    elif form is not None and form.fields:
        own = scope["query_string"]
        # What the address says comes last, and wins.
        scope["query_string"] = urlencode(form.fields).encode() + (b"&" + own if own else b"")
    return receive


def _refuse_encodings(scope: Scope, kind: str) -> None:
    if kind.startswith("multipart/"):
        raise UnknownEncoding(f"A body in parts is not understood; send JSON or {CONTENT_TYPE}.")
    if header(scope, b"content-encoding").strip().lower() not in ("", "identity"):
        raise UnknownEncoding("A compressed body is not understood; send it as it is.")


async def _read_form(receive: Receive, settings: Settings) -> tuple[Form | None, Receive]:
    """Return the form, or None for JSON that is called a form, as ``curl -d`` does."""
    raw = bytearray()
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return None, _replay(message, receive)
        piece = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(piece)
        if size <= settings.form_bytes_max:
            raw += piece
        if raw[:64].lstrip().startswith((b"{", b"[")):
            begun = {"type": "http.request", "body": bytes(raw), "more_body": more}
            return None, _replay(begun, receive)
        if size > settings.form_bytes_max + DRAIN_BYTES_MAX:
            break
    if size > settings.form_bytes_max:
        raise TooLarge(f"A form must have at most {settings.form_bytes_max} bytes.")
    if size < LARGE_BYTES:
        form = parse_form(bytes(raw), settings)
    else:
        form = await asyncio.to_thread(parse_form, bytes(raw), settings)
    return form, _replay({"type": "http.request", "body": b"", "more_body": False}, receive)


def _replay(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives `first`, then goes on."""
    waiting = [first]

    async def replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return replayed
