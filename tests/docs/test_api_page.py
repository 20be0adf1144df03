"""docs/reference/api.md names what there is, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.routing import Route

from jobtasks.api.app import routes_of
from jobtasks.api.edge import Edge
from jobtasks.core.filters import OPERATORS
from jobtasks.core.resources import RESOURCES
from jobtasks.core.settings import Settings

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "reference" / "api.md").read_text()


def section(title: str) -> str:
    """Return the text under one heading."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


class _World:
    settings = Settings()


class _Edge:
    world = _World()


def routes() -> list[Route]:
    return routes_of(cast(Edge, cast(Any, _Edge())))


@pytest.mark.rule("R41")
def test_every_call_is_on_the_page() -> None:
    """Each address with each of its methods."""
    methods = {(method, route.path) for route in routes() for method in route.methods or ()}
    wanted = {call for call in methods if call[0] != "HEAD"}
    assert calls_of_page() == wanted


def calls_of_page() -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for line in PAGE.splitlines():
        if not line.startswith("| `"):
            continue
        cell = line.split("|")[1]
        for methods, path in re.findall(r"((?:`?[A-Z]+`? or )?`?[A-Z]+) (/[\w/{}.]+)`", cell):
            found |= {(method, path) for method in re.findall(r"[A-Z]+", methods)}
    return found


@pytest.mark.rule("R42")
@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Jobs", "jobs"),
        ("Job tasks", "job_tasks"),
        ("Users", "users"),
        ("Tokens", "api_client_authorizations"),
        ("Nodes", "nodes"),
    ],
)
def test_every_attribute_is_on_the_page(title: str, name: str) -> None:
    """Each attribute of the table; in italics what belongs to the server alone."""
    text = section(title).split("| attribute |")[1]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    named = dict.fromkeys(re.findall(r"`(\w+)`", " ".join(cells)), False)
    named |= dict.fromkeys(re.findall(r"\*`(\w+)`\*", " ".join(cells)), True)
    table = {
        row.name: not (row.create or row.update) for row in RESOURCES[name].attributes.values()
    }
    assert named == table


def test_every_operator_is_on_the_page() -> None:
    """Each operator that a filter may have."""
    rows = [line for line in section("Lists").splitlines() if line.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert named >= OPERATORS


def test_limits_are_those_of_the_settings() -> None:
    """The numbers in the text."""
    settings = Settings()
    assert f"{settings.body_bytes_max // 2**20} MiB" in PAGE
    assert f"{settings.bulk_body_bytes_max // 2**20} MiB" in PAGE
    assert f"{settings.bulk_tasks_max:,} tasks" in PAGE
    assert f"nested at most {settings.depth_max} deep" in PAGE
    assert f"at most {settings.wait_seconds_max:g}" in PAGE
    assert f"at most {settings.list_items_max}" in PAGE


def test_every_metric_is_on_the_page() -> None:
    """Each family that the source names, and no other."""
    source = (Path(__file__).resolve().parents[2] / "src/jobtasks/api/metrics.py").read_text()
    names = set(re.findall(r'"(jobtasks_\w+)"', source))
    assert set(re.findall(r"`(jobtasks_\w+)`", section("Metrics"))) == names


def test_limits_of_requests_are_those_of_the_settings() -> None:
    """Sizes, times and numbers in the text."""
    settings = Settings()
    assert f"at most {settings.head_bytes_max // 2**10} KiB and {settings.headers_max} head" in PAGE
    assert f"{settings.form_bytes_max // 2**20} MiB and {settings.form_fields_max:,} fields" in PAGE
    text = " ".join(PAGE.split())
    assert f"arrive within {settings.head_seconds:g} s, a body within" in text
    assert f"a body within {settings.body_seconds:g} s" in text
    assert f"{settings.requests_open_max:,} requests may be under way" in PAGE
