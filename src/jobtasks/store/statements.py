"""Loads the named statements of queries/*.sql and the numbered migrations.

A statement begins with ``-- name: what it is for`` and ends with a semicolon at the end of a line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from operator import itemgetter
from typing import NamedTuple

from jobtasks.store.base import Values

ROWS_PER_STATEMENT = 400
"""Rows that one insert of many adds; of 9 columns, far from the 32,766 values that SQLite takes."""
ONE_ROW = re.compile(r"VALUES (\([?%s, ]+\))$")
PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z]\w*)")
HEADER = re.compile(r"^-- (\w+): (.+)$")


class Statement(NamedTuple):
    """One named statement."""

    purpose: str
    sql: str


@cache
def load_statements(dialect: str = "") -> dict[str, Statement]:
    """Return every statement by name; two of one name are an error.

    `dialect` "postgres": those alone that have a second form for PostgreSQL.
    """
    found: dict[str, Statement] = {}
    for file in _scripts("queries", dialect):
        for name, statement in parse_statements(file.read_text(encoding="utf-8")):
            if name in found:
                raise ValueError(f"two statements are named {name}")
            found[name] = statement
    return found


def parse_statements(text: str) -> list[tuple[str, Statement]]:
    """Return (name, statement) for each statement of one file, in order."""
    found: list[tuple[str, Statement]] = []
    name, purpose, lines = "", "", list[str]()
    for line in text.splitlines():
        if header := HEADER.match(line):
            name, purpose, lines = header[1], header[2], []
        elif name:
            lines.append(line)
            if line.rstrip().endswith(";"):
                found.append((name, Statement(purpose, "\n".join(lines).strip().rstrip(";"))))
                name = ""
    return found


@cache
def load_migrations(dialect: str = "") -> list[tuple[int, str]]:
    """Return (number, script) of every migration, in order; `dialect` as `load_statements`."""
    return [
        (int(file.name.split("_")[0]), file.read_text(encoding="utf-8"))
        for file in _scripts("migrations", dialect)
    ]


def _scripts(*folders: str) -> list[Traversable]:
    """Return the SQL files of a folder of this package, by name."""
    folder = files("jobtasks.store").joinpath(*filter(None, folders))
    found = [file for file in folder.iterdir() if file.name.endswith(".sql")]
    return sorted(found, key=lambda file: file.name)


@cache
def of_many_rows(sql: str) -> str:
    """Return an insert of one row, given by position, as one of `ROWS_PER_STATEMENT` rows."""
    row = ONE_ROW.search(sql)
    assert row is not None, f"no insert of one row by position: {sql}"
    return sql + f", {row[1]}" * (ROWS_PER_STATEMENT - 1)


class Placed(NamedTuple):
    """A statement whose values are given by position."""

    sql: str
    values_of: Callable[[Values], Values]
    """Return the values in their order."""


@cache
def by_place(sql: str) -> Placed:
    """Return a statement for many executions: a name is looked for once, not for each of them."""
    names = list(dict.fromkeys(PLACEHOLDER.findall(sql)))
    if not names:
        return Placed(sql, lambda values: values)
    places = {name: f"?{place}" for place, name in enumerate(names, 1)}
    numbered = PLACEHOLDER.sub(lambda found: places[found[1]], sql)
    if len(names) == 1:
        # Of one name `itemgetter` returns the value itself.
        return Placed(numbered, lambda values: (values[names[0]],))
    return Placed(numbered, itemgetter(*names))
