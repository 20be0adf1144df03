"""Filters on what is inside of JSON attributes: ``parameters.input``, lists that contain (R41).

Values have the types that JSON gives them: 1 is not "1", and null is a value, which is there.
"""

from __future__ import annotations

from typing import Any

from jobtasks.core.errors import Invalid
from jobtasks.core.operands import shown, wrong_operand
from jobtasks.core.resources import INTEGER_MAX, INTEGER_MIN

EXISTS = "exists"
CONTAINS = "contains"
ORDERED = frozenset({"<", "<=", ">", ">="})
MEMBERSHIPS = frozenset({"in", "not in"})
PATTERNS = frozenset({"like", "ilike"})


def split_name(name: str) -> tuple[str, str] | None:
    """Return attribute and key of ``attribute.key``, None for a name without a key.

    The key is all after the first dot, in angle brackets or not; keys have dots of their own.
    """
    attribute, dot, key = name.partition(".")
    if not dot:
        return None
    return attribute, key[1:-1] if key.startswith("<") and key.endswith(">") else key


def check_operand(operator: str, operand: Any) -> Any:
    """Return what a key's value is compared with: a JSON value, a tuple of them, or a boolean.

    Raises:
        Invalid: the operator does not take such an operand, or does not go with keys.
    """
    if operator in MEMBERSHIPS:
        if not isinstance(operand, list):
            raise wrong_operand(operand, operator)
        return tuple(_scalar(operator, item) for item in operand)
    if operator == EXISTS:
        return _of_type(operand, operator, bool)
    if operator in PATTERNS:
        return _of_type(operand, operator, str)
    if operator == "is_a":
        raise Invalid(f"Invalid operator '{operator}' for a key of an attribute")
    value = _scalar(operator, operand)
    if operator in ORDERED and (value is None or isinstance(value, bool)):
        raise wrong_operand(operand, operator)
    return value


def _of_type(operand: Any, operator: str, kind: type) -> Any:
    if not isinstance(operand, kind):
        raise wrong_operand(operand, operator)
    return operand


def _scalar(operator: str, operand: Any) -> Any:
    if isinstance(operand, list | dict):
        raise wrong_operand(operand, operator)
    if isinstance(operand, int) and not INTEGER_MIN <= operand <= INTEGER_MAX:
        raise Invalid(f"Invalid operand '{shown(operand)}': an integer must fit into 64 bits")
    return operand
