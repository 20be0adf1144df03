"""Request bodies: read within limits, decoded, unwrapped (R8, R40).

A record comes wrapped (``{"job_task": {…}}``, or the same with the record as JSON text) or flat.
In a flat body keys that are no attributes are parameters of the call, or nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.requests import Request

from jobtasks.api.forms import FORM, Form, arguments_in, record_in
from jobtasks.api.items import Items, large_items
from jobtasks.api.requests import DRAIN_BYTES_MAX
from jobtasks.core.errors import Invalid, MalformedRequest, TooLarge
from jobtasks.core.nesting import deeper_than
from jobtasks.core.resources import ALIASES, INTEGER_MAX, Resource, is_digits
from jobtasks.core.settings import Settings
from jobtasks.core.timestamps import parse_time
from jobtasks.service.idempotency import Name


@dataclass(frozen=True, slots=True)
class Body:
    """A decoded body: the record's attributes, and what else the body said."""

    attributes: dict[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Top-level keys beside the record: ``select`` and the like."""
    items: list[dict[str, Any]] | None = None
    """The records of a bulk create; None in a body with one record."""
    large: Items | None = None
    """The records of a large one instead."""
    key: Name | None = None
    """What tells the request from its repeat, if it brought anything that does."""
    whole: bool = False
    """Whether the record is a form's: its sender gives back what it has, changed or not (R7)."""


async def read_body(request: Request, bytes_max: int) -> bytes:
    """Return the request's body.

    Raises:
        TooLarge: it has more than `bytes_max` bytes; no more than that was kept.
    """
    announced = request.headers.get("content-length", "")
    pieces: list[bytes] = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size <= bytes_max:
            pieces.append(piece)
        elif size > bytes_max + DRAIN_BYTES_MAX:
            break
    if size > bytes_max or (announced.isdigit() and int(announced) > bytes_max):
        raise TooLarge(f"A request body must have at most {bytes_max} bytes.")
    return b"".join(pieces)


def decode_body(body: bytes, depth_max: int) -> dict[str, Any]:
    """Return the JSON object that a body holds; an empty body counts as an empty object.

    Raises:
        MalformedRequest: it is not JSON; NaN and Infinity are not.
        TooLarge: it is nested deeper than `depth_max` levels.
        Invalid: it is JSON, but no object.
    """
    if not body.strip():
        return {}
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise _too_deep(depth_max) from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise MalformedRequest(f"The request body is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise Invalid("The request body must be a JSON object.")
    if deeper_than(value, depth_max):
        raise _too_deep(depth_max)
    return value


def _too_deep(depth_max: int) -> TooLarge:
    return TooLarge(f"A request body must not be nested deeper than {depth_max} levels.")


def parse_record(resource: Resource, body: bytes, settings: Settings) -> Body:
    """Return the record that `body` brings.

    Raises:
        MalformedRequest: the body, or the text that stands for the record, is not JSON.
        TooLarge: past a limit.
        Invalid: there is no object where one is needed.
    """
    return unwrap(resource, decode_body(body, settings.depth_max), settings)


def parse_records(resource: Resource, body: bytes, settings: Settings) -> Body:
    """Do the same for a body that may bring many records under the collection's name."""
    large = large_items(body, settings)
    if large is not None:
        return Body({}, large=large)
    value = decode_body(body, settings.depth_max)
    if resource.name in value:
        return Body({}, value, _items(resource, value[resource.name], settings.bulk_tasks_max))
    if len(body) > settings.body_bytes_max:
        raise TooLarge(f"A request body must have at most {settings.body_bytes_max} bytes.")
    return unwrap(resource, value, settings)


def _items(resource: Resource, value: Any, items_max: int) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise Invalid(f"{resource.name} must be a list of objects")
    if len(value) > items_max:
        raise TooLarge(f"{resource.name} must have at most {items_max} items")
    for position, item in enumerate(value):
        if type(item) is not dict:
            raise Invalid(f"{resource.name}[{position}] must be an object")
    return value


def parse_fields(resource: Resource, request: Request, settings: Settings) -> Body | None:
    """Return the record that a form, or the address, brings; None when the body is to be read.

    The address wins over the form (R41).

    Raises:
        Invalid: a form without a record, or a record that cannot be read.
    """
    form: Form | None = request.scope.get(FORM)
    fields = [*(form.fields if form else ()), *request.query_params.multi_items()]
    found = record_in(resource, fields, settings.depth_max)
    if not found:
        if form is None:
            return None
        names = " (or ".join(resource.wrappers[:2]) + ")" * (len(resource.wrappers) > 1)
        raise Invalid(f"No {names} hash provided with request")
    attributes = _object(resource.singular, found, settings.depth_max)
    return Body(attributes, dict(fields), whole=form is not None)


def raw_fields(request: Request) -> bytes:
    """Return the form, or else the address's query, as it was sent."""
    form: Form | None = request.scope.get(FORM)
    raw: bytes = form.raw if form else request.scope["query_string"]
    return raw


async def read_arguments(request: Request, settings: Settings) -> dict[str, Any]:
    """Return the arguments that a method's body brings, JSON or a form."""
    form: Form | None = request.scope.get(FORM)
    if form is not None:
        return arguments_in(form)
    body = await read_body(request, settings.body_bytes_max)
    return decode_body(body, settings.depth_max)


def unwrap(resource: Resource, value: dict[str, Any], settings: Settings) -> Body:
    """Return the record in a decoded body, whichever way it is wrapped."""
    for key in resource.wrappers:
        if wrapped := value.get(key):
            return Body(_object(key, wrapped, settings.depth_max), value)
    flat = {
        key: item for key, item in value.items() if ALIASES.get(key, key) in resource.attributes
    }
    return Body(flat, value)


def _object(key: str, wrapped: Any, depth_max: int) -> dict[str, Any]:
    if isinstance(wrapped, str):
        return decode_body(wrapped.encode("utf-8", "surrogatepass"), depth_max)
    if not isinstance(wrapped, dict):
        raise Invalid(f"{key} must be a JSON object")
    return wrapped


def count_of(request: Request, name: str, default: int, highest: int = INTEGER_MAX) -> int:
    """Return a parameter of the address that is a number from 0, `default` when there is none.

    Raises:
        Invalid: it is no such number, or above `highest`.
    """
    text = request.query_params.get(name)
    if not text:
        return default
    if not is_digits(text) or not 0 <= int(text) <= highest:
        most = "" if highest == INTEGER_MAX else f" to {highest}"
        raise Invalid(f"{name} must be a number, from 0{most}")
    return int(text)


def time_of(request: Request, name: str) -> int | None:
    """Return a parameter of the address that is a time, in Unix microseconds; None without one.

    Raises:
        Invalid: it is no time.
    """
    text = request.query_params.get(name)
    if not text:
        return None
    try:
        return parse_time(text)
    except (ValueError, OverflowError):
        raise Invalid(f"{name} must be a time, such as 2014-01-01T00:00:00Z") from None
