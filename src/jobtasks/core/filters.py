"""What a list call asks for, checked and typed: filters, order, select, limit, offset (R41).

Pure: store/listing.py makes a statement of it. Semantics and messages are those of the Arvados
methods, so that existing clients need no change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.identifiers import TYPES
from jobtasks.core.operands import shown, wrong_operand
from jobtasks.core.resources import (
    ALIASES,
    INTEGER_MAX,
    INTEGER_MIN,
    Attribute,
    FilterClass,
    Kind,
    Resource,
    as_boolean,
    is_digits,
)
from jobtasks.core.subproperties import CONTAINS, EXISTS, check_operand, split_name
from jobtasks.core.timestamps import parse_time
from jobtasks.core.where import as_filters, literal

LIMIT_DEFAULT = 100
FILTERS_MAX = 100
"""Conditions in one call; more would make a statement that no database takes."""
PATTERN_CHARACTERS_MAX = 10_000
"""Length of the operand of `like` and `ilike`."""

COMPARISONS = frozenset({"=", "!=", "<", "<=", ">", ">="})
PATTERNS = frozenset({"like", "ilike"})
MEMBERSHIPS = frozenset({"in", "not in"})
OPERATORS = COMPARISONS | PATTERNS | MEMBERSHIPS | {"is_a", EXISTS, CONTAINS}
FULL_TEXT = "@@"
UNSERVED = frozenset({"in git", "not in git", "in docker", "not in docker"})
"""Operators that Arvados has on jobs: versions and images are compared here as they were given."""

KINDS = {
    "arvados#job": TYPES["job"],
    "arvados#jobTask": TYPES["job_task"],
    "arvados#user": TYPES["user"],
    "arvados#node": TYPES["node"],
    "arvados#log": TYPES["log"],
    "arvados#apiClientAuthorization": TYPES["token"],
}
"""The middle part of UUIDs by the kind that `is_a` names."""

TRUE_WORDS = frozenset({"1", "t", "true", "y", "yes"})
FALSE_WORDS = frozenset({"0", "f", "false", "n", "no"})

HIDDEN = {
    "id": Attribute("id", Kind.INTEGER, "id", FilterClass.INTEGER),
    "updated_at": Attribute("updated_at", Kind.DATETIME, "modified_at", FilterClass.DATETIME),
}
"""Not in answers, but filters and order may name them."""


class Term(NamedTuple):
    """One comparison of one attribute; the operand is of the attribute's type."""

    attribute: Attribute
    operator: str
    operand: Any
    """str, int (times: Unix microseconds), bool, None, or a tuple of them for `in`, `not in`;
    for `is_a` the middle parts of the UUIDs."""
    nulls: bool = False
    """Whether a row where the attribute is null matches as well."""
    key: str | None = None
    """Of an object, what alone is compared; the operand is then a JSON value, a tuple of them for
    `in`, `not in`, or for `exists` whether the key is there."""


class Order(NamedTuple):
    """One sort key; null counts as the largest value."""

    attribute: Attribute
    descending: bool


Condition = tuple[Term, ...]
"""Terms of which one must hold."""


@dataclass(frozen=True, slots=True)
class Query:
    """One list call."""

    resource: Resource
    filters: tuple[Condition, ...] = ()
    """All must hold."""
    order: tuple[Order, ...] = ()
    """As asked for, then the tie-break: newest modification first, then by uuid."""
    select: tuple[str, ...] | None = None
    """Names of the attributes to show; None: all."""
    limit: int = LIMIT_DEFAULT
    offset: int = 0
    count: bool = True
    """Whether the answer says how many rows match in all."""
    distinct: bool = False
    """Whether rows that are equal in what is selected are shown once."""


