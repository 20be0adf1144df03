"""``where``, the old form of filters: what each of its pairs is as a filter (R41).

Clients written before 2014 send it. Unlike filters it ignores what it does not know.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.resources import FilterClass, Resource

ANY = "any"
NOT_SEARCHED = "owner_uuid"
"""The one text attribute that `any` leaves out here."""


def as_filters(resource: Resource, value: Any) -> list[list[Any]]:
    """Return the filters that parameter `where` stands for; an object or its JSON.

    Raises:
        Invalid: it is none.
    """
    if isinstance(value, str):
        value = _decoded(value) if value else None
    if value is None:
        return []
    if not isinstance(value, dict):
        raise Invalid('Could not parse "where" param as an object')
    known = {*resource.attributes, "id", "updated_at"}
    found: list[list[Any]] = []
    for name, wanted in value.items():
        if name == ANY:
            found += _anywhere(resource, wanted)
        elif name in known:
            found += _filters(name, wanted)
    return found


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return text


def _filters(name: str, wanted: Any) -> Iterator[list[Any]]:
    part = _contained(wanted)
    if part is not None:
        yield [name, "like", f"%{literal(part)}%"]
    elif isinstance(wanted, list):
        yield [name, "in", wanted]
    elif isinstance(wanted, dict):
        for key, value in wanted.items():
            if isinstance(value, str):
                yield [name, "ilike", f"%{literal(key)}%{literal(value)}%"]
    elif not isinstance(wanted, float):
        yield [name, "=", wanted]


def _anywhere(resource: Resource, wanted: Any) -> Iterator[list[Any]]:
    part = _contained(wanted)
    if part is not None:
        names = [
            row.name
            for row in resource.attributes.values()
            if row.filter_class is FilterClass.TEXT and row.name != NOT_SEARCHED
        ]
        yield [names, "ilike", f"%{literal(part)}%"]


def _contained(wanted: Any) -> str | None:
    """Return the text of ``["contains", text]``, None for anything else."""
    if isinstance(wanted, list) and len(wanted) == 2 and wanted[0] == "contains":
        return wanted[1] if isinstance(wanted[1], str) else None
    return None


def literal(text: str) -> str:
    """Return `text` as a pattern that matches itself."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
