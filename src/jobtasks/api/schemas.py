"""JSON schemas of records, lists and errors, from the table of resources."""

from __future__ import annotations

from typing import Any

from jobtasks.core.errors import error_codes
from jobtasks.core.resources import (
    INTEGER_MAX,
    INTEGER_MIN,
    STRING_CHARACTERS_MAX,
    Attribute,
    Kind,
    Resource,
)

Json = dict[str, Any]
TYPES: dict[Kind, list[str]] = {
    Kind.STRING: ["string", "null"],
    Kind.TEXT: ["string", "null"],
    Kind.INTEGER: ["integer", "null"],
    Kind.FLOAT: ["number", "null"],
    Kind.BOOLEAN: ["boolean", "null"],
    Kind.OBJECT: ["object"],
    Kind.LIST: ["array", "null"],
    Kind.DATETIME: ["string", "null"],
}
TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
NULLABLE_TEXT: Json = {"type": ["string", "null"]}
NULLABLE_COUNT: Json = {"type": ["integer", "null"]}
ERROR: Json = {
    "type": "object",
    "properties": {
        "errors": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1},
        "code": {"enum": sorted(error_codes())},
        "error_token": {"type": "string", "pattern": r"^[0-9]+\+[0-9a-f]{8}$"},
    },
    "required": ["errors", "code", "error_token"],
    "additionalProperties": False,
}


def name_of(resource: Resource) -> str:
    """Return a resource's name among the schemas: ``JobTask``."""
    return "".join(word.title() for word in resource.singular.split("_"))


def reference(resource: Resource, suffix: str = "") -> Json:
    """Return what stands for a resource's schema."""
    return {"$ref": f"#/components/schemas/{name_of(resource)}{suffix}"}


def value(attribute: Attribute) -> Json:
    """Return the schema of an attribute's values."""
    schema: Json = {"type": TYPES[attribute.kind]}
    if attribute.kind is Kind.STRING:
        schema["maxLength"] = STRING_CHARACTERS_MAX
    elif attribute.kind is Kind.DATETIME:
        schema["format"] = "date-time"
    elif attribute.kind is Kind.INTEGER:
        schema |= {"minimum": INTEGER_MIN, "maximum": INTEGER_MAX}
    elif attribute.kind is Kind.LIST:
        schema["items"] = TEXT
    if not (attribute.create or attribute.update):
        schema["readOnly"] = True
    return schema


def record(resource: Resource) -> Json:
    """Return the schema of a record in an answer; `select` may leave all but the kind out."""
    properties = {name: value(row) for name, row in resource.attributes.items()}
    properties["kind"] = {"const": resource.kind}
    return {
        "type": "object",
        "properties": properties,
        "required": ["kind"],
        "additionalProperties": False,
    }


def page(resource: Resource) -> Json:
    """Return the schema of one page of a list."""
    properties: Json = {
        "kind": {"const": f"{resource.kind}List"},
        "etag": TEXT,
        "self_link": TEXT,
        "offset": COUNT,
        "limit": COUNT,
        "items": {"type": "array", "items": reference(resource)},
        "items_available": COUNT,
    }
    required = [name for name in properties if name != "items_available"]
    return {"type": "object", "properties": properties, "required": required}


def given(resource: Resource, *, create: bool) -> Json:
    """Return the schema of a body that brings one record, flat or wrapped."""
    properties = {
        name: {key: item for key, item in value(row).items() if key != "readOnly"}
        for name, row in resource.attributes.items()
        if (row.create if create else row.update) or row.foreign
    }
    flat: Json = {"type": "object", "properties": properties}
    closed: Json = {**flat, "additionalProperties": False}
    wrapped: Json = {
        "type": "object",
        "properties": {resource.singular: {"anyOf": [closed, TEXT]}},
        "required": [resource.singular],
    }
    return {"anyOf": [wrapped, flat]}


def many(resource: Resource) -> Json:
    """Return the schema of a body that brings many records."""
    single = given(resource, create=True)["anyOf"][1]
    items = {"type": "array", "items": {**single, "additionalProperties": False}, "minItems": 1}
    return {
        "type": "object",
        "properties": {resource.name: items},
        "required": [resource.name],
    }


def flat(**properties: Json) -> Json:
    """Return the schema of an object with these properties, all of them and no other."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def items(**properties: Json) -> Json:
    """Return the schema of an answer that lists objects with these properties, all of them."""
    return flat(items={"type": "array", "items": flat(**properties)})


def query(name: str, schema: Json, text: str) -> Json:
    """Return the description of a parameter of the address."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": text}
