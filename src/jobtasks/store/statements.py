"""Loads the named statements of queries/*.sql and the numbered migrations.

A statement begins with ``-- name: what it is for`` and ends with a semicolon at the end of a line.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import NamedTuple

HEADER = re.compile(r"^-- (\w+): (.+)$")


class Statement(NamedTuple):
    """One named statement."""

    purpose: str
    sql: str


@cache
def load_statements() -> dict[str, Statement]:
    """Return every statement by name; two of one name are an error."""
    found: dict[str, Statement] = {}
    for file in sorted(files("jobtasks.store").joinpath("queries").iterdir(), key=str):
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
def load_migrations() -> list[tuple[int, str]]:
    """Return (number, script) of every migration, in order."""
    folder = files("jobtasks.store").joinpath("migrations")
    scripts = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [
        (int(name.split("_")[0]), folder.joinpath(name).read_text(encoding="utf-8"))
        for name in scripts
    ]
