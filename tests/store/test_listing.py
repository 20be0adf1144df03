"""Statements of list calls, run on real databases and compared with a plain model."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobtasks.core.filters import parse_query
from jobtasks.core.resources import RESOURCES
from jobtasks.store.dialect import composed
from jobtasks.store.listing import (
    Scope,
    count_statement,
    named_job,
    page_statement,
    rows_statement,
)
from jobtasks.store.postgres_link import Link, connect
from jobtasks.store.records import TaskRecord
from jobtasks.store.statements import load_migrations

TASKS = RESOURCES["job_tasks"]
OUTPUTS = [None, "", "abc", "ABC", "a%c", "a*c", "[a]", "äbc", "a\\b", "zzz"]
ALL = Scope()
JOB = "zzzzz-8i9sb-00000000000000"


class Postgres:
    """A PostgreSQL database that is asked as SQLite is."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def execute(self, sql: str, values: Any = ()) -> Any:
        """Run a statement in the form for PostgreSQL."""
        return self._link.execute(composed(sql), values)


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Three jobs; the second has a task per output, a latent and a dead batch."""
    if request.param == "sqlite":
        connection = sqlite3.connect(":memory:")
        for _, script in load_migrations():
            connection.executescript(script)
        fill(connection)
        yield connection
        connection.close()
        return
    address = request.getfixturevalue("postgres").new_database()
    with connect(address, pooled=False) as link:
        fill(Postgres(link))
        yield Postgres(link)


SQLITE = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
"""For tests that look at SQLite's plans."""


def fill(connection: Any) -> None:
    for job in (1, 2, 3):
        connection.execute(
            "INSERT INTO job (id, uuid, owner_uuid, created_at, modified_at, state,"
            " managed) VALUES (?, ?, ?, ?, ?, 'Running', 0)",
            (job, f"{JOB}{job}", f"zzzzz-tpzed-00000000000000{job}", job, job),
        )
        connection.execute("INSERT INTO tally (job_id) VALUES (?)", (job,))
        for batch, state in enumerate((0, 1, 2)):
            connection.execute(
                "INSERT INTO batch (id, job_id, sequence, shape_id, state, size, ready, head,"
                " creator_task_id) VALUES (?, ?, 0, 1, ?, 0, 0, 0, ?)",
                (job * 10 + batch, job, state, None if state == 1 else job << 32),
            )
        for q in range(20):
            connection.execute(
                "INSERT INTO task (id, uuid, batch_id, sequence, state, output, success, progress,"
                " created_at, modified_at, started_at) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                (
                    job << 32 | q,
                    f"zzzzz-ot0gb-{job:05d}{q:010d}",
                    job * 10 + (1 if q < 15 else q % 2 * 2),
                    q % 3,
                    q % 4,
                    OUTPUTS[q % len(OUTPUTS)],
                    (None, 0, 1)[q % 3],
                    q / 20,
                    1_000_000 * q,
                    1_000_000 * (q // 4),
                    None if q % 5 else q,
                ),
            )
        connection.execute(
            "INSERT INTO level (job_id, sequence, todo, running, done, failed)"
            " SELECT job_id, sequence, count(*) FILTER (WHERE state = 0),"
            " count(*) FILTER (WHERE state = 1), count(*) FILTER (WHERE state = 2),"
            " count(*) FILTER (WHERE state = 3) FROM visible_task WHERE job_id = ?"
            " GROUP BY job_id, sequence",
            (job,),
        )
        connection.execute(
            "UPDATE tally SET (todo, running, done, failed) = (SELECT sum(todo), sum(running),"
            " sum(done), sum(failed) FROM level AS l WHERE l.job_id = tally.job_id)"
        )


def listed(database: Any, scope: Scope = ALL, **parameters: Any) -> list[int]:
    """Return the qsequences of the page's rows of the second job, or of all."""
    query = parse_query(TASKS, parameters, 1000)
    if named_job(query) == JOB + "2":
        scope = scope._replace(job_id=2)
    statement = page_statement(query, scope)
    ids = [row[0] for row in database.execute(statement.sql, statement.values)]
    counting = count_statement(query, scope)
    total = database.execute(counting.sql, counting.values).fetchone()[0]
    if "limit" not in parameters and "offset" not in parameters:
        assert total == len(ids)
    return [row & 0xFFFFFFFF for row in ids]