def parse_query(resource: Resource, parameters: Mapping[str, Any], items_max: int) -> Query:
    """Return the query that a list call's `parameters` describe; values are text or JSON values.

    A limit past `items_max` is lowered to it; parameters that no list call has are ignored.

    Raises:
        Invalid: one of them breaks the grammar or the type rules.
    """
    select = parse_select(resource, parameters.get("select"))
    count = parameters.get("count") or "exact"
    if count not in ("exact", "none"):
        raise Invalid("count parameter must be 'exact' or 'none'")
    return Query(
        resource=resource,
        filters=parse_filters(resource, parameters.get("filters"))
        + parse_filters(resource, as_filters(resource, parameters.get("where"))),
        order=_parse_order(resource, parameters.get("order"), select),
        select=select,
        limit=min(_parse_number("limit", parameters, LIMIT_DEFAULT), items_max),
        offset=_parse_number("offset", parameters, 0),
        count=count == "exact",
        distinct=_parse_flag("distinct", parameters),
    )


def _parse_number(name: str, parameters: Mapping[str, Any], default: int) -> int:
    value = parameters.get(name)
    if value is None:
        return default
    if isinstance(value, str) and is_digits(value):
        value = int(value)
    if type(value) is not int or not 0 <= value <= INTEGER_MAX:
        raise Invalid(f"Invalid value for {name} parameter")
    return value


def _parse_flag(name: str, parameters: Mapping[str, Any]) -> bool:
    flag = as_boolean(parameters.get(name, False))
    if flag is None:
        raise Invalid(f"{name} parameter must be a boolean, true or false")
    return flag


def parse_select(resource: Resource, value: Any) -> tuple[str, ...] | None:
    """Return the attributes that parameter `select` names, None for all.

    Raises:
        Invalid: it is no list, is empty, or names an attribute that does not exist.
    """
    names = _parse_array("select", value)
    if names is None:
        return None
    if not names:
        raise Invalid("Attribute selection list cannot be empty")
    unknown = [name for name in names if not _is_name(resource, name)]
    if unknown:
        raise Invalid(f"Invalid attribute(s): {shown(unknown)}")
    return tuple(dict.fromkeys(ALIASES.get(name, name) for name in names))


def _is_name(resource: Resource, name: Any) -> bool:
    return isinstance(name, str) and ALIASES.get(name, name) in resource.attributes


def _parse_array(name: str, value: Any) -> list[Any] | None:
    """Return the array that a parameter is or spells in JSON; None for none."""
    if isinstance(value, str):
        value = _decode(name, value) if value else None
    if value is not None and not isinstance(value, list):
        raise Invalid(f'Could not parse "{name}" param as an array')
    return value


