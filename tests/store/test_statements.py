"""Every statement has a name, a purpose and a user; none reads a large table from end to end."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobtasks.store.statements import load_migrations, load_statements, parse_statements

SOURCES = Path(__file__).resolve().parents[2] / "src" / "jobtasks"
STATEMENTS = load_statements()
LARGE = {"task", "attempt", "batch", "level", "lane", "requeue", "job", "tail", "tally", "shape"}
"""Tables that grow with what users do."""
WHOLE = {
    "census_jobs": "counts for monitoring, over an index",
    "census_tasks": "counts for monitoring, one row a job",
    "logs_left_behind": "every job, once, when a backup without logs is restored",
}
"""Statements that may read a large table from end to end, and why."""


@pytest.fixture(scope="module")
def connection() -> Iterator[sqlite3.Connection]:
    """An empty database with the schema."""
    connection = sqlite3.connect(":memory:")
    for _, script in load_migrations():
        connection.executescript(script)
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, sql: str) -> list[str]:
    """Return the steps of a statement's plan, every value bound to 1."""
    names = set(re.findall(r"(?<!:):(\w+)", sql))
    values = dict.fromkeys(names, 1) if names else [1] * sql.count("?")
    return [str(row[3]) for row in connection.execute("EXPLAIN QUERY PLAN " + sql, values)]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_sound(connection: sqlite3.Connection, name: str) -> None:
    """It has a purpose and can be planned: its tables, columns and indices exist."""
    assert len(STATEMENTS[name].purpose) > 5
    plan(connection, STATEMENTS[name].sql)


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_reads_a_whole_table(connection: sqlite3.Connection, name: str) -> None:
    """What grows with use is searched, not scanned, but over a partial index, which stays small."""
    steps = plan(connection, STATEMENTS[name].sql)
    scanned = {step for step in steps if is_whole_table(connection, STATEMENTS[name].sql, step)}
    assert bool(scanned) == (name in WHOLE), steps


PER_TASK = ["task_start", "attempt_add", "attempt_running", "task_finish", "attempt_end"]
"""Executed for each task that starts or ends."""


@pytest.mark.parametrize("name", PER_TASK)
def test_a_write_of_one_row_makes_no_table(connection: sqlite3.Connection, name: str) -> None:
    """As a CHECK with more than two values in a list does, for each row."""
    sql = STATEMENTS[name].sql
    values = dict.fromkeys(re.findall(r"(?<!:):(\w+)", sql), 1)
    steps = [row[1] for row in connection.execute("EXPLAIN " + sql, values)]
    assert "OpenWrite" in steps
    assert "OpenEphemeral" not in steps


def is_whole_table(connection: sqlite3.Connection, sql: str, step: str) -> bool:
    """Return whether a step of a plan reads a large table from end to end."""
    match = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", step)
    if match is None or "VIRTUAL TABLE" in step:
        return False
    alias = re.search(rf"(\w+) AS {match[1]}\b", sql)
    table = alias[1] if alias else match[1]
    return table in LARGE and not is_partial(connection, match[2])


def is_partial(connection: sqlite3.Connection, index: str | None) -> bool:
    """Return whether an index holds chosen rows only."""
    found = connection.execute("SELECT sql FROM sqlite_master WHERE name = ?", (index,)).fetchone()
    return found is not None and found[0] is not None and "WHERE" in found[0]


def test_every_statement_is_used_and_every_used_one_exists() -> None:
    """By its name, as a word in quotes, somewhere in the source."""
    text = "\n".join(path.read_text() for path in sorted(SOURCES.rglob("*.py")))
    words = set(re.findall(r'"([a-z_]+)"', text))
    assert sorted(STATEMENTS.keys() - words) == []
    calls = r'tx\.(?:one|all|value|run|run_many|add|add_many)\(\s*(?:\w+,\s*)?"(\w+)"'
    called = set(re.findall(calls, text))
    assert sorted(called - STATEMENTS.keys()) == []
    assert len(called) > 50, "the pattern still finds the calls"


def test_statements_are_read_from_files() -> None:
    """A header names a statement and says what it is for; other comments are left out."""
    text = "-- nothing yet\n\n-- first: what it is for\nSELECT 1;\n-- second: more\nSELECT\n  2;\n"
    found = parse_statements(text)
    assert [(name, one.purpose, one.sql) for name, one in found] == [
        ("first", "what it is for", "SELECT 1"),
        ("second", "more", "SELECT\n  2"),
    ]


def test_no_header_is_overlooked() -> None:
    """As many statements as semicolons at the end of a line; none swallowed by another."""
    folder = SOURCES / "store" / "queries"
    ends = sum(
        line.rstrip().endswith(";")
        for path in folder.glob("*.sql")
        for line in path.read_text().splitlines()
    )
    assert ends == len(STATEMENTS)