MINE = ["job_uuid", "=", JOB + "2"]
VISIBLE = [q for q in range(20) if q < 15 or q % 2 == 0]


@pytest.mark.rule("R4")
def test_children_of_a_dead_attempt_are_in_no_list(database: Any) -> None:
    """Rows of a dead batch exist for no reader, though they were not swept yet."""
    assert listed(database, filters=[MINE], order="qsequence") == VISIBLE


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (["output", "=", "abc"], lambda o: o == "abc"),
        (["output", "!=", "abc"], lambda o: o != "abc"),
        (["output", "=", None], lambda o: o is None),
        (["output", "!=", None], lambda o: o is not None),
        (["output", "<", "abc"], lambda o: o is not None and o < "abc"),
        (["output", ">=", "abc"], lambda o: o is not None and o >= "abc"),
        (["output", "in", ["abc", "zzz", None]], lambda o: o in ("abc", "zzz")),
        (["output", "in", []], lambda o: False),
        (["output", "not in", ["abc"]], lambda o: o != "abc"),
        (["output", "NOT IN", ["abc", None]], lambda o: False),
        (["output", "not in", []], lambda o: True),
        (["output", "like", "a%c"], lambda o: o is not None and re.fullmatch("a.*c", o)),
        (["output", "like", "a\\%c"], lambda o: o == "a%c"),
        (["output", "like", "a*c"], lambda o: o == "a*c"),
        (["output", "like", "[a]"], lambda o: o == "[a]"),
        (["output", "like", "_bc"], lambda o: o in ("abc", "äbc")),
        (["output", "like", "a\\\\b"], lambda o: o == "a\\b"),
        (["output", "ilike", "a_C"], lambda o: o in ("abc", "ABC", "a%c", "a*c")),
        (["output", "ilike", "a\\_c"], lambda o: False),
    ],
)
def test_text_operators(database: Any, test: list[Any], expected: Any) -> None:
    """Each operator means what it means in Arvados, null included."""
    wanted = [q for q in VISIBLE if expected(OUTPUTS[q % len(OUTPUTS)])]
    assert listed(database, filters=[MINE, test], order="qsequence") == wanted


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (["success", "=", True], lambda q: q % 3 == 2),
        (["success", "!=", True], lambda q: q % 3 == 1),
        (["success", "!=", "true"], lambda q: q % 3 != 2),
        (["success", "=", None], lambda q: q % 3 == 0),
        (["success", "in", [True, False]], lambda q: q % 3 > 0),
        (["sequence", ">", 0], lambda q: q % 3 > 0),
        (["sequence", ">", "0"], lambda q: q % 3 > 0),
        (["qsequence", "in", [1, "2", 3]], lambda q: q in (1, 2, 3)),
        (["started_at", "=", None], lambda q: q % 5),
        (["created_at", "=", "1970-01-01T00:00:03.000000000Z"], lambda q: q == 3),
        (["created_at", "<", "1970-01-01 00:00:03"], lambda q: q < 3),
        (["updated_at", ">=", "1970-01-01T00:00:03Z"], lambda q: q >= 12),
        (["state", "=", "running"], lambda q: q % 4 == 1),
        (["state", "!=", "running"], lambda q: q % 4 != 1),
        (["state", "in", ["failed", "complete"]], lambda q: q % 4 > 1),
        (["state", "like", "%ing"], lambda q: q % 4 < 2),
        (["state", "ilike", "FAIL__"], lambda q: q % 4 == 3),
        (["state", ">", "failed"], lambda q: q % 4 < 2),
        (["state", "=", None], lambda q: False),
        (["state", "!=", None], lambda q: True),
        (["uuid", "is_a", "arvados#jobTask"], lambda q: True),
        (["uuid", "is_a", ["arvados#job", "nothing"]], lambda q: False),
        (["job_uuid", "is_a", ["arvados#job"]], lambda q: True),
        ([["output", "uuid"], "=", "abc"], lambda q: q % 10 == 2),
        (["any", "like", "%zzz%"], lambda q: True),
        (["any", "like", "%zz"], lambda q: q % 10 == 9),
    ],
)
def test_other_classes(database: Any, test: list[Any], expected: Any) -> None:
    """Booleans, integers, times, words, kinds and several attributes at once."""
    wanted = [q for q in VISIBLE if expected(q)]
    assert listed(database, filters=[MINE, test], order="qsequence") == wanted


