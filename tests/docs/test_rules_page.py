"""The page of rules says which hold; each of those has a test that names it."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "rules.md"


@functools.cache
def rules_named_by_tests() -> set[str]:
    """Return the rules in every ``@pytest.mark.rule(...)`` of the suite."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "rule"
            ):
                found |= {arg.value for arg in node.args if isinstance(arg, ast.Constant)}  # type: ignore[misc]
    return found


def kept_rules() -> set[str]:
    """Return the rules that the page says are kept."""
    text = PAGE.read_text().split("## What holds today")[1].split("In part:")[0]
    return set(re.findall(r"\bR\d+b?\b", text))


def stated_rules() -> set[str]:
    """Return the rules that the page states."""
    return set(re.findall(r"^- \*\*(R\d+b?)[ .*]", PAGE.read_text(), re.MULTILINE))


def test_every_kept_rule_has_a_test() -> None:
    """A promise without a test is not in the documentation."""
    assert len(kept_rules()) > 20
    assert kept_rules() - rules_named_by_tests() == set()


def test_tests_name_rules_that_exist() -> None:
    """A test cannot name a rule that nobody stated."""
    assert rules_named_by_tests() - stated_rules() == set()


def test_every_rule_is_accounted_for() -> None:
    """A rule is kept, kept in part, or said to be missing."""
    status = PAGE.read_text().split("## What holds today")[1]
    assert stated_rules() - set(re.findall(r"\bR\d+b?\b", status)) == set()
