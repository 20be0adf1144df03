"""docs/reference/limits.md names every limit, and says of fixed ones what they are."""

from __future__ import annotations

import dataclasses
import re

import pytest
from tests.docs.pages import ROOT

from jobtasks.agent import environment, warm
from jobtasks.core import filters, job_stream, notifying, resources, scopes, timeline
from jobtasks.core.families import RAM_FACTOR_MAX
from jobtasks.core.settings import Settings
from jobtasks.protocol import messages
from jobtasks.service import (
    arrivals,
    cancelling,
    creation,
    families,
    idempotency,
    steering,
    timelines,
    tree,
)

PAGE = (ROOT / "docs" / "reference" / "limits.md").read_text()
TIMES = {"head_seconds", "body_seconds", "answer_seconds", "wait_seconds_max", "turn_seconds"}
"""Settings that limit how long a request may take; other times are how things are done."""


def rows() -> list[str]:
    return [line for line in PAGE.splitlines() if line.startswith("| ") and "| limit |" not in line]


@pytest.mark.rule("R40")
def test_every_limit_is_on_the_page() -> None:
    """Each setting that limits a size or a number, and no other; each says what is past it."""
    fields = {field.name for field in dataclasses.fields(Settings)}
    sizes = {name for name in fields if name.endswith("_max") and "seconds" not in name}
    # How often things are tried is a budget, and no limit of what users give (R14).
    budgets = {"start_nodes_max"} | {name for name in sizes if name.startswith("attempts_")}
    named = {name for row in rows() for name in re.findall(r"`(\w+)`", row.split("|")[1])}
    assert named == (sizes - budgets) | TIMES
    assert all(cell.strip() for row in rows() for cell in row.split("|")[1:-1])


@pytest.mark.rule("R40")
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("| 64 KiB | `failed_log`", messages.STDERR_TAIL_BYTES_MAX / 1024),
        ("| 255 characters |", resources.STRING_CHARACTERS_MAX),
        ("| 255 characters |", idempotency.KEY_CHARACTERS_MAX),
        ("| 32 KiB,", environment.VALUE_BYTES_MAX / 1024),
        ("256 KiB | one parameter", environment.PARAMETERS_BYTES_MAX / 1024),
        ("| 10,000 jobs |", cancelling.CASCADE_MAX),
        ("| 40 times", job_stream.line_bytes_max(1)),
        ("| 60 s | without anything of an import", arrivals.SILENT_SECONDS),
        ("| 4 | [fork servers]", warm.SERVERS_MAX),
        ("| 120 s | a fork", warm.IMPORT_SECONDS_MAX),
        ("| 16 KiB | a warm", warm.ROOM_BYTES / 1024),
        ("| 100 | filters", filters.FILTERS_MAX),
        ("| 10,000 characters | a pattern", filters.PATTERN_CHARACTERS_MAX),
        ("| 100, 1,000 characters |", scopes.SCOPES_MAX),
        ("1,000 characters | scopes", scopes.SCOPE_CHARACTERS_MAX),
        ("| 2,000 characters |", notifying.ADDRESS_CHARACTERS_MAX),
        ("| 366 days |", steering.HOLD_SECONDS_MAX / 86400),
        ("| 200 | families", families.FAMILIES_MAX),
        ("| 64 | `ram_factor`", RAM_FACTOR_MAX),
        ("| 3,000 attempts |", timelines.BARS_MAX),
        ("10,000 |\n| 1,000 columns", timeline.CELLS_MAX),
        ("| 1,000 columns |", timelines.COLUMNS_MAX),
        ("| 1,000 pairs", tree.BRANCHES_MAX),
        ("| 10,000 children |", tree.COUNTED_MAX),
    ],
)
def test_fixed_limits_are_those_of_the_program(text: str, value: float) -> None:
    """The first number of the words."""
    assert text in PAGE
    number = re.search(r"[\d,]*\d", text)
    assert number is not None
    assert int(number[0].replace(",", "")) == value


def test_integers_have_the_size_that_the_page_says() -> None:
    """Powers of two."""
    assert "| 2³¹ − 1 | `sequence` |" in PAGE
    assert creation.SEQUENCE_MAX == 2**31 - 1
    assert "| 2⁶³ − 1 | integer attributes" in PAGE
    assert resources.INTEGER_MAX == 2**63 - 1