def test_order_puts_null_last_and_breaks_ties_by_modification_and_uuid(
    database: Any,
) -> None:
    """Null is the largest value; without an order the newest arrivals come first."""
    found = listed(database, filters=[MINE], order=["started_at"])
    assert found[:4] == [0, 5, 10, 18][:3] + found[3:4]
    assert found[3:] == sorted(found[3:], key=lambda q: (-(q // 4), q))
    assert listed(database, filters=[MINE], order="started_at desc")[-3:] == [10, 5, 0]
    assert listed(database, filters=[MINE]) == VISIBLE[::-1]
    assert listed(database, filters=[MINE], order="sequence desc, job_tasks.qsequence DESC") == (
        sorted(VISIBLE, key=lambda q: (-(q % 3), -q))
    )


def test_pages_and_counts(database: Any) -> None:
    """Pages by offset show every row once; the count ignores them."""
    pages = [
        listed(database, filters=[MINE], order="qsequence", limit=5, offset=offset)
        for offset in (0, 5, 10, 15, 20)
    ]
    assert [q for page in pages for q in page] == VISIBLE
    query = parse_query(TASKS, {"filters": [MINE], "limit": 1}, 1000)
    counting = count_statement(query, Scope(job_id=2))
    assert database.execute(counting.sql, counting.values).fetchone() == (len(VISIBLE),)


def test_scope_hides_what_is_not_the_callers(database: Any) -> None:
    """An owner sees his jobs' tasks, an attempt its job's; neither sees others by naming them."""
    assert len(listed(database)) == 3 * len(VISIBLE)
    assert len(listed(database, Scope(owner_uuid="zzzzz-tpzed-000000000000002"))) == len(VISIBLE)
    assert len(listed(database, Scope(job_id=1))) == len(VISIBLE)
    owner = Scope(owner_uuid="zzzzz-tpzed-000000000000001")
    assert listed(database, owner, filters=[MINE]) == []


def test_distinct_shows_equal_rows_once(database: Any) -> None:
    """Rows are equal when what is selected is."""
    found = listed(
        database, filters=[MINE], select=["sequence"], distinct=True, order="sequence desc"
    )
    assert [q % 3 for q in found] == [2, 1, 0]


def test_wide_columns_are_read_only_when_selected(database: Any) -> None:
    """A select without output reads none; the record's other fields are whole."""
    narrow = rows_statement(parse_query(TASKS, {"select": ["uuid"]}, 1000), [2 << 32 | 2])
    record = TaskRecord(*database.execute(narrow.sql, narrow.values).fetchone())
    assert (record.output, record.uuid, record.job_uuid) == (
        None,
        "zzzzz-ot0gb-000020000000002",
        JOB + "2",
    )
    whole = rows_statement(parse_query(TASKS, {}, 1000), [2 << 32 | 2])
    assert TaskRecord(*database.execute(whole.sql, whole.values).fetchone()).output == "abc"


def test_children_of_named_creators(database: Any) -> None:
    """Of one or of several; the task of qsequence 0 created the latent batch here."""
    uuid = "zzzzz-ot0gb-000020000000000"
    children = [q for q in VISIBLE if q >= 15]
    for test in (["=", uuid], ["in", [uuid, "zzzzz-ot0gb-000010000000000", "nothing"]]):
        filters = [MINE, ["created_by_job_task_uuid", *test]]
        assert listed(database, filters=filters, order="qsequence") == children
    filters = [MINE, ["created_by_job_task_uuid", "=", None]]
    assert listed(database, filters=filters, order="qsequence") == list(range(15))


def plan(database: Any, **parameters: Any) -> list[str]:
    query = parse_query(TASKS, parameters, 1000)
    statement = page_statement(query, Scope(job_id=2))
    rows = database.execute("EXPLAIN QUERY PLAN " + statement.sql, statement.values)
    return [row[3] for row in rows]


@SQLITE
def test_a_page_of_one_jobs_tasks_reads_only_its_page(database: Any) -> None:
    """In order of arrival: a range of the primary key, nothing sorted, no wide table joined."""
    for order in ("qsequence", "qsequence desc"):
        steps = plan(database, filters=[MINE], order=order, limit=10)
        shown = "\n".join(steps)
        assert "SEARCH t USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)" in steps, shown
        assert "TEMP B-TREE" not in shown
        assert "tail" not in shown


@SQLITE
@pytest.mark.parametrize(
    ("filters", "order", "access"),
    [
        ([["qsequence", ">", 7]], "qsequence", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ([["qsequence", "<=", 7]], "qsequence desc", "INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ([["success", "=", False]], "qsequence", "task_denied (<expr>=?)"),
        ([["success", "=", False], ["qsequence", ">", 7]], "qsequence", "task_denied"),
        ([["state", "=", "failed"]], "qsequence", "task_unwell (<expr>=? AND state=?)"),
        ([["sequence", "=", 1]], "qsequence", "task_level (<expr>=? AND sequence=?)"),
        ([], ["sequence", "qsequence"], "task_level (<expr>=?)"),
        ([["success", "=", None]], ["sequence", "qsequence"], "task_level (<expr>=?)"),
    ],
)
def test_pages_of_a_large_job_start_where_they_begin(
    database: Any, filters: list[Any], order: Any, access: str
) -> None:
    """The next page after a qsequence, a level, what failed: by an index, nothing sorted."""
    steps = plan(database, filters=[MINE, *filters], order=order, limit=10)
    shown = "\n".join(steps)
    assert any(step.startswith("SEARCH t USING") and access in step for step in steps), shown
    assert "TEMP B-TREE" not in shown


@SQLITE
@pytest.mark.parametrize(
    "test", [["failed_count", ">", 0], ["failed_count", ">=", 2], ["failed_count", "=", 1]]
)
def test_what_failed_once_is_looked_for_among_what_failed(database: Any, test: list[Any]) -> None:
    """By the index that holds nothing else; these few are sorted."""
    steps = plan(database, filters=[MINE, test], order="qsequence", limit=10)
    access = "SEARCH t USING INDEX task_unwell (<expr>=? AND state>?)"
    assert any(step.startswith(access) for step in steps), steps


@SQLITE
def test_without_an_order_nothing_is_sorted(database: Any) -> None:
    """Also of all jobs' tasks together."""
    statement = page_statement(parse_query(TASKS, {}, 1000), Scope())
    rows = database.execute("EXPLAIN QUERY PLAN " + statement.sql, statement.values)
    assert "TEMP B-TREE" not in "\n".join(row[3] for row in rows)


@SQLITE
def test_a_task_is_found_by_its_uuid(database: Any) -> None:
    """Also by a list of them, through the unique index."""
    query = parse_query(TASKS, {"filters": [["uuid", "in", ["a", "b"]]]}, 1000)
    statement = page_statement(query, Scope())
    rows = database.execute("EXPLAIN QUERY PLAN " + statement.sql, statement.values)
    assert any("SEARCH t USING INDEX sqlite_autoindex_task_1" in row[3] for row in rows)


@SQLITE
def test_children_are_found_by_their_creator(database: Any) -> None:
    """crunch-job lists children of many creators; no table of tasks is scanned."""
    filters = [["created_by_job_task_uuid", "in", ["a", "b"]]]
    query = parse_query(TASKS, {"filters": filters}, 1000)
    statement = page_statement(query, Scope())
    rows = database.execute("EXPLAIN QUERY PLAN " + statement.sql, statement.values)
    steps = [row[3] for row in rows]
    assert not any(step.startswith("SCAN t") for step in steps), steps


TEXTS = st.text(alphabet="aAbcä%_*?[]\\", max_size=6)


@settings(max_examples=300, deadline=None)
@given(pattern=TEXTS, value=TEXTS)
def test_like_matches_as_its_definition_says(pattern: str, value: str) -> None:
    """% is any run, _ any character, a backslash takes the sign for itself; case counts."""
    pieces = re.findall(r"\\.|.", pattern, re.DOTALL)
    signs = {"%": ".*", "_": "."}
    regex = "".join(
        re.escape(piece[1:]) if len(piece) == 2 else signs.get(piece, re.escape(piece))
        for piece in pieces
    )
    connection = sqlite3.connect(":memory:")
    query = parse_query(TASKS, {"filters": json.dumps([["output", "like", pattern]])}, 1000)
    sql, values = page_statement(query, Scope())
    where = sql[sql.index("WHERE") : sql.index("ORDER")]
    found = connection.execute(
        f"SELECT 1 FROM (SELECT :text AS output) {where}",
        {
            **values,
            "text": value,
        },
    ).fetchone()
    connection.close()
    assert (found is not None) == (re.fullmatch(regex, value, re.DOTALL) is not None)
