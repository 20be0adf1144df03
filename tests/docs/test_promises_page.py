"""docs/explanation/promises.md is made of its figures, and of every rig that there is."""

from __future__ import annotations

import ast
import functools
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.docs.pages import ROOT
from tests.docs.test_rules_page import stated_rules
from tests.promises import (
    DAYS_MAX,
    PAGE,
    ROWS,
    Rig,
    Row,
    collect,
    last_run,
    page,
    read_records,
    rigs,
)

NAMES = [row.name for row in ROWS]
ROW = Row("a row", "A promise.", ("R1",), "tries")
LAST: dict[str, Any] = {
    "date": "2026-01-31",
    "passed": True,
    "seconds": 119.7,
    "cores": 2,
    "python": "3.11.2",
    "figures": {"rounds": 1500, "wanted": 10_000, "lost_tasks": 0},
}
SAID = "2026-01-31: 1,500 of 10,000 tries; lost tasks 0, in 120 s on 2 cores, Python 3.11.2"


@functools.cache
def known_rigs() -> dict[str, Rig]:
    """Return every rig; to read all tests for it takes long."""
    return rigs()


def test_the_page_is_made_of_the_figures() -> None:
    """``python -m tests.torture --page`` would change nothing."""
    assert PAGE.read_text() == page(read_records())


def test_every_rig_is_in_the_table_and_the_other_way_round() -> None:
    """Names in ``rounds(...)`` and ``note(...)`` are those of the rows."""
    assert len(set(NAMES)) == len(NAMES)
    assert set(known_rigs()) == set(NAMES)
    assert list(read_records()["rows"]) == NAMES


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_recorded_of_a_rig_is_so(row: Row) -> None:
    """Where it is, and how far it goes small and large."""
    facts = known_rigs()[row.name].facts()
    recorded = read_records()["rows"][row.name]
    assert {name: recorded[name] for name in facts} == facts


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_has_tests_that_name_its_rules(row: Row) -> None:
    """Its targets are tests that there are, and each rule stands at one of them."""
    assert set(row.rules) <= stated_rules()
    named: set[str] = set()
    for target in known_rigs()[row.name].targets:
        path, _, test = target.partition("::")
        assert Path(path).name.startswith("test_"), target
        for node in ast.parse((ROOT / path).read_text()).body:
            if isinstance(node, ast.FunctionDef) and test in ("", node.name):
                named |= rules_at(node)
    assert set(row.rules) <= named


def rules_at(test: ast.FunctionDef) -> set[str]:
    """Return the rules that a test's marks name."""
    calls = [one for one in test.decorator_list if isinstance(one, ast.Call)]
    marks = [one for one in calls if ast.unparse(one.func) == "pytest.mark.rule"]
    return {str(ast.literal_eval(argument)) for mark in marks for argument in mark.args}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_promise_is_a_sentence(row: Row) -> None:
    """With an end, and nothing that would break the table."""
    assert row.promise[0].isupper()
    assert row.promise.endswith(".")
    assert "|" not in row.promise


def test_a_figure_is_said_with_its_day() -> None:
    """Reached and wanted, and what else was counted."""
    day = date.fromisoformat(LAST["date"])
    assert last_run(ROW, LAST, day + timedelta(days=DAYS_MAX)) == SAID
    whole = {**LAST, "figures": {"rounds": 30, "wanted": 30}}
    assert "2026-01-31: 30 tries, in" in last_run(ROW, whole, day)


def test_what_is_missing_failed_or_old_is_unproven() -> None:
    """Each says why."""
    day = date.fromisoformat(LAST["date"])
    assert last_run(ROW, None, day) == "*unproven*: no long run yet"
    assert last_run(ROW, {**LAST, "passed": False}, day) == "*unproven*: failed on 2026-01-31"
    late = day + timedelta(days=DAYS_MAX + 1)
    assert last_run(ROW, LAST, late) == f"*unproven*: last on {SAID}"


def test_figures_of_several_processes_are_put_together() -> None:
    """Added up, or the largest where the name says so; those of other rows are not."""
    lines = [
        '{"row": "a row", "figures": {"rounds": 2, "wait_seconds_max": 0.5, "longest_wait": 3}}',
        '{"row": "another", "figures": {"rounds": 7}}',
        '{"row": "a row", "figures": {"rounds": 3, "wait_seconds_max": 0.25, "longest_wait": 4}}',
    ]
    expected = {"rounds": 5, "wait_seconds_max": 0.5, "longest_wait": 4}
    assert collect(lines, "a row") == expected


def test_rigs_are_found_in_their_source(tmp_path: Path) -> None:
    """By literal, by constant, by names that a module hands on; other functions are none."""
    (tmp_path / "test_one.py").write_text(
        "from tests.rounds import note, rounds\n"
        "LARGE = 7\nKINDS = ('a', 'b')\n"
        "def test_a():\n    for n in rounds('clocks', len(KINDS), LARGE): pass\n"
        "def test_b():\n    for n in rounds('clocks', large=1, small=1): pass\n"
        "    note('late attempts', n=1)\n"
        "def test_d():\n    for n in rounds('disk full', 3, 10 * len(KINDS)): pass\n"
        "def test_e():\n    for n in rounds('orphan zoo', f(), 10): pass\n"
        "def helper(row):\n    for n in rounds(row, 3, 4): pass\n"
        "def test_c():\n    helper('two managers')\n"
    )
    (tmp_path / "test_two.py").write_text("def note(x): pass\nnote('start')\n")
    found = rigs(tmp_path)
    one = str(tmp_path / "test_one.py")
    assert found["late attempts"].targets == [f"{one}::test_b"]
    assert found["clocks"].facts() == {
        "targets": [f"{one}::test_a", f"{one}::test_b"], "small": 3, "large": 8,
    }  # fmt: skip
    assert found["two managers"].facts() == {
        "targets": [f"{one}::test_c"], "small": 3, "large": 4,
    }  # fmt: skip
    assert (found["disk full"].small, found["disk full"].large) == (3, 20)
    assert (found["orphan zoo"].small, found["orphan zoo"].large) == (None, 10)
