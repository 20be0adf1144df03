"""What the interface says of itself to machines, twice, is one and the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.docs.test_api_page import routes

from jobtasks.api.collection import BASE
from jobtasks.api.discovery import describe
from jobtasks.api.openapi import describe as describe_for_openapi
from jobtasks.api.schemas import name_of
from jobtasks.core.resources import RESOURCES

PUBLISHED = describe(routes())
OPENAPI = describe_for_openapi(routes())


def methods() -> Iterator[dict[str, Any]]:
    for entry in PUBLISHED["resources"].values():
        yield from entry["methods"].values()


@pytest.mark.rule("R42")
def test_discovery_and_openapi_and_the_table_say_the_same() -> None:
    """The same resources with the same attributes, and the same calls with the same parameters."""
    for resource in RESOURCES.values():
        name = name_of(resource)
        attributes = set(resource.attributes)
        assert set(PUBLISHED["schemas"][name]["properties"]) == attributes
        assert set(OPENAPI["components"]["schemas"][name]["properties"]) == attributes
    there = {
        (verb.upper(), path): operation
        for path, item in OPENAPI["paths"].items()
        for verb, operation in item.items()
        if path.removeprefix(f"{BASE}/").split("/")[0] in RESOURCES and verb != "patch"
        if "application/json" in operation["responses"]["200"]["content"]
        if "application/json" in operation.get("requestBody", {}).get("content", "application/json")
    }
    published = {(row["httpMethod"], f"{BASE}/{row['path']}"): row for row in methods()}
    assert published.keys() == there.keys()
    for call, row in published.items():
        given = {item["name"] for item in there[call]["parameters"] if item["in"] != "header"}
        assert set(row["parameters"]) == given, call
        assert ("request" in row) == ("requestBody" in there[call]), call
