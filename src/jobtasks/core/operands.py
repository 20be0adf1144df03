"""What a filter's operand is called when it is refused."""

from __future__ import annotations

from typing import Any

import msgspec

from jobtasks.core.errors import Invalid

NAMES = {str: "text", bool: "boolean", type(None): "null", list: "array", dict: "object"}


def shown(value: Any) -> str:
    """Return `value` for an error message, cut short."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= 80 else text[:77] + "…"


def wrong_operand(operand: Any, operator: str) -> Invalid:
    """Return the error for an operand of a type that the operator does not take."""
    kind = NAMES.get(type(operand), "number")
    return Invalid(f"Invalid operand type '{kind}' for '{operator}' operator in filters")
