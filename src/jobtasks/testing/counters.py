"""Counters counted again from rows, and what must hold between rows whatever happened."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from jobtasks.store.base import Tx
from jobtasks.store.statements import Statement, parse_statements


@cache
def load_problems() -> dict[str, Statement]:
    """Return the statements of counters.sql by name: each finds what must not exist."""
    text = files("jobtasks.testing").joinpath("counters.sql").read_text(encoding="utf-8")
    return dict(parse_statements(text))


def counter_problems(tx: Tx) -> dict[str, list[tuple[Any, ...]]]:
    """Return every disagreement between counters and rows, and between rows; {} when sound."""
    found = {name: tx.text(problem.sql, {}) for name, problem in load_problems().items()}
    return {name: rows for name, rows in found.items() if rows}
