"""docs/explanation/arvados-compatibility.md accounts for every case; none is left out silently."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "explanation" / "arvados-compatibility.md").read_text()
CASES = ROOT / "tests" / "clients" / "cases.txt"
TEST = re.compile(r"^def test_case_9((?:_\d+)+)_[a-z]", re.MULTILINE)


def known() -> dict[int, str]:
    """Return the cases by number."""
    lines = [line for line in CASES.read_text().splitlines() if not line.startswith("#")]
    return {int(number): text for number, _, text in (line.partition(" ") for line in lines)}


def cases_with_tests() -> set[int]:
    """Return the cases that a test's name gives."""
    names = [
        found
        for path in (ROOT / "tests").rglob("test_*.py")
        for found in TEST.findall(path.read_text())
    ]
    return {int(number) for name in names for number in name.split("_")[1:]}


def told(title: str) -> set[int]:
    """Return the cases in the last column of a section's table."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [line.split("|") for line in section.splitlines() if line.startswith("| ")]
    numbers: set[int] = set()
    for cells in rows[1:]:
        assert len(cells) > 3, cells
        assert all(cell.strip() for cell in cells[1:-2]), cells
        for first, last in re.findall(r"(\d+)(?:–(\d+))?", cells[-2]):
            numbers |= set(range(int(first), int(last or first) + 1))
    return numbers


@pytest.mark.rule("R43")
def test_every_case_has_a_test_or_a_word() -> None:
    """A test runs it, or the page says how we differ, or that nothing proves it."""
    cases = known()
    assert list(cases) == list(range(1, len(cases) + 1))
    accounted = cases_with_tests() | told("What is different") | told("What no test of ours runs")
    missing = {number: text for number, text in cases.items() if number not in accounted}
    assert not missing
    assert accounted <= cases.keys(), "no such case"


@pytest.mark.rule("R43")
def test_what_is_called_unproven_has_no_test() -> None:
    """Whoever adds the test takes the number off the page."""
    assert not cases_with_tests() & told("What no test of ours runs")
