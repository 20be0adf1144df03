"""PostgreSQL accepts every statement and has an index for it; its schema is as new as SQLite's."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from tests.databases import Cluster
from tests.store.test_statements import LARGE, WHOLE

from jobtasks.store.checks import load_checks, load_looks
from jobtasks.store.dialect import load_postgres_statements, spelled
from jobtasks.store.statements import load_migrations, load_statements

STATEMENTS = load_postgres_statements()
BESIDE = {**load_checks(), **load_looks()}
VALUES = re.compile(r"(?<![:\w]):([a-z]\w*)")
NAMED = re.compile(r"%\((\w+)\)s")
BEGINNING = 13
"""The migration of PostgreSQL that stands for those of SQLite up to it."""
SETTINGS = (
    # A plan for any values; a table is read from end to end only where no index serves.
    *("plan_cache_mode = force_generic_plan", "enable_seqscan = off", "enable_bitmapscan = off"),
    *("enable_mergejoin = off", "enable_hashjoin = off"),
)


def lacking(numbers: set[int], postgres: set[int]) -> list[str]:
    """Return what is wrong with the numbers of PostgreSQL's migrations, beside SQLite's."""
    meant = {number for number in numbers if number > BEGINNING} | {BEGINNING}
    return [
        *(
            f"SQLite's migration {number:04} has no twin in migrations/postgres"
            for number in sorted(meant - postgres)
        ),
        *(
            f"PostgreSQL's migration {number:04} has no twin in migrations"
            for number in sorted(postgres - meant)
        ),
    ]


def test_each_migration_of_sqlite_has_its_twin() -> None:
    """Of the same number: both databases come to the same schema."""
    numbers, twins = ({number for number, _ in load_migrations(one)} for one in ("", "postgres"))
    assert lacking(numbers, twins) == []
    assert lacking({*numbers, 99}, twins) == [
        "SQLite's migration 0099 has no twin in migrations/postgres"
    ]
    assert lacking(numbers, {*twins, 99}) == [
        "PostgreSQL's migration 0099 has no twin in migrations"
    ]


@pytest.fixture(scope="module")
def link(postgres: Cluster) -> Iterator[psycopg.Connection]:
    """An empty database with the schema."""
    with psycopg.connect(postgres.new_database(), autocommit=True) as link:
        for setting in SETTINGS:
            link.execute(f"SET {setting}".encode())
        yield link


@pytest.fixture(scope="module")
def partial(link: psycopg.Connection) -> set[str]:
    """Names of indices that hold chosen rows only."""
    found = link.execute(
        "SELECT c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid"
        " WHERE i.indpred IS NOT NULL"
    )
    return {name for (name,) in found}


def test_tables_have_the_same_columns(link: psycopg.Connection) -> None:
    """Those of SQLite; PostgreSQL may have some of its own besides."""
    connection = sqlite3.connect(":memory:")
    for _, script in load_migrations():
        connection.executescript(script)
    query = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    for (table,) in connection.execute(query).fetchall():
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        found = link.execute(
            "SELECT column_name FROM information_schema.columns WHERE table_name = %s", (table,)
        )
        assert set(columns) <= {name for (name,) in found}, table
    connection.close()


def numbered(sql: str) -> tuple[str, int]:
    """Return a statement as PREPARE takes it, and how many values it has."""
    names = list(dict.fromkeys(NAMED.findall(sql)))
    sql = NAMED.sub(lambda found: f"${names.index(found[1]) + 1}", sql)
    first, *others = sql.split("%s")
    for place, text in enumerate(others, len(names) + 1):
        first += f"${place}{text}"
    return first.replace("%%", "%"), len(names) + len(others)


def plan(link: psycopg.Connection, sql: str) -> dict[str, Any]:
    """Return how PostgreSQL means to run a statement."""
    text, count = numbered(sql)
    values = f"({', '.join(['NULL'] * count)})" if count else ""
    link.execute(f"PREPARE it AS {text}".encode())
    try:
        row = link.execute(f"EXPLAIN (FORMAT JSON) EXECUTE it{values}".encode()).fetchone()
    finally:
        link.execute("DEALLOCATE it")
    assert row is not None
    found: dict[str, Any] = row[0][0]["Plan"]
    return found


def whole_tables(step: dict[str, Any], partial: set[str], *, first: bool = False) -> list[str]:
    """Return which large tables are read from end to end; `first`: the first few rows alone."""
    found = []
    index = step.get("Index Name")
    is_scan = step["Node Type"].endswith("Scan")
    if is_scan and step.get("Relation Name") in LARGE and "Index Cond" not in step:
        is_few = index is not None and (first or index in partial)
        found += [] if is_few else [f"{step['Relation Name']}: {step['Node Type']} {index}"]
    for below in step.get("Plans", []):
        found += whole_tables(below, partial, first=step["Node Type"] == "Limit")
    return found


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_is_accepted_and_reads_no_whole_table(
    link: psycopg.Connection, partial: set[str], name: str
) -> None:
    """Its tables and columns exist and types fit; what grows with use is searched by an index."""
    found = whole_tables(plan(link, STATEMENTS[name].sql), partial)
    assert bool(found) == (name in WHOLE), found


@pytest.mark.parametrize("name", BESIDE)
def test_what_must_not_exist_can_be_asked_for(link: psycopg.Connection, name: str) -> None:
    """Simulations and `doctor` ask for it on either database."""
    plan(link, spelled(BESIDE[name].sql))


@pytest.mark.parametrize("name", load_statements("postgres"))
def test_a_second_form_takes_the_values_of_the_first(name: str) -> None:
    """Who adds a column to one remembers the other; none is of a statement that is gone."""
    first, second = (load_statements(one)[name].sql for one in ("", "postgres"))
    assert set(VALUES.findall(second)) == set(VALUES.findall(first))
