"""Filters on keys of JSON attributes, run on real databases and compared with a plain model."""

from __future__ import annotations

import fnmatch
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.databases import Cluster

from jobtasks.core.errors import Invalid
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.core.subproperties import ORDERED
from jobtasks.store.dialect import composed
from jobtasks.store.listing import Scope, page_statement
from jobtasks.store.postgres_link import Link, connect

TASKS = RESOURCES["job_tasks"]


OTHERS = ", ".join(
    f"{0 if row.words else 'NULL'} AS {row.column}"
    for row in TASKS.attributes.values()
    if row.column and row.name not in ("parameters", "command")
)
"""The other columns of a task, empty; the first of its states."""


def holds(condition: list[Any], parameters: dict[str, Any], command: Any = None) -> bool:
    """Return whether the statement's condition holds for one task."""
    query = parse_query(TASKS, {"filters": json.dumps([condition])}, 1000)
    sql, values = page_statement(query, Scope())
    where = sql[sql.index("WHERE") : sql.index("ORDER")]
    row = f"SELECT :parameters AS parameters, :command AS command, {OTHERS}"
    task = {
        "parameters": json.dumps(parameters, ensure_ascii=False),
        "command": command and json.dumps(command),
    }
    connection = sqlite3.connect(":memory:")
    found = connection.execute(f"SELECT 1 FROM ({row}) {where}", {**values, **task}).fetchone()
    connection.close()
    if ZERO not in json.dumps([condition, parameters, command]):
        typed = row.replace(":parameters", "CAST(:parameters AS TEXT)")
        typed = typed.replace(":command", "CAST(:command AS TEXT)")
        asked = composed(f"SELECT 1 FROM ({typed}) AS task {where}")
        other = LINKS[-1].execute(asked, {**values, **task}).fetchone()
        assert (other is None) == (found is None), "the databases differ"
    return found is not None


LINKS: list[Link] = []
"""The PostgreSQL that is asked the same as SQLite."""
ZERO = "\\u0000"
"""The character that PostgreSQL cannot keep."""


@pytest.fixture(scope="module", autouse=True)
def link(postgres: Cluster) -> Iterator[None]:
    """Have a PostgreSQL beside SQLite."""
    with connect(postgres.new_database(), pooled=False) as found:
        LINKS.append(found)
        yield


def same(value: Any, wanted: Any) -> bool:
    """Return whether two JSON values are equal: true is not 1."""
    return value == wanted and isinstance(value, bool) == isinstance(wanted, bool)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def comparable(value: Any, wanted: Any) -> bool:
    return (isinstance(value, str) and isinstance(wanted, str)) or (
        is_number(value) and is_number(wanted)
    )


MISSING = object()
MODEL: dict[str, Callable[[Any, Any], bool]] = {
    "=": same,
    "!=": lambda value, wanted: not same(value, wanted),
    "<": lambda value, wanted: comparable(value, wanted) and value < wanted,
    "<=": lambda value, wanted: comparable(value, wanted) and value <= wanted,
    ">": lambda value, wanted: comparable(value, wanted) and value > wanted,
    ">=": lambda value, wanted: comparable(value, wanted) and value >= wanted,
    "in": lambda value, wanted: any(same(value, one) for one in wanted),
    "not in": lambda value, wanted: not any(same(value, one) for one in wanted),
    "exists": lambda value, wanted: (value is not MISSING) == wanted,
    "contains": lambda value, wanted: (
        same(value, wanted) or (isinstance(value, list) and any(same(one, wanted) for one in value))
    ),
    "like": lambda value, wanted: (
        isinstance(value, str) and fnmatch.fnmatchcase(value, wanted.replace("%", "*"))
    ),
}

TEXT = st.text(st.sampled_from("ab01\".\\'[]$ä"), max_size=2)
SCALAR = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.5, 1.0, 1e30]) | TEXT
VALUE = SCALAR | st.lists(SCALAR, max_size=3) | st.dictionaries(TEXT, SCALAR, max_size=2)
OPERAND = {
    "in": st.lists(SCALAR, max_size=3),
    "not in": st.lists(SCALAR, max_size=3),
    "exists": st.booleans(),
    "like": st.text(st.sampled_from("ab%"), max_size=3),
}


@pytest.mark.rule("R41")
@pytest.mark.parametrize("operator", MODEL)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_key_is_compared_as_json(operator: str, data: st.DataObject) -> None:
    """By type and value; what is not there equals nothing; any text may be a key."""
    parameters = data.draw(st.dictionaries(TEXT, VALUE, max_size=3))
    key = data.draw(st.sampled_from([*parameters, "a", "absent"]))
    operand = data.draw(OPERAND.get(operator, SCALAR))
    condition = [f"parameters.{key}", operator, operand]
    if operator in ORDERED and (operand is None or isinstance(operand, bool)):
        with pytest.raises(Invalid):
            holds(condition, parameters)
        return
    expected = MODEL[operator](parameters.get(key, MISSING), operand)
    assert holds(condition, parameters) == expected, (condition, parameters)


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        (["parameters.in put", "=", "a.fa"], True),
        (["parameters.n", "=", 1.0], True),
        (["parameters.n", "=", "1"], False),
        (["parameters.n", "!=", "1"], True),
        (["parameters.flag", "=", 1], False),
        (["parameters.nothing", "=", None], True),
        (["parameters.absent", "=", None], False),
        (["parameters.absent", "!=", None], True),
        (["parameters.dotted.name", "exists", True], True),
        (["parameters.<dotted.name>", "=", 2], True),
        (["parameters", "exists", "nothing"], True),
        (["parameters", "exists", "absent"], False),
        (["parameters.list", "contains", "b"], True),
        (["parameters.list", "contains", 3], False),
        (["parameters.list", "contains", '["b"]'], False),
        (["parameters.in put", "ilike", "A.%"], True),
        (["parameters.n", "like", "1"], False),
        ([["parameters.absent", "parameters.n"], "=", 1], True),
        ([["output", "parameters.n"], "=", "1"], False),
        (["command", "contains", "-v"], True),
        (["command", "contains", "v"], False),
        (["command", "contains", 1], False),
        (["any", "@@", "FASTA a.fa"], False),
        (["any", "@@", "A.FA dotted"], True),
        (["any", "@@", "a%fa"], False),
    ],
)
def test_examples(condition: list[Any], expected: bool) -> None:
    """What users ask: numbers are numbers, null is there, lists contain."""
    parameters = {
        "in put": "a.fa",
        "n": 1,
        "flag": True,
        "nothing": None,
        "dotted.name": 2,
        "list": ["a", "b", ["c"]],
    }
    assert holds(condition, parameters, ["run", "-v"]) == expected


@pytest.mark.rule("R41")
def test_what_is_null_contains_nothing() -> None:
    """A task without a command of its own."""
    assert not holds(["command", "contains", "run"], {}, None)
