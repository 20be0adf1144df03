"""Statements beside those of the service: what must not exist (checks.sql), what tests look at."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from jobtasks.store.statements import Statement, parse_statements


@cache
def load_checks() -> dict[str, Statement]:
    """Return the statements of checks.sql by name: each finds one kind of contradiction."""
    return _load("checks.sql")


@cache
def second_forms() -> dict[str, str]:
    """Return what PostgreSQL is asked in place of statements of checks.sql, by their texts."""
    checks = load_checks()
    return {checks[name].sql: form.sql for name, form in _load("checks_postgres.sql").items()}


@cache
def load_looks() -> dict[str, Statement]:
    """Return the statements of looks.sql by name: what simulations compare with promises."""
    return _load("looks.sql")


def _load(name: str) -> dict[str, Statement]:
    text = files("jobtasks.store").joinpath(name).read_text(encoding="utf-8")
    return dict(parse_statements(text))
