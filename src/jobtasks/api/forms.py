"""Bodies in form encoding, and records that come as parameters of the address (R8, R40).

Old clients send ``job_task={json}``, ``job_task[sequence]=1``, or a whole list call as a POST whose
form says ``_method=GET``. Forms have small limits of their own: each field costs more than it
weighs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from jobtasks.core.errors import Invalid, MalformedRequest, MethodNotAllowed, TooLarge
from jobtasks.core.nesting import deeper_than
from jobtasks.core.resources import ALIASES, Kind, Resource
from jobtasks.core.settings import Settings

FORM = "jobtasks.form"
"""Where a request's scope keeps its form."""
CONTENT_TYPE = "application/x-www-form-urlencoded"
METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE", "OPTIONS", "PATCH"})
"""What a POST may ask to be taken for."""
KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
STEP = re.compile(r"\[([^\[\]]*)\]")
DECODED_KINDS = frozenset({Kind.FLOAT, Kind.OBJECT, Kind.LIST})
"""Kinds whose values a form can only give as JSON text."""
BLANK_KINDS = frozenset({Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN, Kind.DATETIME, Kind.LIST})
"""Kinds for which an empty field of a form says null: it has no other way to."""

Fields = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Form:
    """One body in form encoding."""

    raw: bytes
    fields: Fields

    def get(self, name: str) -> str | None:
        """Return a field's value, the last one when there are several."""
        return next((value for key, value in reversed(self.fields) if key == name), None)


def parse_form(raw: bytes, settings: Settings) -> Form:
    """Return the form that a body holds.

    Raises:
        TooLarge: it has too many bytes or fields.
        MalformedRequest: it is not UTF-8.
    """
    if len(raw) > settings.form_bytes_max:
        raise TooLarge(f"A form must have at most {settings.form_bytes_max} bytes.")
    if raw.count(b"&") >= settings.form_fields_max:
        raise TooLarge(f"A form must have at most {settings.form_fields_max} fields.")
    try:
        text = raw.decode()
        fields = parse_qsl(text, keep_blank_values=True, encoding="utf-8", errors="strict")
    except ValueError:
        raise MalformedRequest("The request body is not a form in UTF-8.") from None
    return Form(raw, fields)


def method_asked(asked: str | None) -> str:
    """Return the method that a POST is to be taken for.

    Raises:
        MethodNotAllowed: there is no such method.
    """
    method = (asked or "POST").upper()
    if method not in METHODS:
        raise MethodNotAllowed("A request cannot be taken for one of that method.")
    # The client sent a POST and reads what a POST is answered with: a body.
    return "GET" if method == "HEAD" else method


def record_in(resource: Resource, fields: Iterable[tuple[str, str]], depth_max: int) -> Any:
    """Return the record that fields hold under the resource's name, None when they hold none.

    It is JSON text, or a dict built from fields in brackets.

    Raises:
        Invalid: fields contradict each other, or a name cannot be read.
        TooLarge: brackets are nested too deep.
    """
    names = resource.wrappers
    found: Any = None
    for key, value in fields:
        matched = KEY.fullmatch(key)
        if matched is None or matched[1] not in names:
            continue
        steps = STEP.findall(matched[2])
        if len(steps) > depth_max:
            raise TooLarge(f"A form must not be nested deeper than {depth_max} levels.")
        if not steps:
            found = value if found is None or isinstance(found, str) else _contradiction(key)
        else:
            found = {} if found is None else found
            _put(found, steps, value, key)
    return _typed(resource, found) if isinstance(found, dict) else found


def _contradiction(key: str) -> Any:
    raise Invalid(f"The field {key[:80]} contradicts another one")


def _put(record: Any, steps: list[str], value: str, key: str) -> None:
    """Put one field's value where its brackets say; an empty step appends to a list."""
    place = record
    for step, following in zip(steps, [*steps[1:], None], strict=True):
        fresh: Any = value if following is None else ({} if following else [])
        if isinstance(place, list) and not step:
            place.append(fresh)
            place = fresh
        elif isinstance(place, dict) and step:
            known = place.get(step, fresh)
            if type(known) is not type(fresh):
                _contradiction(key)
            place[step] = fresh if following is None else known
            place = place[step]
        else:
            _contradiction(key)


def _typed(resource: Resource, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record whose values, all of them text, are what their attributes take."""
    typed = {}
    for name, value in record.items():
        attribute = resource.attributes.get(ALIASES.get(name, name))
        if attribute is not None and isinstance(value, str):
            if not value and attribute.kind in BLANK_KINDS:
                value = None
            elif attribute.kind in DECODED_KINDS:
                value = decoded(value)
        typed[name] = value
    return typed


def decoded(text: str, depth_max: int = Settings().depth_max) -> Any:
    """Return the JSON that a field holds, or its text where it is none."""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text
    return text if deeper_than(value, depth_max) else value


def arguments_in(form: Form) -> dict[str, Any]:
    """Return the arguments of a method that a form brings; lists and objects are JSON text."""
    return {
        name: decoded(value) if value.startswith(("[", "{")) else value
        for name, value in form.fields
    }
