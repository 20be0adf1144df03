"""Statements that find what must not exist in a database (checks.sql)."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jobtasks.store.statements import Statement, parse_statements


@cache
def load_checks() -> dict[str, Statement]:
    """Return the statements of checks.sql by name: each finds one kind of contradiction."""
    text = files("jobtasks.store").joinpath("checks.sql").read_text(encoding="utf-8")
    return dict(parse_statements(text))
