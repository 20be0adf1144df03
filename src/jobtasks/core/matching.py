"""Whether a record matches filters, decided here as the store's statements decide it (R41)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jobtasks.core.errors import Invalid
from jobtasks.core.filters import Condition, Term

PIECE = re.compile(r"\\.|.", re.DOTALL)
SIGNS = {"%": ".*", "_": "."}


def check(conditions: Iterable[Condition]) -> None:
    """Refuse what only the store can decide.

    Raises:
        Invalid: a condition is not one on an attribute as it stands.
    """
    for condition in conditions:
        for term in condition:
            if term.operator not in _HOLDS or not (term.attribute.column or "").isidentifier():
                raise Invalid(f"'{term.operator}' on {term.attribute.name} is not for streams")


def matches(conditions: Iterable[Condition], record: Any) -> bool:
    """Return whether all conditions hold for a record, whose fields are called as its columns."""
    return all(any(_holds(term, record) for term in condition) for condition in conditions)


def _holds(term: Term, record: Any) -> bool:
    value = getattr(record, term.attribute.column or "")
    if term.operand is None:
        return (value is None) is (term.operator == "=")
    if value is None:
        return term.nulls
    return _HOLDS[term.operator](value, term.operand)


def is_like(value: str, pattern: str, flags: int = 0) -> bool:
    """Return whether text matches a LIKE pattern: % is any run, _ any character, \\ escapes."""
    regex = "".join(
        re.escape(piece[1:]) if len(piece) == 2 else SIGNS.get(piece, re.escape(piece))
        for piece in PIECE.findall(pattern)
    )
    return re.fullmatch(regex, value, flags | re.DOTALL) is not None


_HOLDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": lambda value, operand: value == operand,
    "!=": lambda value, operand: value != operand,
    "<": lambda value, operand: value < operand,
    "<=": lambda value, operand: value <= operand,
    ">": lambda value, operand: value > operand,
    ">=": lambda value, operand: value >= operand,
    "in": lambda value, operand: value in operand,
    "not in": lambda value, operand: value not in operand,
    "like": is_like,
    "ilike": lambda value, operand: is_like(value, operand, re.IGNORECASE | re.ASCII),
    "is_a": lambda value, operand: value[6:11] in operand,
}
