"""Filters decided on records as the store decides them on rows."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtasks.core import matching
from jobtasks.core.errors import Invalid
from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.store.listing import Scope, page_statement

LOGS = RESOURCES["logs"]
JOB = "zzzzz-8i9sb-000000000000001"
TASK = "zzzzz-ot0gb-000000000000001"


class Row(NamedTuple):
    id: int
    object_uuid: str | None
    event_type: str | None
    event_at: int


TEXTS = st.sampled_from(["update", "create", "Update", "stderr", "", "up%", "u_date", JOB, TASK])
TEXT_TERMS = st.tuples(
    st.sampled_from(["object_uuid", "event_type"]),
    st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "like", "ilike"]),
    TEXTS,
)
NULL_TERMS = st.tuples(
    st.sampled_from(["object_uuid", "event_type"]), st.sampled_from(["=", "!="]), st.none()
)
SET_TERMS = st.tuples(
    st.sampled_from(["object_uuid", "event_type"]),
    st.sampled_from(["in", "not in"]),
    st.lists(st.one_of(TEXTS, st.none()), max_size=3),
)
NUMBER_TERMS = st.tuples(
    st.just("id"), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(0, 5)
)
KIND_TERMS = st.tuples(
    st.just("object_uuid"), st.just("is_a"), st.sampled_from(["arvados#job", "arvados#jobTask"])
)
TERMS = st.one_of(TEXT_TERMS, NULL_TERMS, SET_TERMS, NUMBER_TERMS, KIND_TERMS)
OBJECTS = st.one_of(st.none(), st.just(JOB), st.just(TASK), st.just(""))
ROWS = st.builds(Row, st.integers(0, 5), OBJECTS, st.one_of(st.none(), TEXTS), st.integers(0, 9))


@settings(max_examples=500, deadline=None)
@given(terms=st.lists(TERMS, max_size=3), row=ROWS)
def test_a_record_matches_as_its_row_does(terms: list[tuple[str, str, Any]], row: Row) -> None:
    """Every operator, null and several conditions: the same answer from both."""
    query = parse_query(LOGS, {"filters": [list(term) for term in terms]}, 100)
    sql, values = page_statement(query, Scope())
    where = sql[sql.index("WHERE") : sql.index("ORDER")] if "WHERE" in sql else ""
    connection = sqlite3.connect(":memory:")
    table = "SELECT :id AS id, :event_id AS event_id, :o AS object_uuid, :t AS event_type"
    bound = {**values, "id": row.id, "event_id": 1 << 40, "o": row.object_uuid, "t": row.event_type}
    found = connection.execute(f"SELECT 1 FROM ({table}) {where}", bound).fetchone()
    connection.close()
    assert matching.matches(query.filters, row) is (found is not None)


def test_what_only_the_store_decides_is_refused() -> None:
    """A stream says so at once."""
    matching.check(parse_query(LOGS, {"filters": [["event_type", "like", "up%"]]}, 100).filters)
    with pytest.raises(Invalid):
        matching.check(
            parse_query(RESOURCES["jobs"], {"filters": [["running", "=", True]]}, 100).filters
        )
