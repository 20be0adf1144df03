"""The order of lists as Arvados' own tests ask for it; what it does is in tests/store."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES


def order(asked: Any, resource: str = "jobs") -> list[str]:
    """Return the sort keys that an order comes to."""
    keys = parse_query(RESOURCES[resource], {"order": asked}, 1000).order
    return [f"{key.attribute.name} {'desc' if key.descending else 'asc'}" for key in keys]


@pytest.mark.rule("R41")
def test_case_9_90_nothing_is_added_to_an_unambiguous_order() -> None:
    """No two rows have one id, or one uuid."""
    assert order(["id asc"]) == ["id asc"]
    assert order("uuid desc") == ["uuid desc"]


@pytest.mark.rule("R41")
def test_case_9_91_an_ambiguous_order_is_completed() -> None:
    """By what changed last, then by uuid."""
    for resource in ("jobs", "job_tasks"):
        assert order(["created_at asc"], resource) == [
            "created_at asc",
            "modified_at desc",
            "uuid asc",
        ]
    assert order(None) == ["modified_at desc", "uuid asc"]


@pytest.mark.rule("R41")
def test_case_9_92_93_no_key_stands_twice() -> None:
    """Neither one that the client gave and we would add, nor one that it repeats."""
    assert order(["modified_at asc"]) == ["modified_at asc", "uuid asc"]
    assert order(["priority asc", "modified_at desc", "priority desc"]) == [
        "priority asc",
        "modified_at desc",
        "uuid asc",
    ]


@pytest.mark.rule("R41")
def test_case_9_94_nothing_follows_a_unique_key() -> None:
    """It could change nothing."""
    assert order("jobs.modified_at, uuid desc, priority, created_at") == [
        "modified_at asc",
        "uuid desc",
    ]
    assert order(["id desc", "uuid"]) == ["id desc"]