def _decode(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        raise Invalid(f'Could not parse "{name}" param as an array') from None


# -- filters ---------------------------------------------------------------------------------------


def parse_filters(resource: Resource, value: Any) -> tuple[Condition, ...]:
    """Return the conditions that parameter `filters` states.

    Raises:
        Invalid: a filter breaks the grammar or compares what cannot be compared.
    """
    elements = _parse_array("filters", value) or []
    if len(elements) > FILTERS_MAX:
        raise Invalid(f"filters must have at most {FILTERS_MAX} elements")
    return tuple(
        condition for element in elements for condition in _parse_conditions(resource, element)
    )


def _parse_conditions(resource: Resource, element: Any) -> list[Condition]:
    """Return what one filter states: one condition, or of several words one each."""
    if not isinstance(element, list):
        raise Invalid(f"Invalid element in filters array: {shown(element)} is not an array")
    if len(element) != 3:
        raise Invalid(f"Invalid element in filters array: {shown(element)} is not a triple")
    names, spelled, operand = element
    operator = spelled.lower() if isinstance(spelled, str) else ""
    if operator == FULL_TEXT:
        return _words(resource, names, operand)
    if operator in UNSERVED:
        raise Invalid(f"Operator '{operator}' is not supported: values are compared as given")
    if operator not in OPERATORS:
        raise Invalid(f"Invalid operator '{shown(spelled)}'")
    return [_parse_condition(resource, names, operator, operand)]


def _parse_condition(resource: Resource, names: Any, operator: str, operand: Any) -> Condition:
    if names == "any":
        if operator not in PATTERNS:
            raise Invalid("Attribute 'any' in a filter needs the operator like, ilike or @@")
        return tuple(_parse_term(row, operator, operand) for row in _texts(resource))
    chosen = names if isinstance(names, list) and names else [names]
    if len(chosen) > FILTERS_MAX:
        raise Invalid(f"A filter must name at most {FILTERS_MAX} attributes")
    return tuple(_parse_named(resource, name, operator, operand) for name in chosen)


def _texts(resource: Resource) -> list[Attribute]:
    return [row for row in resource.attributes.values() if row.filter_class is FilterClass.TEXT]


def _words(resource: Resource, names: Any, operand: Any) -> list[Condition]:
    """Return the conditions of a search for words: each of them is in some text, in any case."""
    if names != "any":
        raise Invalid("Full text search on individual columns is not supported")
    if isinstance(operand, list):
        raise Invalid("Full text search not supported for array operands")
    words = operand.split() if isinstance(operand, str) else []
    if not words:
        raise wrong_operand(operand, FULL_TEXT)
    if len(words) > FILTERS_MAX:
        raise Invalid(f"Full text search takes at most {FILTERS_MAX} words")
    patterns = [f"%{literal(word)}%" for word in words]
    return [_parse_condition(resource, "any", "ilike", pattern) for pattern in patterns]


def _parse_named(resource: Resource, name: Any, operator: str, operand: Any) -> Term:
    within = split_name(name) if isinstance(name, str) else None
    if within is not None:
        return _key_term(_json(resource, within[0], name), within[1], operator, operand)
    if operator == EXISTS:
        if not isinstance(operand, str):
            raise wrong_operand(operand, operator)
        return _key_term(_json(resource, name, name), operand, EXISTS, True)
    return _parse_term(_filterable(resource, name), operator, operand)


def _json(resource: Resource, name: Any, shown_name: Any) -> Attribute:
    """Return the attribute called `name`, of which keys can be filtered."""
    found = _lookup(resource, name)
    if found is None or found.kind is not Kind.OBJECT or found.column is None:
        raise Invalid(f"Invalid attribute '{shown(shown_name)}' in filter")
    return found


def _key_term(attribute: Attribute, key: str, operator: str, operand: Any) -> Term:
    value = check_operand(operator, operand)
    if operator in PATTERNS:
        _check_pattern(value)
    return Term(attribute, operator, value, key=key)


def _filterable(resource: Resource, name: Any) -> Attribute:
    found = _lookup(resource, name)
    if found is None or found.filter_class is FilterClass.NONE:
        raise Invalid(f"Invalid attribute '{shown(name)}' in filter")
    return found


def _lookup(resource: Resource, name: Any) -> Attribute | None:
    if not isinstance(name, str):
        return None
    return resource.attributes.get(ALIASES.get(name, name)) or HIDDEN.get(name)


def _parse_term(attribute: Attribute, operator: str, operand: Any) -> Term:
    if operator in COMPARISONS:
        return _comparison(attribute, operator, operand)
    if operator in MEMBERSHIPS:
        return _membership(attribute, operator, operand)
    if operator == CONTAINS and attribute.kind is Kind.LIST:
        return Term(attribute, operator, check_operand(operator, operand))
    if attribute.filter_class is not FilterClass.TEXT or operator == CONTAINS:
        raise Invalid(f"Invalid operator '{operator}' for attribute '{attribute.name}'")
    if operator == "is_a":
        return _is_a(attribute, operand)
    pattern = _as_text(attribute, operator, operand)
    _check_pattern(pattern)
    return Term(attribute, operator, pattern)


def _check_pattern(pattern: str) -> None:
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise Invalid(f"A pattern must have at most {PATTERN_CHARACTERS_MAX} characters")


def _comparison(attribute: Attribute, operator: str, operand: Any) -> Term:
    if operand is None:
        if operator not in ("=", "!="):
            raise wrong_operand(operand, operator)
        return Term(attribute, operator, None)
    if attribute.filter_class is FilterClass.BOOLEAN and operator not in ("=", "!="):
        raise Invalid(f"Invalid operator '{operator}' for boolean attribute '{attribute.name}'")
    value = _CONVERSIONS[attribute.filter_class](attribute, operator, operand)
    # A JSON boolean is compared as SQL compares: null is neither equal nor different. Arvados does
    # so, and clients count what they get.
    nulls = operator == "!=" and not isinstance(operand, bool)
    return Term(attribute, operator, value, nulls)


def _membership(attribute: Attribute, operator: str, operand: Any) -> Term:
    if not isinstance(operand, list):
        raise wrong_operand(operand, operator)
    convert = _CONVERSIONS[attribute.filter_class]
    values = tuple(convert(attribute, operator, item) for item in operand if item is not None)
    if operator == "in":
        return Term(attribute, operator, values)
    if None in operand:
        # Nothing is known to differ from null: such a list excludes every row.
        return Term(attribute, "in", ())
    return Term(attribute, operator, values, nulls=True)


def _is_a(attribute: Attribute, operand: Any) -> Term:
    kinds = operand if isinstance(operand, list) else [operand]
    if not all(isinstance(kind, str) for kind in kinds):
        raise wrong_operand(operand, "is_a")
    return Term(attribute, "is_a", tuple(KINDS[kind] for kind in kinds if kind in KINDS))


def _as_text(attribute: Attribute, operator: str, operand: Any) -> str:
    if not isinstance(operand, str):
        raise wrong_operand(operand, operator)
    return operand


def _as_integer(attribute: Attribute, operator: str, operand: Any) -> int:
    value = int(operand) if isinstance(operand, str) and is_digits(operand) else operand
    if type(value) is not int or not INTEGER_MIN <= value <= INTEGER_MAX:
        raise Invalid(
            f"Invalid operand '{shown(operand)}' for integer attribute '{attribute.name}'"
        )
    return value


def _as_boolean(attribute: Attribute, operator: str, operand: Any) -> bool:
    if isinstance(operand, bool):
        return operand
    if isinstance(operand, str) and operand.lower() in TRUE_WORDS | FALSE_WORDS:
        return operand.lower() in TRUE_WORDS
    raise Invalid(f"Invalid operand '{shown(operand)}' for boolean attribute '{attribute.name}'")


def _as_time(attribute: Attribute, operator: str, operand: Any) -> int:
    if not isinstance(operand, str):
        raise wrong_operand(operand, operator)
    try:
        return parse_time(operand)
    except (ValueError, OverflowError):
        raise Invalid(
            f"Invalid operand '{shown(operand)}' for attribute '{attribute.name}'"
        ) from None


_CONVERSIONS: Mapping[FilterClass, Callable[[Attribute, str, Any], Any]] = {
    FilterClass.TEXT: _as_text,
    FilterClass.INTEGER: _as_integer,
    FilterClass.BOOLEAN: _as_boolean,
    FilterClass.DATETIME: _as_time,
}


# -- order -----------------------------------------------------------------------------------------


def _parse_order(
    resource: Resource, value: Any, select: tuple[str, ...] | None
) -> tuple[Order, ...]:
    """Return the sort keys; unknown names are dropped, and so are keys that are not selected."""
    keys = [_parse_key(resource, item) for item in _order_items(value)]
    if not keys and resource.name in ("job_tasks", "logs"):
        # The newest arrivals first: nothing is sorted, however many tasks there are.
        return (Order(HIDDEN["id"], True),)
    keys.append(Order(resource.attributes["modified_at"], True))
    keys.append(Order(resource.attributes["uuid"], False))
    found: dict[str, Order] = {}
    for key in keys:
        if key is None or (select is not None and key.attribute.name not in select):
            continue
        found.setdefault(key.attribute.name, key)
        if key.attribute.name in ("id", "uuid"):
            break
    return tuple(found.values())


def _order_items(value: Any) -> list[Any]:
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return value.split(",") if value else []
    return _parse_array("order", value) or []


def _parse_key(resource: Resource, item: Any) -> Order | None:
    words = item.split() if isinstance(item, str) else []
    if not words:
        raise Invalid(f"Invalid element in order: {shown(item)}")
    table, _, name = words[0].rpartition(".")
    direction = "".join(words[1:]).lower()
    attribute = _lookup(resource, name)
    if attribute is None or attribute.column is None or table not in ("", resource.name):
        return None
    return Order(attribute, direction == "desc") if direction in ("", "asc", "desc") else None
